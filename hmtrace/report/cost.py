"""Flushes and cost by cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hmtrace.report.machine import flush_words
from hmtrace.report.parts import Elided, Valued, heading, indented, joined, labelled, plain_table
from hmtrace.report.text import clean, count, duration, plural, share
from replay.figures import EMULATED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import CostOutcome, Outcome, TlbOutcome

_MEASURED = "measured_ns"
_FAR = 3
"""Times the estimate from which it is not the probes alone that make a call longer."""


def cost_section(outcome: Outcome) -> Iterator[RenderableType]:
    """TLB flushes, and where the estimated CPU time goes.

    Parameters
    ----------
    outcome
        Its `tlb`, `cost`, `span_ns` and `cpus` are used.

    Yields
    ------
    RenderableType
        Heading, figures, one row per cause.
    """
    yield heading("Flushes and cost", "CPU time on all CPUs, shares are of the capture")
    causes = sorted(
        outcome.cost.by_cause.items(), key=lambda item: (-item[1].get("ns", 0), item[0])
    )
    remark = _beyond_estimate(causes, emulated=EMULATED in outcome.caveats)
    yield labelled(
        [
            ("TLB", tlb_in_words(outcome.tlb)),
            ("flush", flush_words(outcome.layout)),
            ("cost", cost_in_words(outcome.cost, outcome)),
            *([("measured", remark)] if remark else []),
        ]
    )
    if not causes:
        return
    available = outcome.span_ns * outcome.cpus
    known = outcome.cost.share_of_span is not None and available > 0
    measured = any(_MEASURED in figures for _, figures in causes)

    def of_capture(ns: float | None) -> str:
        return share(ns / available if known and ns is not None else None)

    table = plain_table(
        ("cause", "left"),
        ("count", "right"),
        ("estimated", "right"),
        ("share", "right"),
        *((("measured", "right"), ("share", "right")) if measured else ()),
    )
    for cause, figures in causes:
        told, estimated = figures.get(_MEASURED), figures.get("ns", 0.0)
        beside = ("", "") if told is None else (duration(told), of_capture(told))
        table.add_row(
            Elided(clean(cause, 60), 0),
            Valued(count(figures.get("count")), figures.get("count")),
            Valued(duration(estimated), estimated),
            Valued(of_capture(estimated), estimated),
            *((Valued(words, told) for words in beside) if measured else ()),
        )
    yield indented(table)


def _beyond_estimate(causes: Sequence[tuple[str, dict[str, float]]], *, emulated: bool) -> str:
    """Where the trace's own times are far above the estimate, in words; "" nowhere."""
    beyond = [
        (figures[_MEASURED] - figures["ns"], cause, figures)
        for cause, figures in causes
        if figures.get(_MEASURED, 0) > _FAR * figures.get("ns", 0) > 0
    ]
    if not beyond:
        return ""
    _, cause, figures = max(beyond, key=lambda one: one[0])
    ratio = figures[_MEASURED] / figures["ns"]
    words = (
        f"{clean(cause, 60)} took {ratio:.0f} times the estimate; entry to return, with probes, "
        "interrupts and inner calls"
    )
    if emulated:
        return f"{words}, on an emulated machine: no reason to doubt the estimate"
    return f"{words}; --calibrate takes costs from the trace"


def tlb_in_words(tlb: TlbOutcome) -> str:
    """Flushes by kind, in one line."""
    ranged = f"{count(tlb.range)} ranged"
    if tlb.range:
        ranged += f" ({plural(tlb.range_pages, 'page')})"
    return joined(
        [
            f"{count(tlb.full)} full",
            ranged,
            f"{count(tlb.single)} single",
            plural(tlb.ipis, "IPI"),
        ]
    )


def cost_in_words(cost: CostOutcome, outcome: Outcome) -> str:
    """Total cost beside the time that the CPUs had."""
    total = duration(cost.total_ns)
    if cost.low_ns < cost.high_ns:
        total += f" ({duration(cost.low_ns)} to {duration(cost.high_ns)})"
    if outcome.pool.pages_unknown:
        total = f"at least {total} (kmap() not counted)"
    if cost.share_of_span is None:
        return f"{total}, share of the captured time unknown"
    return (
        f"{total}, {share(cost.share_of_span)} of "
        f"{duration(outcome.span_ns)} × {plural(outcome.cpus, 'CPU')}"
    )
