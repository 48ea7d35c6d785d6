"""Why addresses were left open, so that the words of a caveat agree with the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from replay.arena.state import LOST_END

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.calls import ArenaCalls
    from replay.arena.ruling import Ruled
    from replay.arena.state import ArenaState

WHY_LOST: Final = (
    "a call on the arena is under way for so long that its return must have been missed, and what "
    "it did is not known: nothing behind it is certain; probe returns with a larger maxactive",
    "an address contradicts what was known to be free, and no other order explains it: nothing "
    "behind it is certain",
    "the trace has no address of an allocation (no return), and more than one is possible: nothing "
    "behind it is certain",
    "an address tells that a purge had found other areas than the model has it, of those that were "
    "being freed as it began: nothing behind it is certain",
    "more areas are in doubt than are kept apart: nothing behind is certain",
)
"""By the reasons of :mod:`replay.arena.loops.evidence`."""
_DERIVED: Final = (
    "alloc_vmap_area() is not probed, and how large an area is, and where it may be, is only "
    "derived from the calls that asked for it"
)
_PURGES: Final = (
    "purges are not probed (__purge_vmap_area_lazy, with its return): which areas were free again, "
    "no event tells"
)
_LOSS: Final = "events were lost before: what is free behind that is not known"
_PURGE: Final = (
    "a purge or other calls were under way, and how far they had come is not told; return probes "
    "and sched_switch tell most of it"
)
_SHAPE: Final = (
    "aligned requests, whose address depends on the shape of the kernel's free tree, which only a "
    "dump of its memory tells"
)
_LEARNT: Final = (
    "an address above the lowest place that fits shows that /proc/vmallocinfo lacks areas: from "
    "there on only what the trace itself gave back counts as free"
)


class LeftOpen:
    """Counts allocations that the model did not call certain, each under one reason.

    Parameters
    ----------
    state
        Before the trace.

    Attributes
    ----------
    learnt
        An address showed that the snapshot lacks an area.
    """

    def __init__(self, state: ArenaState) -> None:
        self._state = state
        self._number: dict[str, int] = {}
        self.learnt = False

    def add(
        self,
        left: NDArray[np.bool_],
        ruled: Ruled,
        calls: ArenaCalls,
        behind_loss: NDArray[np.bool_],
        shaped: NDArray[np.bool_],
    ) -> None:
        """Count those of a piece.

        Parameters
        ----------
        left : ndarray of bool
            Per allocation: it was left open.
        ruled, calls
            The piece.
        behind_loss, shaped : ndarray of bool
            Per allocation: events were lost before it; trees of several shapes answer differently.
        """
        state = self._state
        every = np.ones_like(left)
        lost = np.where(ruled.lost, ruled.why_lost, -1)
        reasons = [
            (state.text, every & (not state.known)),
            (_DERIVED, every & calls.derived),
            (_PURGES, every & (not calls.purges_traced and state.frees)),
            (_LOSS, behind_loss),
            *((words, lost == why) for why, words in enumerate(WHY_LOST)),
            (_PURGE, ruled.open),
            (_SHAPE, shaped),
            (LOST_END if state.tail else _LEARNT, every),
        ]
        for words, which in reasons:
            if number := int((left & which).sum()):
                self._number[words] = self._number.get(words, 0) + number
            left = left & ~which

    def caveats(self) -> tuple[str, ...]:
        """Why less is certain than the trace would allow, and how much."""
        told = [LOST_END] if self._state.known and self._state.tail else []
        if self.learnt and self._state.known and _LEARNT not in self._number:
            told.append(_LEARNT)
        return (
            *told,
            *(f"{n} left open: {words}" for words, n in self._number.items() if words not in told),
        )
