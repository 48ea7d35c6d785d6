"""The pkmap pool: calls, pressure over time, searches, flushes, sleepers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.charts import StackedChart
from hmtrace.report.marks import mark_rows, marks_legend
from hmtrace.report.parts import Picture, heading, indented, joined, labelled
from hmtrace.report.text import GLUE, count, duration, number, plural, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import PoolOutcome
    from replay.over_time import MarkedTimes


_WHOLE = 0.99
"""Share of the trace from which the pool's time is called the trace's."""


def pool_section(
    pool: PoolOutcome, absent: str, span_ns: int, marks: MarkedTimes | None = None
) -> Iterator[RenderableType]:
    """Everything about kmap().

    Parameters
    ----------
    pool
        Figures of the pool.
    absent
        What to say where no kmap() is in the trace.
    span_ns
        Length of the trace; the pool's time begins and ends with the first and the last event that
        is known here.
    marks
        What the chart marks on its axis.

    Yields
    ------
    RenderableType
        Heading, figures, chart.
    """
    yield heading("Pool", f"kmap(), {count(pool.slots)} slots")
    if not pool.maps:
        yield indented(Text(absent))
        return
    if pool.pages_unknown:
        yield labelled([("calls", _calls(pool))])  # nothing else is known without pages
        return
    yield labelled(
        [
            ("calls", _calls(pool)),
            ("in use", _use(pool)),
            ("pressure", _pressure(pool)),
            ("search", _search(pool)),
            ("flushes", _flushes(pool)),
            ("sleepers", waits_in_words(pool)),
        ]
    )
    yield from _chart(pool, span_ns, marks)


def _fraction(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _calls(pool: PoolOutcome) -> str:
    calls = f"{count(pool.maps)} kmap, {count(pool.unmaps)} kunmap"
    if pool.pages_unknown:
        return joined([calls, "pages unknown: hits and new mappings cannot be told apart"])
    served = pool.hits + pool.new_mappings
    return joined(
        [
            calls,
            f"{plural(pool.new_mappings, 'new mapping')} ({share(pool.new_mappings / served)})",
            plural(pool.hits, "hit"),
        ]
    )


def _use(pool: PoolOutcome) -> str:
    top = share(_fraction(pool.max_used, pool.slots))
    return joined(
        [
            f"at most {plural(pool.max_used, 'slot')} ({top})",
            f"mean {number(pool.mean_used)}",
            f"stale at most {count(pool.max_stale)}",
            f"{count(pool.still_used)} still held at the end" if pool.still_used else "",
        ]
    )


def _pressure(pool: PoolOutcome) -> str:
    if not pool.share_above:
        return "n/a"
    levels = [
        f"{words}:{GLUE}{share(pool.share_above.get(level))}"
        for level, words in (
            ("50", f"≥50{GLUE}%"),
            ("75", f"≥75{GLUE}%"),
            ("90", f"≥90{GLUE}%"),
            ("100", "full"),
        )
    ]
    return "time with slots in use " + ", ".join(levels)


def _search(pool: PoolOutcome) -> str:
    if not pool.new_mappings:
        return "none"
    if pool.scan_mean is None or pool.scan_max is None:
        return f"where the {plural(pool.scans_unknown, 'search', 'searches')} began is not known"
    vain = ", attempts that found none included" if pool.waits else ""
    unknown = plural(pool.scans_unknown, "search", "searches")
    without = f"; {unknown} left out that began nobody knows where" if pool.scans_unknown else ""
    return (
        f"{number(pool.scan_mean)} slots visited per new mapping, {count(pool.scan_max)} at most"
        f" by one attempt{vain}{without}"
    )


def _flushes(pool: PoolOutcome) -> str:
    idle = pool.passes - pool.flushes
    return joined(
        [
            f"{plural(pool.flushes, 'TLB flush', 'TLB flushes')} of the window",
            plural(pool.wraps, "wrap"),
            f"{plural(pool.unused_passes, 'pass', 'passes')} of kmap_flush_unused()"
            if pool.unused_passes
            else "",
            f"{plural(idle, 'pass', 'passes')} freed nothing" if idle > 0 else "",
        ]
    )


def waits_in_words(pool: PoolOutcome) -> str:
    """Who slept for a slot and for how long, in one line."""
    if not pool.waits:
        return "none"
    least = "≥" if pool.asleep else ""
    return joined(
        [
            f"{plural(pool.waits, 'wait')} of {plural(pool.waiting_tasks, 'task')}",
            f"{least}{duration(pool.wait_ns)} in all",
            f"longest {least}{duration(pool.longest_wait_ns)}",
            f"{count(pool.asleep)} still asleep at the end" if pool.asleep else "",
        ]
    )


def has_chart(pool: PoolOutcome) -> bool:
    """Whether the pool's use over time is known, and drawn."""
    return pool.used is not None and bool(pool.used.high and pool.slots and pool.maps)


def _chart(pool: PoolOutcome, span_ns: int, marks: MarkedTimes | None) -> Iterator[RenderableType]:
    used, stale = pool.used, pool.stale
    if used is None or not has_chart(pool):
        return
    shaded = stale.mean if stale is not None and len(stale.mean) == len(used.high) else ()
    end = used.start_ns + used.bin_ns * len(used.high)
    chart = StackedChart(
        lower=used.high,
        upper=shaded or (0.0,) * len(used.high),
        ceiling=pool.slots,
        left=duration(used.start_ns),
        right=duration(end),
        marks=mark_rows(marks),
    )
    part = []
    if end - used.start_ns < _WHOLE * span_ns:
        words = (
            f"{duration(end)} of {duration(span_ns)}: from the first event of a mapping to the last"
        )
        part.append(indented(Text(f"      {words}", style="dim")))
    yield Text()
    yield Picture(
        indented(chart),
        indented(Text("      █ in use (highest)   ░ stale: no user, freed by the next flush")),
        *marks_legend(marks),
        *part,
    )
