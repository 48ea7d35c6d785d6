"""`hmtrace layout`: the address space and zones of a machine, drawn."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

from typing import Annotated

import typer

from hmtrace.cli import completion
from hmtrace.cli.options import (
    ColorOption,
    CpusOption,
    ForceOption,
    FormatOption,
    HighmemOption,
    HighmemSizeOption,
    HighpteOption,
    KernelOption,
    MachineOption,
    NrCpusOption,
    OutputOption,
    PaeOption,
    PkmapOption,
    RamOption,
    SplitOption,
    VmallocOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat

EXAMPLES = (
    "hmtrace layout",
    "hmtrace layout --arch arm --ram 2G --split 2g",
    "hmtrace layout --ram 8G --pae --vmalloc 256M",
    "hmtrace layout --arch arm --ram 1G --kernel 4.1 --nr-cpus 2 --no-highmem",
    "hmtrace layout --machine list",
    "hmtrace layout --machine turris-omnia-2g --split 2g",
    "hmtrace layout --arch mips32 --page-size 16K --format json",
)


def layout(
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            metavar="ARCH",
            help="Architecture: i386, arm, arc, csky, microblaze, mips32, powerpc32, sparc32, "
            "xtensa, x86_64; i386 by default.",
            autocompletion=completion.arches,
            show_default=False,
        ),
    ] = None,
    split: SplitOption = None,
    ram: RamOption = None,
    pae: PaeOption = None,
    pkmap: PkmapOption = None,
    vmalloc: VmallocOption = None,
    cpus: CpusOption = None,
    nr_cpus: NrCpusOption = None,
    highmem: HighmemOption = None,
    highmem_size: HighmemSizeOption = None,
    highpte: HighpteOption = None,
    kernel: KernelOption = None,
    page_size: Annotated[
        str | None,
        typer.Option(
            "--page-size",
            metavar="SIZE",
            help="Bytes per page, where the architecture has a choice: 4K, 16K.",
            autocompletion=completion.page_sizes,
            show_default=False,
        ),
    ] = None,
    machine: MachineOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Draw the address space and the zones of a machine."""
    target = Output.create(output_format, color, output, force=force, files=[machine])
    from hmtrace.cli.presets import LIST
    from replay.machine.presets import presets

    if machine is not None and str(machine) == LIST:
        from hmtrace.report.presets import preset_table, presets_document

        if target.is_json:
            target.document(presets_document(presets()))
        else:
            target.table(*preset_table(presets()))
        return
    from hmtrace.cli.machines import default_machine, target_machine
    from replay.machine.layout import layout_of

    wanted = target_machine(
        default_machine(arch, machine),
        None,
        split=split,
        ram=ram,
        pae=pae,
        pkmap=pkmap,
        vmalloc=vmalloc,
        cpus=cpus,
        nr_cpus=nr_cpus,
        highmem=highmem,
        highmem_size=highmem_size,
        highpte=highpte,
        kernel=kernel,
        page_size=page_size,
    )
    derived = layout_of(wanted)
    if target.is_json:
        from hmtrace.report.document import layout_document, schema

        target.document({**schema("layout"), **layout_document(wanted, derived)})
        return
    from hmtrace.report.machine import layout_renderables

    target.table(*layout_renderables(wanted, derived))
