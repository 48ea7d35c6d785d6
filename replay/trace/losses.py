"""What tracing lost, as the replay needs to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def gaps_of(lost: Loss | None, events: pl.LazyFrame) -> tuple[int, ...]:
    """Positions in a trace before which nothing is known any more.

    Those are the first event after each gap, and every event of other CPUs while it lasts: they
    worked on the same pool and arena, and their tasks may have come from where events are missing.

    Parameters
    ----------
    lost
        What tracing lost.
    events
        Event table.

    Returns
    -------
    tuple of int
        Ascending: `seq` of events, `end_seq` of returns.
    """
    gaps = lost.intervals if lost else ()
    begun = [gap for gap in gaps if gap.start_ts is not None]
    found = {gap.after_seq for gap in gaps}
    if begun:
        first = (
            pl.min_horizontal(
                pl.col("seq").filter(pl.col("ts") > gap.start_ts).min(),
                pl.col("end_seq").filter(pl.col("end_ts") > gap.start_ts).min(),
            ).alias(str(number))
            for number, gap in enumerate(begun)
        )
        row = events.select(first).collect().row(0)
        for gap, start in zip(begun, row, strict=True):
            if start is not None:
                found.update(range(start, gap.after_seq))
    return tuple(sorted(found))
