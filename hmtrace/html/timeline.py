"""The timeline of a page: charts and maps over the captured time, as data that scripts draw."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from collectors.records import dataclass
from hmtrace.html.blocks import Section
from hmtrace.report.text import address, clock, count, duration, mib, plural, unglued

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hmtrace.html.findings import FindingEntry
    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome
    from replay.over_time import Timeline

MAP_ROWS: Final = 256
"""Rows of a map on a page at most; neighbours are put together beyond."""
CPU_LINES: Final = 16
"""CPUs that have a line of their own."""
_CPU_COLOURS: Final = ("used", "waits", "live", "hole", "stale", "warning", "fine", "problem")
"""Colours of the style sheet, for CPUs and causes in turn."""


@dataclass(frozen=True)
class PlotSeries:
    """A quantity of a chart: a value per bin.

    Attributes
    ----------
    label, colour
        What it is, and its name in the style sheet.
    values
        One per bin.
    is_stacked
        It lies on those before it.
    """

    label: str
    colour: str
    values: tuple[float, ...]
    is_stacked: bool = False


@dataclass(frozen=True)
class MapLayer:
    """What a map shows of a kind: rows of cells, bytes in base64, the first row the lowest."""

    label: str
    colour: str
    cells: str


@dataclass(frozen=True)
class Plot:
    """A chart over time.

    Attributes
    ----------
    ident, title
        Its anchor, and what it shows.
    words
        The same for who does not see it: extremes, and when they were.
    unit
        Of its values: ``count``, ``bytes``, ``ns``, ``slot``, ``address``, ``mark``.
    series
        Lines and areas; none in a map.
    ceiling
        Where a line is drawn across; None: nowhere.
    layers, rows, low, high
        Of a map: what it shows, how many rows, and the values at its bottom and top.
    row_words
        What the rows of a map of marks are called.
    """

    ident: str
    title: str
    words: str
    unit: str
    series: tuple[PlotSeries, ...] = ()
    ceiling: float | None = None
    layers: tuple[MapLayer, ...] = ()
    rows: int = 0
    low: float = 0
    high: float = 0
    row_words: tuple[str, ...] = ()

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """Label and colour of what it shows."""
        shown = [(one.label, one.colour) for one in self.series]
        return (*shown, *((layer.label, layer.colour) for layer in self.layers))


@dataclass(frozen=True)
class TimelineParts:
    """What the section shows: charts, and what has none and why."""

    plots: tuple[Plot, ...]
    missing: tuple[str, ...]
    lost_words: str


class _Clock:
    """Bins as time stamps."""

    def __init__(self, timeline: Timeline) -> None:
        self._start, self._width = timeline.start_ns, timeline.bin_ns

    def most(self, values: Sequence[float], words: Callable[[float], str]) -> str:
        """The highest value, and the first bin that has it."""
        top = max(values, default=0)
        if not top:
            return words(0)
        return f"{words(top)} at {clock(self._start + values.index(top) * self._width)}"


def timeline_section(source: InputSummary, outcome: Outcome, timeline: Timeline) -> Section:
    """Charts of what was traced.

    Returns
    -------
    Section
    """
    plots = tuple(_plots(outcome, timeline))
    width = duration(timeline.bin_ns) if source.clock_is_ns else f"{count(timeline.bin_ns)} ticks"
    missing = tuple(_missing(source, outcome, timeline))
    lost = sum(map(bool, timeline.lost or ()))
    words = f"events were lost in {plural(lost, 'bin')}, shaded in every chart" if lost else ""
    bins = f"{plural(timeline.bins, 'bin')} of {width}"
    parts = TimelineParts(plots, missing, words)
    return Section("timeline", "Timeline", bins, "timeline.html", parts)


def _missing(source: InputSummary, outcome: Outcome, timeline: Timeline) -> Iterator[str]:
    """What has no chart, and why.

    Yields
    ------
    str
    """
    pool, local = outcome.pool.maps, outcome.local.maps + outcome.local.lowmem
    arena = outcome.arena.allocs + outcome.arena.failures
    for name, line, calls, lacks in (
        ("pool", timeline.pool, pool, "kmap() was traced without its pages"),
        ("local", timeline.local, local, "which CPU had them is not known"),
        ("arena", timeline.arena, arena, "its areas at the start are not known"),
    ):
        if line is None or not calls:
            yield f"{name}: {lacks if calls else source.absent[name].words}"


def timeline_data(
    section: Section, timeline: Timeline, findings: Sequence[FindingEntry], *, clock_is_ns: bool
) -> dict[str, Any]:
    """What the scripts read.

    Parameters
    ----------
    section
        Of :func:`timeline_section`.
    timeline
        For its bins.
    findings
        Those with a moment are marked.
    clock_is_ns
        Whether the trace clock is a time.

    Returns
    -------
    dict
        In the types that JSON has. Times are in ns from ``start``, which is a string: time stamps
        may be larger than a script's numbers hold.
    """
    assert isinstance(section.parts, TimelineParts)
    return {
        "start": str(timeline.start_ns),
        "end": timeline.end_ns - timeline.start_ns,
        "bin": timeline.bin_ns,
        "bins": timeline.bins,
        "column": timeline.column_ns,
        "columns": timeline.columns,
        "isTime": clock_is_ns,
        "plots": [_plot_data(plot) for plot in section.parts.plots],
        "lost": list(timeline.lost or ()),
        "findings": [
            {
                "number": finding.number,
                "at": finding.at_ns,
                "severity": finding.severity,
                "words": unglued(finding.message),
            }
            for finding in findings
            if finding.at_ns is not None
        ],
    }


def _plot_data(plot: Plot) -> dict[str, Any]:
    """A plot with ordinary blanks, and no more digits than are seen."""
    return {
        "id": plot.ident,
        "unit": plot.unit,
        "series": [
            {
                "label": unglued(one.label),
                "colour": one.colour,
                "stacked": one.is_stacked,
                "values": [round(value, 2) for value in one.values],
            }
            for one in plot.series
        ],
        "ceiling": plot.ceiling,
        "layers": [
            {"label": unglued(one.label), "colour": one.colour, "cells": one.cells}
            for one in plot.layers
        ],
        "rows": plot.rows,
        "low": plot.low,
        "high": plot.high,
        "rowWords": list(plot.row_words),
    }


def _plots(outcome: Outcome, timeline: Timeline) -> Iterator[Plot]:
    when = _Clock(timeline)
    yield from _pool_plots(timeline, when)
    yield from _mark_plot(timeline)
    yield from _local_plot(outcome, timeline, when)
    yield from _arena_plots(outcome, timeline, when)
    yield from _flush_plot(timeline, when)
    yield from _slot_map(timeline)


def _pool_plots(timeline: Timeline, when: _Clock) -> Iterator[Plot]:
    pool = timeline.pool
    if pool is None or not any((*pool.used_max, *pool.stale_max)):
        return
    used = when.most(
        pool.used_max, lambda top: f"at most {count(top)} of {count(pool.slots)} in use"
    )
    stale = when.most(pool.stale_max, lambda top: f"{count(top)} stale")
    yield Plot(
        "plot-pool",
        "Slots of the pool",
        f"{used}; at most {stale}",
        "count",
        (
            PlotSeries("in use, highest", "used", pool.used_max, is_stacked=True),
            PlotSeries(
                "stale: no user, freed by the next flush", "stale", pool.stale_max, is_stacked=True
            ),
            PlotSeries("in use, mean", "ink", pool.used_mean),
        ),
        float(pool.slots),
    )
    if any(pool.waiting_max):
        words = when.most(
            pool.waiting_max, lambda top: f"at most {plural(int(top), 'task')} asleep"
        )
        yield Plot(
            "plot-waits",
            "Tasks asleep in kmap()",
            words,
            "count",
            (PlotSeries("waiting for a slot", "waits", pool.waiting_max),),
        )


def _mark_plot(timeline: Timeline) -> Iterator[Plot]:
    """Wraps, passes and purges, a row each."""
    marks = timeline.marks
    rows = [
        (name, one, many, colour, counts)
        for name, one, many, colour, counts in (
            ("wraps", "wrap of the pool", "wraps of the pool", "used", marks.wraps),
            (
                "passes",
                "flush by kmap_flush_unused()",
                "flushes by kmap_flush_unused()",
                "stale",
                marks.passes,
            ),
            ("purges", "purge of the arena", "purges of the arena", "live", marks.purges),
        )
        if counts is not None and any(counts)
    ]
    if not rows:
        return
    yield Plot(
        "plot-marks",
        "Flushes of every CPU's TLB",
        "; ".join(plural(sum(counts), one, many) for _, one, many, _, counts in rows),
        "mark",
        tuple(PlotSeries(many, colour, counts) for _, _, many, colour, counts in rows),
        rows=len(rows),
        high=len(rows),
        row_words=tuple(row[0] for row in rows),
    )


def _local_plot(outcome: Outcome, timeline: Timeline, when: _Clock) -> Iterator[Plot]:
    if timeline.local is None:
        return
    depths = list(timeline.local.depth_max.items())
    every = _highest([values for _, values in depths])
    limit = outcome.local.limit
    words = when.most(every, lambda top: f"at most {count(top)} deep")
    lines = [(f"CPU {cpu}", values) for cpu, values in depths[:CPU_LINES]]
    if rest := [values for _, values in depths[CPU_LINES:]]:
        lines.append((f"{plural(len(rest), 'more CPU')}, the deepest", _highest(rest)))
    yield Plot(
        "plot-local",
        "Local mappings nested, by CPU",
        f"{words}{f', {limit} fit' if limit else ''}",
        "count",
        tuple(
            PlotSeries(label, _CPU_COLOURS[at % len(_CPU_COLOURS)], values)
            for at, (label, values) in enumerate(lines)
        ),
        float(limit) if limit and limit <= 4 * max(every, default=0) else None,
    )


def _highest(lines: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The most of several lines in each bin."""
    return tuple(map(max, zip(*lines, strict=True)))


def _arena_plots(outcome: Outcome, timeline: Timeline, when: _Clock) -> Iterator[Plot]:
    arena, shape = timeline.arena, timeline.arena_map
    if arena is not None:
        hole = min(arena.hole_min, default=0)
        live = when.most(arena.live_max, lambda top: f"at most {mib(top)} in use")
        lazy = when.most(arena.lazy_max, lambda top: f"{mib(top)} freed lazily")
        yield Plot(
            "plot-arena",
            "The arena: vmap(), vmalloc()",
            f"{live}; at most {lazy}; of {mib(outcome.arena.size)}",
            "bytes",
            (
                PlotSeries("in use", "live", arena.live_max, is_stacked=True),
                PlotSeries("freed, waits for a purge", "stale", arena.lazy_max, is_stacked=True),
            ),
        )
        yield Plot(
            "plot-hole",
            "Largest hole of the arena",
            f"never below {mib(hole)} of {mib(outcome.arena.size)}",
            "bytes",
            (PlotSeries("largest hole, lowest", "hole", arena.hole_min),),
        )
    if shape is not None:
        rows, used = _cells(shape.live)
        _, freed = _cells(shape.lazy)
        yield Plot(
            "plot-arena-map",
            "The arena by address",
            f"from {address(shape.start)} to {address(shape.end)}; what is empty is a hole",
            "address",
            layers=(
                MapLayer("in use", "live", used),
                MapLayer("freed, waits for a purge", "stale", freed),
            ),
            rows=rows,
            low=shape.start,
            high=shape.end,
        )


def _flush_plot(timeline: Timeline, when: _Clock) -> Iterator[Plot]:
    causes = {name: ns for name, ns in timeline.flush_ns.items() if any(ns)}
    if not causes:
        return
    largest = sorted(causes, key=lambda name: -sum(causes[name]))
    parts = (f"{name} {duration(sum(causes[name]))}" for name in largest)
    every = tuple(map(sum, zip(*causes.values(), strict=True)))
    yield Plot(
        "plot-flushes",
        "Flush cost by cause, estimated",
        f"{'; '.join(parts)}; {when.most(every, lambda top: f'most in one bin {duration(top)}')}",
        "ns",
        tuple(
            PlotSeries(name, _CPU_COLOURS[at % len(_CPU_COLOURS)], causes[name], is_stacked=True)
            for at, name in enumerate(largest)
        ),
    )


def _slot_map(timeline: Timeline) -> Iterator[Plot]:
    slots = timeline.slot_map
    if slots is None or not any(map(any, (*slots.used, *slots.stale))):
        return
    used, stale = _cells(slots.used), _cells(slots.stale)
    yield Plot(
        "plot-slots",
        "Slots by number",
        f"{count(len(slots.used))} slots; a line across is one that is held long",
        "slot",
        layers=(MapLayer("in use", "used", used[1]), MapLayer("stale", "stale", stale[1])),
        rows=used[0],
        low=0,
        high=len(slots.used),
    )


def _cells(rows: Sequence[Sequence[int]]) -> tuple[int, str]:
    """Rows of a map, and its cells in base64: of neighbours that share a row, the most."""
    shared = -(-len(rows) // MAP_ROWS) or 1
    kept = [
        bytes(map(max, zip(*rows[at : at + shared], strict=True)))
        for at in range(0, len(rows), shared)
    ]
    return len(kept), base64.b64encode(b"".join(kept)).decode()
