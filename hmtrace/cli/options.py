"""Options that several commands share, as annotations for typer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hmtrace.cli import completion
from hmtrace.cli.output import Color, OutputFormat

CaptureArgument = Annotated[
    str,
    typer.Argument(
        metavar="CAPTURE",
        help="Trace file, capture folder, a file in one, tar archive of one (plain, gz, xz or "
        "zst), a URL of one, or - for stdin; FILE:NAME reads the trace buffer (instance) NAME of a "
        "trace.dat.",
        show_default=False,
    ),
]
CAPTURES = (
    "Captures, as for info; folders of captures, patterns ('boards/*') and URLs stand for all that "
    "is there."
)
FormatOption = Annotated[OutputFormat, typer.Option("--format", help="Form of the result.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the result to FILE.", show_default=False
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page for browsers to FILE, too: one file, without any network.",
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing output file.")]
ColorOption = Annotated[
    Color, typer.Option("--color", help="Colour; NO_COLOR in the environment is honoured by auto.")
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="SPLIT",
        help="User/kernel split: 3g, 3g_opt, 2g, 2g_opt or 1g (others by architecture).",
        autocompletion=completion.splits,
        show_default=False,
    ),
]
RamOption = Annotated[
    str | None, typer.Option("--ram", metavar="SIZE", help="RAM: 512M, 4G.", show_default=False)
]
PaeOption = Annotated[
    bool | None,
    typer.Option("--pae/--no-pae", help="PAE (i386), LPAE (ARM) or its like.", show_default=False),
]
PkmapOption = Annotated[
    int | None,
    typer.Option(
        "--pkmap",
        metavar="N",
        help="Slots of the kmap() pool, a power of 2.",
        autocompletion=completion.pools,
        show_default=False,
    ),
]
VmallocOption = Annotated[
    str | None,
    typer.Option("--vmalloc", metavar="SIZE", help="vmalloc= of the kernel.", show_default=False),
]
CpusOption = Annotated[
    int | None, typer.Option("--cpus", metavar="N", help="Online CPUs.", show_default=False)
]
NrCpusOption = Annotated[
    int | None,
    typer.Option(
        "--nr-cpus",
        metavar="N",
        help="CPUs that the kernel is built for (CONFIG_NR_CPUS): they take room in the fixmap.",
        show_default=False,
    ),
]
HighmemOption = Annotated[
    bool | None,
    typer.Option(
        "--highmem/--no-highmem", help="CONFIG_HIGHMEM of the kernel.", show_default=False
    ),
]
HighmemSizeOption = Annotated[
    str | None,
    typer.Option(
        "--highmem-size",
        metavar="SIZE",
        help="Boot option highmem= of i386: the highmem zone has exactly so much; none: as it "
        "comes.",
        show_default=False,
    ),
]
HighpteOption = Annotated[
    bool | None,
    typer.Option(
        "--highpte/--no-highpte",
        help="CONFIG_HIGHPTE of the kernel (i386, arm): page tables in highmem.",
        show_default=False,
    ),
]
ConvertOption = Annotated[
    list[str] | None,
    typer.Option(
        "--convert",
        metavar="kmap=kmap_local[@SITE]",
        help="kmap() calls, of all call sites or of one, become kmap_local_page(); again for more.",
        show_default=False,
    ),
]
KernelOption = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        "--generation",
        metavar="VERSION",
        help="Version of the kernel, whose rules hold then: 4.19, 5.10, 6.12.",
        autocompletion=completion.generations,
        show_default=False,
    ),
]
MachineOption = Annotated[
    Path | None,
    typer.Option(
        "--machine",
        metavar="PRESET|FILE",
        help="Preset (list: show them), or machine description in TOML; the other options "
        "change it.",
        autocompletion=completion.machines,
        show_default=False,
    ),
]
CalibrateOption = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        help="Take costs from the capture's own entry and return times where it has them.",
    ),
]


class Placement(StrEnum):
    """Value of ``--placement``: where the frames of the trace lie on the other machine."""

    CLASS = "class"
    SAME_PFN = "same-pfn"


class Timing(StrEnum):
    """Value of ``--timing``: whether a wait delays what its task does next."""

    CLOSED = "closed"
    FIXED = "fixed"


PlacementOption = Annotated[
    Placement,
    typer.Option(
        "--placement", help="class: highmem pages stay high where there is room; or same-pfn."
    ),
]
TimingOption = Annotated[
    Timing,
    typer.Option("--timing", help="closed: a wait delays its task; fixed: captured times."),
]
CostsOption = Annotated[
    Path | None,
    typer.Option(
        "--costs",
        metavar="CPU|FILE",
        help="Costs of elementary operations: of a CPU by its name, or in TOML, ns each.",
        autocompletion=completion.costs,
        show_default=False,
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Processes that share the work, at most.",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Have the workers of a dask.distributed scheduler share the work: "
        "tcp://host:8786, or a scheduler file.",
        show_default=False,
    ),
]
