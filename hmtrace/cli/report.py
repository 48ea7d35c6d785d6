"""`hmtrace report`: the main job."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from collectors.errors import HmtraceError
from hmtrace.cli.captures import calibration_of, describe, read, warn_of_loss
from hmtrace.cli.options import (
    CalibrateOption,
    CaptureArgument,
    ColorOption,
    CostsOption,
    ForceOption,
    HtmlOption,
    OutputOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat, PageFile

if TYPE_CHECKING:
    from collectors.capture import Capture
    from replay.machine.model import Machine
    from replay.outcome import Outcome


class ReportForm(StrEnum):
    """Value of ``--format``."""

    TABLE = "table"
    JSON = "json"
    PROMETHEUS = "prometheus"


EXAMPLES = (
    "hmtrace report captures/board-7",
    "hmtrace report --brief captures/board-7",
    "hmtrace report --longest 20 captures/board-7",
    "hmtrace report --all --color always trace.txt.zst | less -R",
    "hmtrace report --format json -o report.json captures/board-7",
    "hmtrace report --html report.html captures/board-7",
    "hmtrace report --format prometheus -o hmtrace.prom captures/board-7",
    "hmtrace report --costs cortex-a15.toml captures/board-7",
)


def report(
    capture: CaptureArgument,
    costs: CostsOption = None,
    calibrate: CalibrateOption = False,
    brief: Annotated[
        bool, typer.Option("--brief", help="Key figures and findings, no more.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="With pictures: slots over time, histograms, address space, RAM."
        ),
    ] = False,
    longest: Annotated[
        int,
        typer.Option("--longest", metavar="N", min=0, max=64, help="So many of the longest calls."),
    ] = 5,
    form: Annotated[
        ReportForm, typer.Option("--format", help="Form of the result.")
    ] = ReportForm.TABLE,
    output: OutputOption = None,
    html: HtmlOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Report what temporary mappings cost, where they come from, and who waits or leaks."""
    as_json = OutputFormat.JSON if form is ReportForm.JSON else OutputFormat.TABLE
    target = Output.create(as_json, color, output, force=force, captures=[capture], files=[costs])
    page = PageFile.create(html, output, force=force, captures=[capture], files=[costs])
    from hmtrace.cli.machines import captured_machine

    if brief and everything:
        raise HmtraceError("--brief and --all contradict each other", exit_code=2)
    opened = read(capture, described=True)
    machine, assumptions = captured_machine(opened, costs)
    calibration = calibration_of(opened, machine) if calibrate else None
    if calibration is not None:
        machine = replace(machine, costs=calibration.costs)
    drawn = page is not None or (everything and form is ReportForm.TABLE)
    outcome = figures(opened, machine, timeline=drawn)
    if calibration is not None:
        outcome = replace(outcome, caveats=(*outcome.caveats, *calibration.caveats))
    source = describe(opened)
    if page is not None:
        from hmtrace.html.report import report_page

        page.write(lambda: report_page(source, outcome, assumptions, calibration))
    if target.is_json:
        from hmtrace.report.document import (
            observed_document,
            outcome_document,
            schema,
            source_document,
        )
        from replay.rules.recorded import recorded

        warn_of_loss(source)
        snapshot = opened.facts.snapshot()
        document = {
            **schema("report"),
            **source_document(source),
            **outcome_document(outcome),
            **observed_document(outcome),
            "evidence": recorded(outcome, snapshot, opened.lost, opened.raw_events),
        }
        if calibration is not None:
            from replay.cost.calibrate import as_rows

            document["calibration"] = as_rows(calibration)
        target.document(document | {"assumptions": list(assumptions)})
        return
    if form is ReportForm.PROMETHEUS:
        from hmtrace.export.prometheus import prometheus

        warn_of_loss(source)
        target.text(prometheus(source, outcome))
        return
    from hmtrace.report.terminal import report_renderables

    detail = "brief" if brief else "all" if everything else "usual"
    target.table(
        *report_renderables(
            source, outcome, assumptions, calibration, detail=detail, longest=longest
        )
    )


def figures(capture: Capture, machine: Machine, *, timeline: bool = False) -> Outcome:
    """Outcome of a capture on the machine it was captured on, with a progress bar.

    `timeline`: with its state over time, as charts have it.
    """
    from hmtrace.cli.progress import ProgressBar
    from replay.timeline.tally import BINS
    from replay.walk import replay

    with ProgressBar("replaying") as progress:
        return replay(
            capture.events,
            machine,
            values=capture.facts.snapshot(),
            lost=capture.lost,
            clock_is_ns=capture.clock_is_ns,
            span_ns=capture.span_ns,
            progress=progress,
            timeline=BINS if timeline else None,
        )
