"""A capture as a trace for Perfetto."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hmtrace.export.perfetto.writer import PerfettoWriter
from hmtrace.report.findings import in_words, ranked
from replay.walk import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from collectors.capture import Capture
    from replay.machine.model import Machine
    from replay.outcome import Outcome


def write_perfetto(
    capture: Capture,
    machine: Machine,
    file: BinaryIO,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a capture.

    Parameters
    ----------
    capture, machine
        The capture, and the machine that it is from.
    file
        Empty; it can be written anew.
    progress
        Called with the rows done and the rows in all.

    Returns
    -------
    int
        Calls and mappings that found no place on a track of their task.
    """
    values = capture.facts.snapshot()
    options: dict[str, Any] = {
        "lost": capture.lost, "clock_is_ns": capture.clock_is_ns, "span_ns": capture.span_ns,
        "progress": progress,
    }  # fmt: skip
    writer = PerfettoWriter(file, machine, values, clock_is_ns=capture.clock_is_ns)
    outcome = replay(capture.events, machine, values=values, watch=writer, **options)
    if writer.is_wrong:
        file.seek(0)
        file.truncate()
        without = replace(values, pool_state=None)
        writer = PerfettoWriter(file, machine, without, clock_is_ns=capture.clock_is_ns)
        replay(capture.events, machine, values=without, watch=writer, **options)
    writer.finish(outcome, capture.lost, _findings(outcome))
    return writer.left_out


def _findings(outcome: Outcome) -> Iterator[tuple[int | None, dict[str, str]]]:
    """Findings as :meth:`hmtrace.export.perfetto.writer.PerfettoWriter.finish` takes them."""
    for finding in ranked(outcome.findings):
        words = in_words(finding)
        texts = {
            "message": f"{finding.severity}: {words.message}",
            "evidence": "; ".join(filter(None, (*words.who, words.evidence))),
            "rule": finding.rule,
            "count": str(finding.count),
        }
        yield None if finding.first is None else finding.first.ts, texts
