"""Quantities over the captured time: what charts draw, as those of :mod:`replay.outcome`."""

from __future__ import annotations

from collectors.records import dataclass, field


@dataclass(frozen=True)
class Series:
    """A quantity over the captured time, in equal bins.

    Attributes
    ----------
    start_ns, bin_ns
        Time of the first bin relative to the capture's first event, and width of a bin.
    low, high, mean
        Lowest, highest and time-weighted mean value in each bin.
    """

    start_ns: int
    bin_ns: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]


@dataclass(frozen=True)
class MarkedTimes:
    """How often things happened, over the captured time in equal bins: what charts mark.

    Attributes
    ----------
    start_ns, bin_ns
        As of :class:`Series`.
    wraps, passes
        Flushes of the pool's window because kmap() had gone through all slots, and by
        kmap_flush_unused().
    purges
        Purges of the lazy list that found something.
    waits
        Calls of kmap() that fell asleep for a slot.
    """

    start_ns: int
    bin_ns: int
    wraps: tuple[int, ...]
    passes: tuple[int, ...]
    purges: tuple[int, ...]
    waits: tuple[int, ...]


@dataclass(frozen=True)
class PoolLine:
    """The pool over time; each a value per bin.

    Attributes
    ----------
    slots
        Size of the pool.
    used_max, used_mean
        Slots in use: most of them, and their time-weighted mean.
    stale_max
        Slots that nobody uses and that are still mapped.
    waiting_max
        Tasks that slept in kmap() for a slot.
    """

    slots: int
    used_max: tuple[int, ...]
    used_mean: tuple[float, ...]
    stale_max: tuple[int, ...]
    waiting_max: tuple[int, ...]


@dataclass(frozen=True)
class LocalLine:
    """Local mappings over time: most at once of the running task, by CPU, per bin.

    CPUs that never had any are left out.
    """

    depth_max: dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class ArenaLine:
    """The vmap/vmalloc arena over time, in bytes; each a value per bin.

    `live_max` is what is in use, `lazy_max` what was freed and waits for a purge, `hole_min` the
    least that the largest hole was.
    """

    live_max: tuple[int, ...]
    lazy_max: tuple[int, ...]
    hole_min: tuple[int, ...]


@dataclass(frozen=True)
class ArenaMap:
    """Addresses of the arena by time: which of them are taken.

    Attributes
    ----------
    start, end
        First address and the one behind the last; rows are equal parts of it but for a page.
    live, lazy
        Rows by address, from the lowest, of columns in time: 0 to 255, the share of a cell that is
        in use, or was freed and waits for a purge, at the end of the column's time; what is there
        at all is at least 1.
    """

    start: int
    end: int
    live: tuple[tuple[int, ...], ...]
    lazy: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SlotMap:
    """Slots of the pool by time.

    Attributes
    ----------
    used, stale
        A row for each slot, by address, of columns in time: 0 to 255, the share of the column's
        time in which it is in use, or is not and still mapped; what is there at all is at least 1.
    """

    used: tuple[tuple[int, ...], ...]
    stale: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class MarkLine:
    """How often things happened per bin; None: the trace has none of them.

    `wraps`, `passes` and `purges` are those of :class:`MarkedTimes`.
    """

    wraps: tuple[int, ...] | None = None
    passes: tuple[int, ...] | None = None
    purges: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Timeline:
    """State of the model over the captured time; None where it is not known.

    Attributes
    ----------
    start_ns, end_ns
        Of the trace clock, as moments of an outcome are.
    bin_ns, bins
        Width of a bin, and how many there are; the last may be shorter. Maps have other columns:
        equal parts of the time from `start_ns` on, `column_ns` wide, `columns` of them.
    pool, local, arena, arena_map, slot_map, marks
        What each bin, or cell, has.
    flush_ns
        By cause (of :attr:`replay.outcome.CostOutcome.by_cause`) what flushes cost in each bin, in
        ns: the estimate of the likely costs, as there.
    lost
        Gaps in the trace that each bin has a part of; None: nothing was lost.
    """

    start_ns: int
    end_ns: int
    bin_ns: int
    bins: int
    column_ns: int
    columns: int
    pool: PoolLine | None = None
    local: LocalLine | None = None
    arena: ArenaLine | None = None
    arena_map: ArenaMap | None = None
    slot_map: SlotMap | None = None
    marks: MarkLine = field(default_factory=MarkLine)
    flush_ns: dict[str, tuple[float, ...]] = field(default_factory=dict)
    lost: tuple[int, ...] | None = None
