"""Purges of another machine's arena, by what makes them run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from replay.arena.purges import FAILED, TRIGGERS
from replay.outcome import PurgeOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class PurgesThere:
    """Counts the purges that the model makes, piece by piece.

    Parameters
    ----------
    at_limit
        What makes a purge run where more waits than may: whoever frees, or a worker.
    """

    def __init__(self, at_limit: str) -> None:
        self._of_cause = _codes(at_limit)
        self._runs, self._found, self._pages, self._hull = np.zeros((4, len(TRIGGERS)), np.int64)

    def add(
        self,
        table: NDArray[np.int64],
        purge: NDArray[np.int64],
        hull: NDArray[np.int64],
        result: NDArray[np.int64],
        page_size: int,
    ) -> None:
        """Count those of a piece.

        Parameters
        ----------
        table, purge : ndarray of int64
            Calls, and purges that found something, as of :mod:`replay.arena.loops.forward`.
        hull : ndarray of int64
            Pages that each of these invalidated.
        result : ndarray of int64
            What became of each call: an allocation that failed without a purge that found
            something made one that did not.
        page_size
            Bytes.
        """
        from replay.arena.loops import forward as kernel

        asked = table[table[:, kernel.KIND] == kernel.PURGE, kernel.SIZE]
        call, cause = purge[:, 0], purge[:, 1]
        by_asker = cause == kernel.ASKED
        code = np.where(by_asker, table[call, kernel.SIZE], self._of_cause[cause])
        self._runs += np.bincount(asked, minlength=len(TRIGGERS))
        self._runs += np.bincount(code[~by_asker], minlength=len(TRIGGERS))
        is_alloc = table[:, kernel.KIND] == kernel.ALLOC
        in_vain = np.flatnonzero(is_alloc & (result[: len(table)] < 0))
        in_vain = in_vain[~np.isin(in_vain, call[cause == kernel.FULL])]
        self._runs[self._of_cause[kernel.FULL]] += in_vain.size
        self._found += np.bincount(code, minlength=len(TRIGGERS))
        np.add.at(self._pages, code, purge[:, 4] // page_size)
        np.add.at(self._hull, code, hull)

    def outcome(self) -> tuple[PurgeOutcome, ...]:
        """What was counted, those that found something most often first."""
        columns = (self._runs, self._found, self._pages, self._hull, self._found)
        out = [
            PurgeOutcome(trigger, *numbers)
            for trigger, *numbers in zip(TRIGGERS, *(c.tolist() for c in columns), strict=True)
            if numbers[0]
        ]
        return tuple(sorted(out, key=lambda one: (-one.found, -one.count, one.trigger)))


def _codes(at_limit: str) -> NDArray[np.int64]:
    """Place of the trigger among :data:`TRIGGERS`, by the cause that the loop gives."""
    from replay.arena.loops import forward as kernel

    codes = np.zeros(3, np.int64)
    codes[kernel.LIMIT] = TRIGGERS.index(at_limit)
    codes[kernel.FULL] = TRIGGERS.index(FAILED)
    return codes


def without_times(purges: Iterable[PurgeOutcome]) -> tuple[PurgeOutcome, ...]:
    """Purges of a capture as another machine of the same arena has them."""
    return tuple(replace(purge, median_ns=None, longest_ns=None, longest=None) for purge in purges)
