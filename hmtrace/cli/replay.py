"""`hmtrace replay`: the same workload on another machine."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from hmtrace.cli.captures import calibration_of, describe, read, warn_of_loss
from hmtrace.cli.options import (
    CalibrateOption,
    CaptureArgument,
    ColorOption,
    CostsOption,
    CpusOption,
    ForceOption,
    FormatOption,
    MachineOption,
    OutputOption,
    PaeOption,
    PkmapOption,
    RamOption,
    SplitOption,
    VmallocOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat


class Placement(StrEnum):
    """Value of ``--placement``: where the frames of the trace lie on the other machine."""

    CLASS = "class"
    SAME_PFN = "same-pfn"


class Timing(StrEnum):
    """Value of ``--timing``: whether a wait delays what its task does next."""

    CLOSED = "closed"
    FIXED = "fixed"


EXAMPLES = (
    "hmtrace replay captures/board-7 --split 2g",
    "hmtrace replay captures/board-7 --ram 4G --pae --vmalloc 256M",
    "hmtrace replay captures/board-7 --pkmap 128 --cpus 4 --timing fixed",
    "hmtrace replay captures/board-7 --machine turris-omnia-2g",
    "hmtrace replay captures/board-7 --machine my-board.toml --format json",
)


def replay(
    capture: CaptureArgument,
    split: SplitOption = None,
    ram: RamOption = None,
    pae: PaeOption = None,
    pkmap: PkmapOption = None,
    vmalloc: VmallocOption = None,
    cpus: CpusOption = None,
    machine: MachineOption = None,
    costs: CostsOption = None,
    calibrate: CalibrateOption = False,
    placement: Annotated[
        Placement,
        typer.Option(
            "--placement", help="class: highmem pages stay high where there is room; or same-pfn."
        ),
    ] = Placement.CLASS,
    timing: Annotated[
        Timing,
        typer.Option("--timing", help="closed: a wait delays its task; fixed: captured times."),
    ] = Timing.CLOSED,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Replay a workload on another machine, beside the captured one."""
    target = Output.create(output_format, color, output, force=force, captures=[capture])
    from hmtrace.cli.machines import captured_machine, target_machine
    from hmtrace.cli.progress import ProgressBar
    from replay.whatif.run import what_if

    opened = read(capture)
    captured, assumptions = captured_machine(opened, costs)
    wanted = target_machine(
        captured,
        machine,
        split=split,
        ram=ram,
        pae=pae,
        pkmap=pkmap,
        vmalloc=vmalloc,
        cpus=cpus,
    )
    calibration = calibration_of(opened, captured) if calibrate else None
    if calibration is not None:
        captured = replace(captured, costs=calibration.costs)
        if wanted.arch == captured.arch:
            wanted = replace(wanted, costs=calibration.costs)
    with ProgressBar("replaying") as progress:
        baseline, outcome = what_if(
            opened.events,
            captured,
            wanted,
            values=opened.facts.snapshot(),
            lost=opened.lost,
            clock_is_ns=opened.clock_is_ns,
            placement=placement.value,
            timing=timing.value,
            progress=progress,
        )
    if calibration is not None:
        outcome = replace(outcome, caveats=(*outcome.caveats, *calibration.caveats))
    source = describe(opened)
    if target.is_json:
        from hmtrace.report.document import outcome_document, schema, source_document

        warn_of_loss(source)
        document = {**schema("replay"), **source_document(source), **outcome_document(outcome)}
        document |= {"placement": placement.value, "timing": timing.value}
        document |= {"baseline": outcome_document(baseline), "assumptions": list(assumptions)}
        if calibration is not None:
            from replay.cost.calibrate import as_rows

            document["calibration"] = as_rows(calibration)
        target.document(document)
        return
    from hmtrace.report.sidebyside import replay_renderables

    target.table(*replay_renderables(source, baseline, outcome, assumptions, calibration))
