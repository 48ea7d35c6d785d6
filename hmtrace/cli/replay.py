"""`hmtrace replay`: the same workload on another machine."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

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
    HighmemOption,
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

if TYPE_CHECKING:
    from collectors.capture import Capture
    from hmtrace.cli.workloads import Kept, Place
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.whatif.workload import Workload


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
    "hmtrace replay captures/board-7 --kernel 6.12 --no-highmem",
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
    nr_cpus: NrCpusOption = None,
    highmem: HighmemOption = None,
    kernel: KernelOption = None,
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
    target = Output.create(
        output_format, color, output, force=force, captures=[capture], files=[costs, machine]
    )
    from hmtrace.cli.machines import captured_machine, target_machine
    from hmtrace.cli.workloads import Place

    place = None if calibrate else Place.of(capture)
    kept = None if place is None else place.find()
    opened = read(capture) if kept is None else kept.capture
    captured, assumptions = captured_machine(opened, costs)
    if kept is not None and not kept.is_of(captured):
        kept, opened = None, read(capture)
    wanted = target_machine(
        captured,
        machine,
        split=split,
        ram=ram,
        pae=pae,
        pkmap=pkmap,
        vmalloc=vmalloc,
        cpus=cpus,
        nr_cpus=nr_cpus,
        highmem=highmem,
        kernel=kernel,
    )
    calibration = calibration_of(opened, captured) if calibrate else None
    if calibration is not None:
        captured = replace(captured, costs=calibration.costs)
        if wanted.arch == captured.arch:
            wanted = replace(wanted, costs=calibration.costs)
    source = describe(opened, None if kept is None else kept.sha256)
    question = Question(captured, wanted, placement.value, timing.value)
    baseline, outcome = _served(capture, opened, source.sha256, question, place, kept)
    if calibration is not None:
        outcome = replace(outcome, caveats=(*outcome.caveats, *calibration.caveats))
    if target.is_json:
        from hmtrace.report.document import outcome_document, schema, source_document
        from hmtrace.report.sidebyside import is_changed

        warn_of_loss(source)
        document = {**schema("replay"), **source_document(source), **outcome_document(outcome)}
        document |= {"bound": outcome.bound, "changed": is_changed(baseline, outcome)}
        document |= {"placement": placement.value, "timing": timing.value}
        document |= {"baseline": outcome_document(baseline), "assumptions": list(assumptions)}
        if calibration is not None:
            from replay.cost.calibrate import as_rows

            document["calibration"] = as_rows(calibration)
        target.document(document)
        return
    from hmtrace.report.sidebyside import replay_renderables

    target.table(*replay_renderables(source, baseline, outcome, assumptions, calibration))


class Question(NamedTuple):
    """Which machine is asked about, and how; `captured` is the one that the trace is from."""

    captured: Machine
    wanted: Machine
    placement: str
    timing: str

    def answer(self, workload: Workload, opened: Capture) -> tuple[Outcome, Outcome]:
        """Serve a workload."""
        from replay.whatif.run import Server

        server = Server(
            workload,
            self.captured,
            values=opened.facts.snapshot(),
            lost=opened.lost,
            clock_is_ns=opened.clock_is_ns,
            span_ns=opened.span_ns,
        )
        other = server.on(self.wanted, placement=self.placement, timing=self.timing)
        return server.baseline, other


def _served(
    path: str,
    opened: Capture,
    sha256: str | None,
    question: Question,
    place: Place | None,
    kept: Kept | None,
) -> tuple[Outcome, Outcome]:
    """Answer from what is kept, or distil the trace and keep that."""
    from contextlib import nullcontext

    from polars.exceptions import PolarsError

    from hmtrace.cli.progress import ProgressBar
    from replay.whatif.workload import distil

    if kept is not None:
        try:
            return question.answer(kept.workload, opened)
        except (OSError, PolarsError):  # another process has just removed it
            opened = read(path)
    with ProgressBar("replaying") as progress, place.room() if place else nullcontext() as room:
        workload = distil(
            opened.events,
            question.captured,
            values=opened.facts.snapshot(),
            lost=opened.lost,
            progress=progress,
            folder=room,
        )
        answer = question.answer(workload, opened)
        if place is not None and room is not None:
            place.keep(room, opened, sha256, question.captured, workload)
    return answer
