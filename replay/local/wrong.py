"""Unmaps of local mappings that are wrong: of another than the newest one, or of none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from replay.trace.told import NO_ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray


class WrongUnmaps(NamedTuple):
    """Unmaps that the kernel warns of, or dies of.

    Attributes
    ----------
    row : ndarray of int64
    kind : ndarray of uint8
        STRAY, NOT_NEWEST, NOT_HELD or ELSEWHERE of :mod:`replay.local.loops`.
    given, newest : ndarray of int32
        Slot that was given, and that of the newest mapping; -1 none.
    newest_row : ndarray of int64
        Row of the newest mapping; NO_ROW.
    owner_row : ndarray of int64
        Row of the only mapping that has the slot that was given; NO_ROW: none, or several.
    """

    row: NDArray[np.int64]
    kind: NDArray[np.uint8]
    given: NDArray[np.int32]
    newest: NDArray[np.int32]
    newest_row: NDArray[np.int64]
    owner_row: NDArray[np.int64]


NO_WRONG: Final = WrongUnmaps(
    np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int32),
    np.zeros(0, np.int64), np.zeros(0, np.int64),
)  # fmt: skip


class LocalStream(Protocol):
    """Events of local mappings, a column each (:class:`replay.local.loops.Locals`), and rows."""

    @property
    def row(self) -> NDArray[np.int64]:
        """Of the event table."""
        ...

    @property
    def kind(self) -> NDArray[np.uint8]:
        """What it is."""
        ...

    @property
    def status(self) -> NDArray[np.uint8]:
        """Of unmaps what is wrong with them."""
        ...

    @property
    def seen(self) -> NDArray[np.int32]:
        """Slot that was given."""
        ...

    @property
    def slot(self) -> NDArray[np.int32]:
        """Slot of the newest mapping."""
        ...


def wrong_unmaps(
    stream: LocalStream,
    partner: NDArray[np.int32],
    owner: NDArray[np.int32],
    start: int,
    stop: int,
) -> WrongUnmaps:
    """Unmaps from `start` to `stop` that are wrong.

    Parameters
    ----------
    stream
        Events.
    partner, owner
        Event of the newest mapping, and of the one that has the slot; below 0 none.
    start, stop
        Those that are new.
    """
    from replay.local.loops import UNMAP

    status = stream.status[start:stop]
    at = start + np.flatnonzero((stream.kind[start:stop] == UNMAP) & (status > 0))
    if not at.size:
        return NO_WRONG
    newest, meant = (
        np.where(events >= 0, stream.row[events], NO_ROW) for events in (partner[at], owner[at])
    )
    return WrongUnmaps(
        stream.row[at], stream.status[at], stream.seen[at], stream.slot[at], newest, meant
    )
