"""Flushes and cost by cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.charts import bar
from hmtrace.report.machine import flush_words
from hmtrace.report.parts import Elided, heading, indented, joined, labelled, plain_table
from hmtrace.report.text import clean, count, duration, plural, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import CostOutcome, Outcome, TlbOutcome

_BAR_WIDTH = 8


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
    yield heading("Flushes and cost", "estimate from the cost model, CPU time on all CPUs")
    yield labelled(
        [
            ("TLB", tlb_in_words(outcome.tlb)),
            ("flush", flush_words(outcome.layout)),
            ("cost", cost_in_words(outcome.cost, outcome)),
        ]
    )
    causes = sorted(
        outcome.cost.by_cause.items(), key=lambda item: (-item[1].get("ns", 0), item[0])
    )
    if not causes:
        return
    available = outcome.span_ns * outcome.cpus
    known = outcome.cost.share_of_span is not None and available > 0
    table = plain_table(
        ("cause", "left"),
        ("count", "right"),
        ("time", "right"),
        ("of cost", "right"),
        ("of capture", "right"),
        ("", "left"),
    )
    for cause, figures in causes:
        ns, part = figures.get("ns", 0.0), figures.get("share", 0.0)
        table.add_row(
            Elided(clean(cause, 60).replace("_", " "), 0),
            count(figures.get("count")),
            duration(ns),
            share(part),
            share(ns / available if known else None),
            Text(bar(part, _BAR_WIDTH), style="magenta"),
        )
    yield indented(table)


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
            f"{count(tlb.ipis)} IPIs",
        ]
    )


def cost_in_words(cost: CostOutcome, outcome: Outcome) -> str:
    """Total cost beside the time that the CPUs had."""
    total = duration(cost.total_ns)
    if outcome.pool.pages_unknown:
        total = f"at least {total} (kmap() not counted)"
    if cost.share_of_span is None:
        return f"{total}, share of the captured time unknown"
    return (
        f"{total}, {share(cost.share_of_span)} of "
        f"{duration(outcome.span_ns)} × {plural(outcome.cpus, 'CPU')}"
    )
