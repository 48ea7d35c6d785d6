"""What a piece of a trace tells of local mappings, event by event, where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class HeldPiece(NamedTuple):
    """What was held where a piece's mappings came to lie, and at its switches.

    Attributes
    ----------
    row : ndarray of int64, shape (k,)
        Of the mapping; of a switch its complement, below zero.
    depth, cpu : ndarray of int32, shape (k,)
        Its depth; mappings held at a switch.
    below : ndarray of int64, shape (k,)
        How many of those below it, or held, are known.
    rows : ndarray of int64, shape (sum of `below`,)
        They, one element's behind the other's.
    """

    row: NDArray[np.int64]
    depth: NDArray[np.int32]
    cpu: NDArray[np.int32]
    below: NDArray[np.int64]
    rows: NDArray[np.int64]


class LocalEvents(NamedTuple):
    """What the stacks were moved by, in its order.

    Attributes
    ----------
    kind : ndarray of uint8
        MAP, UNMAP or SWITCH_OUT of :mod:`replay.local.loops`; mappings that take a slot, unmaps
        that give one back.
    at : ndarray of uint64
        Position of a mapping's return, else of the entry.
    row, ts : ndarray of int64
    task : ndarray of int64
        pid; of idle tasks that of the CPU (:func:`task_key`).
    cpu : ndarray of int32
    depth : ndarray of int32
        As of :class:`replay.local.loops.Locals`; of an unmap the mappings that are left.
    """

    kind: NDArray[np.uint8]
    at: NDArray[np.uint64]
    row: NDArray[np.int64]
    ts: NDArray[np.int64]
    task: NDArray[np.int64]
    cpu: NDArray[np.int32]
    depth: NDArray[np.int32]
