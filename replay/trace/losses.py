"""What tracing lost, as the replay needs to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_NEVER: Final = np.int64(1) << 62
"""Behind every position."""


class Gap(Protocol):
    """A stretch of time in which events are missing."""

    @property
    def after_seq(self) -> int:
        """The first event after the gap has this `seq` or a higher one."""
        ...

    @property
    def cpu(self) -> int | None:
        """The CPU whose events are missing; None where it is not one alone."""
        ...

    @property
    def start_ts(self) -> int | None:
        """Time of the last event before the gap; None where there is none."""
        ...

    @property
    def end_ts(self) -> int | None:
        """Time of the first event after it; None where there is none."""
        ...


class Loss(Protocol):
    """Everything that tracing lost; :class:`collectors.capture.Lost` is one."""

    @property
    def events(self) -> int:
        """Number known to be lost."""
        ...

    @property
    def unknown(self) -> int:
        """Number of gaps of unknown size."""
        ...

    @property
    def intervals(self) -> Sequence[Gap]:
        """The gaps."""
        ...


class Gaps(NamedTuple):
    """Where in a trace events are missing, as positions (`seq`, `end_seq`).

    While a gap lasts, a task that is seen on another CPU may come from where events are missing:
    how many local mappings it holds is not known before any of its events.

    Attributes
    ----------
    first, after : ndarray of int64, shape (n,)
        The first event after a gap began, and the first after it; ascending, none overlaps.
    ends : ndarray of int64, shape (m,)
        The first event after each gap as the trace tells it; ascending.
    """

    first: NDArray[np.int64]
    after: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def at(cls, positions: Sequence[int]) -> Gaps:
        """Losses between an event and the one before it."""
        both = np.array(sorted(set(positions)), np.int64)
        return cls(both, both, both)

    @property
    def begin(self) -> int | None:
        """The first position that a loss may have changed something for."""
        return int(self.first[0]) if self.first.size else None

    def within(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        """Those of some positions that lie in a gap, each once, ascending."""
        if not self.first.size:
            return np.zeros(0, np.int64)
        found = positions.astype(np.int64)
        gap = np.searchsorted(self.first, found, side="right") - 1
        return np.unique(found[(gap >= 0) & (found < self.after[gap])])


NO_GAPS: Final = Gaps.at(())


def gaps_of(lost: Loss | None, events: pl.LazyFrame) -> Gaps:
    """Where tracing lost events.

    Parameters
    ----------
    lost
        What tracing lost.
    events
        Event table.

    Returns
    -------
    Gaps
        A gap before a CPU's first event begins with the trace.
    """
    gaps = lost.intervals if lost else ()
    if not gaps:
        return NO_GAPS
    ends = [gap.end_ts for gap in gaps]
    begun = _first(events, [None if gap.start_ts is None else gap.start_ts + 1 for gap in gaps], 0)
    over = _first(events, ends, None)
    spans = []
    for gap, begin, end in zip(gaps, begun, over, strict=True):
        # one before a CPU's first event is told of at the trace's beginning, where it begins
        after = gap.after_seq if end is None else max(gap.after_seq, end)
        spans.append((after if begin is None else min(begin, after), after))
    merged: list[tuple[int, int]] = []
    for begin, after in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], after)
        elif not merged or merged[-1] != (begin, after):
            merged.append((begin, after))
    both = np.array(merged, np.int64)
    told = np.unique(np.array([gap.after_seq for gap in gaps], np.int64))
    return Gaps(both[:, 0].copy(), both[:, 1].copy(), told)


def _first(
    events: pl.LazyFrame, times: Sequence[int | None], unknown: int | None
) -> list[int | None]:
    """Position of the first entry or return that is not before a time; `unknown` without one."""
    known = sorted({time for time in times if time is not None})
    if not known:
        return [unknown] * len(times)
    bound = pl.lit(pl.Series(known, dtype=pl.Int64))
    first = np.full(len(known) + 1, _NEVER)
    for position, ts in (("seq", "ts"), ("end_seq", "end_ts")):
        # how many of the times an event is not before; the first of those with as many, or more
        part = bound.search_sorted(pl.col(ts), side="right")
        told = events.filter(pl.col(ts).is_not_null() & pl.col(position).is_not_null())
        least = told.select(part.alias("part"), pl.col(position)).group_by("part").min().collect()
        index = least["part"].to_numpy()
        first[index] = np.minimum(first[index], least[position].to_numpy().astype(np.int64))
    first = np.minimum.accumulate(first[::-1])[::-1]
    found = {time: int(first[number + 1]) for number, time in enumerate(known)}
    return [
        unknown if time is None else found[time] if found[time] < _NEVER else None for time in times
    ]
