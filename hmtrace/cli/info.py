"""`hmtrace info`: what is in a capture."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors import WorkloadFileError
from collectors.errors import HmtraceError
from hmtrace.cli.captures import describe, read, warn_of_loss
from hmtrace.cli.options import (
    CaptureArgument,
    ColorOption,
    ForceOption,
    FormatOption,
    OutputOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat

if TYPE_CHECKING:
    from collectors.capture import Capture
    from collectors.input.source import Source
    from hmtrace.report.answers import Answer
    from hmtrace.report.contents import Contents
    from hmtrace.report.source import InputSummary
    from replay.machine.layout import Layout
    from replay.machine.model import Machine


EXAMPLES = (
    "hmtrace info captures/board-7",
    "hmtrace info trace.txt.gz",
    "hmtrace info --format json captures/board-7/report.txt.gz",
    "ssh board cat /sys/kernel/tracing/trace | hmtrace info -",
)


def info(
    capture: CaptureArgument,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show what a capture holds and what it can and cannot answer."""
    target = Output.create(output_format, color, output, force=force, captures=[capture])
    try:
        opened = read(capture, described=True)
    except WorkloadFileError as error:
        _show_workload(target, error.file)
        return
    from hmtrace.report.answers import answers, without_model
    from hmtrace.report.caveats import caveats_section
    from hmtrace.report.contents import contents_sections, facts_section, survey
    from hmtrace.report.lacking import lacks, lacks_document, lacks_section
    from hmtrace.report.source import reproducibility, title_lines

    source = describe(opened)
    contents = survey(opened.events)
    found = answers(contents, opened.facts.snapshot(), clock_is_ns=opened.clock_is_ns)
    machine, remarks = _machine(opened)
    found = found if machine else without_model(found)
    lacking = lacks(contents, opened.facts.snapshot(), opened.lost) if machine else ()
    if target.is_json:
        warn_of_loss(source)
        document = _document(opened, source, contents, found, machine, remarks)
        target.document(document | {"lacks": lacks_document(lacking)})
        return
    target.table(
        *title_lines("info", source),
        *facts_section(opened.facts),
        *contents_sections(contents, opened.raw_events, found),
        *lacks_section(lacking),
        *caveats_section((*source.notes, *remarks)),
        "",
        reproducibility(source),
    )


def _show_workload(target: Output, file: Source) -> None:
    """What a workload file holds: no events, so less can be said than of a trace."""
    from hmtrace.cli.packing import WorkloadFile
    from hmtrace.report.caveats import caveats_section
    from hmtrace.report.contents import facts_section
    from hmtrace.report.distilled import Distilled, distilled_document, distilled_sections
    from hmtrace.report.source import InputSummary, reproducibility, title_lines

    found = WorkloadFile.of(file)
    capture = found.capture
    source = InputSummary.of(capture, found.sha256)
    machine, remarks = _machine(capture)
    if machine is not None:
        found.require(machine[0])
    told = Distilled(len(file.data), found.trace, found.made_by, found.unpack(None))
    if target.is_json:
        from hmtrace.report.contents import Contents

        warn_of_loss(source)
        contents = Contents(dict(told.workload.found.ops), {})
        document = _document(capture, source, contents, (), machine, remarks)
        target.document(document | {"workload": distilled_document(told)})
        return
    target.table(
        *title_lines("info", source),
        *facts_section(capture.facts),
        *distilled_sections(told),
        *caveats_section((*source.notes, *remarks)),
        "",
        reproducibility(source),
    )


def _machine(capture: Capture) -> tuple[tuple[Machine, Layout] | None, tuple[str, ...]]:
    """The machine as far as it is known, with its addresses, and what had to be assumed."""
    from replay.machine.from_facts import machine_from
    from replay.machine.layout import layout_of

    try:
        machine, assumptions = machine_from(capture.facts.snapshot(), capture.facts.sources())
        return (machine, layout_of(machine)), tuple(assumptions)
    except HmtraceError as error:
        return None, (f"no layout: {error.message}",)


def _document(
    capture: Capture,
    source: InputSummary,
    contents: Contents,
    answers: tuple[Answer, ...],
    machine: tuple[Machine, Layout] | None,
    remarks: tuple[str, ...],
) -> dict[str, Any]:
    from hmtrace.report.document import machine_document, schema, source_document
    from hmtrace.report.plain import plain
    from hmtrace.report.text import unglued

    facts = capture.facts
    return {
        **schema("info"),
        **source_document(source),
        "kernel": {name: plain(facts.get(name)) for name in ("release", "arch", "pae")},
        "cpus": plain(facts.get("cpus")),
        "events": contents.events,
        "raw_events": capture.raw_events,
        "machine": machine_document(*machine) if machine else {},
        "facts": {
            name: {"value": plain(fact.value), "source": fact.source, "detail": fact.detail}
            for name, fact in facts.items()
            if name not in _BULKY
        },
        "answers": [answer._replace(reason=unglued(answer.reason))._asdict() for answer in answers],
        "assumptions": list(remarks),
    }


_BULKY = frozenset({"areas", "arena_state", "pool_state", "pool_pages", "config", "probes"})
"""Facts that are whole tables: inputs of the replay, not information about the machine."""
