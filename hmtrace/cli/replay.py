"""`hmtrace replay`: the same workload on another machine."""

# ruff: noqa: FBT002  (typer reads annotations and defaults at run time)

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from collectors.errors import HmtraceError
from hmtrace.cli.captures import calibration_of, warn_of_loss
from hmtrace.cli.options import (
    CalibrateOption,
    CaptureArgument,
    ColorOption,
    ConvertOption,
    CostsOption,
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
    Placement,
    PlacementOption,
    RamOption,
    SplitOption,
    Timing,
    TimingOption,
    VmallocOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from hmtrace.cli.prepared import Prepared
    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.whatif.convert import Conversion


EXAMPLES = (
    "hmtrace replay captures/board-7 --split 2g",
    "hmtrace replay captures/board-7 --ram 4G --pae --vmalloc 256M",
    "hmtrace replay captures/board-7 --pkmap 128 --cpus 4 --timing fixed",
    "hmtrace replay captures/board-7 --kernel 6.12 --no-highmem",
    "hmtrace replay captures/board-7 --convert kmap=kmap_local@dir_get_page",
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
    highmem_size: HighmemSizeOption = None,
    highpte: HighpteOption = None,
    kernel: KernelOption = None,
    machine: MachineOption = None,
    convert: ConvertOption = None,
    costs: CostsOption = None,
    calibrate: CalibrateOption = False,
    placement: PlacementOption = Placement.CLASS,
    timing: TimingOption = Timing.CLOSED,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Replay a workload on another machine, beside the captured one."""
    target = Output.create(
        output_format, color, output, force=force, captures=[capture], files=[costs, machine]
    )
    from hmtrace.cli.machines import target_machine
    from hmtrace.cli.prepared import asked

    def wanted(captured: Machine) -> Machine:
        return target_machine(
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
            highmem_size=highmem_size,
            highpte=highpte,
            kernel=kernel,
            convert=convert,
        )

    question = Question(wanted, placement.value, timing.value, calibrate=calibrate)
    answer = asked(
        capture, costs, question.ask, lambda captured: bool(wanted(captured).converted),
        anew=calibrate,
    )  # fmt: skip
    _show(target, question, answer)


class WhatIf(NamedTuple):
    """What came of a question: the captured machine and the other one, and what was converted.

    `evidence` says what was traced (:func:`replay.rules.recorded.recorded`).
    """

    source: InputSummary
    assumptions: tuple[str, ...]
    baseline: Outcome
    outcome: Outcome
    calibration: Calibration | None
    conversion: Conversion | None
    evidence: dict[str, Any]


class Question(NamedTuple):
    """Which machine is asked about, and how; `wanted` makes it of the captured one."""

    wanted: Callable[[Machine], Machine]
    placement: str
    timing: str
    calibrate: bool

    def ask(self, ready: Prepared) -> WhatIf:
        """Serve the workload of a capture."""
        captured, wanted = ready.machine, self.wanted(ready.machine)
        if self.calibrate and ready.is_file:
            raise HmtraceError(
                "--calibrate needs the trace: a workload file has no calls' times",
                source=ready.capture.origin.trace,
                exit_code=2,
            )
        calibration = calibration_of(ready.capture, captured) if self.calibrate else None
        if calibration is not None:
            captured = replace(captured, costs=calibration.costs)
            if wanted.arch == captured.arch:
                wanted = replace(wanted, costs=calibration.costs)
        server = ready.server(captured)
        outcome = server.on(wanted, placement=self.placement, timing=self.timing)
        if calibration is not None:
            outcome = replace(outcome, caveats=(*outcome.caveats, *calibration.caveats))
        calls = server.converted(wanted)
        converted = None if calls is None else calls.outcome
        told = ready.evidence(server.baseline)
        return WhatIf(
            ready.source(),
            ready.assumptions,
            server.baseline,
            outcome,
            calibration,
            converted,
            told,
        )


def _show(target: Output, question: Question, answer: WhatIf) -> None:
    source, assumptions, baseline, outcome, calibration, conversion, evidence = answer
    if not target.is_json:
        from hmtrace.report.sidebyside import replay_renderables

        target.table(
            *replay_renderables(source, baseline, outcome, assumptions, calibration, conversion)
        )
        return
    from hmtrace.report.document import outcome_document, schema, source_document
    from hmtrace.report.sidebyside import is_changed
    from hmtrace.report.verdict import verdict_document
    from replay.cost.verdict import cost_verdict

    warn_of_loss(source)
    document = {**schema("replay"), **source_document(source), **outcome_document(outcome)}
    document |= {"bound": outcome.bound, "changed": is_changed(baseline, outcome)}
    document |= {"cost_verdict": verdict_document(cost_verdict(baseline, outcome))}
    document |= {"placement": question.placement, "timing": question.timing}
    document |= {"baseline": outcome_document(baseline), "assumptions": list(assumptions)}
    document["evidence"] = evidence
    if conversion is not None:
        from hmtrace.report.conversion import conversion_document

        document["conversion"] = conversion_document(conversion, outcome.layout.km_usable_depth)
    if calibration is not None:
        from replay.cost.calibrate import as_rows

        document["calibration"] = as_rows(calibration)
    target.document(document)
