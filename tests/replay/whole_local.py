"""Local mappings of a whole trace in one piece: predicted addresses and depths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from replay.local.stacks import LocalStacks, direct_of, reuses, switch_hook, takes_slot
from replay.trace.losses import NO_GAPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.model import Layout
    from replay.trace.losses import Gaps


@dataclass(frozen=True)
class LocalReplay:
    """What the model says of every local mapping.

    Attributes
    ----------
    row : ndarray of int64, shape (m,)
        Rows of the event table that are mappings (``kmap_local``).
    vaddr : ndarray of int64, shape (m,)
        Predicted address; -1 where nothing can be said (lowmem page of unknown frame).
    takes_slot : ndarray of bool, shape (m,)
        Whether the mapping took a slot; else it is the direct mapping of a lowmem page, or
        reuses a mapping of the pool.
    reused : ndarray of bool, shape (m,)
        Whether it does the latter: the pool's replay predicts its address.
    status : ndarray of uint8, shape (m,)
        :mod:`replay.local.loops`: DEFAULT, ORDERED, INITIAL or DIVERGED.
    depth, cpu : ndarray of int32, shape (m,)
        Depth (0: first) and CPU of the mappings that took a slot; -1 else.
    hold_ns : ndarray of int64, shape (m,)
        From the mapping's return to its unmap's entry; -1 unknown.
    partner : ndarray of int64, shape (m,)
        Row of the unmap that ends each mapping; -1 unknown.
    unmaps : int
        Unmaps that gave a slot back.
    switches : ndarray of int32
        Mappings held at each context switch that held any.
    strays, misfits : int
        Unmaps on an empty stack; unmaps that were not of the newest mapping.
    """

    row: NDArray[np.int64]
    vaddr: NDArray[np.int64]
    takes_slot: NDArray[np.bool_]
    reused: NDArray[np.bool_]
    status: NDArray[np.uint8]
    depth: NDArray[np.int32]
    cpu: NDArray[np.int32]
    hold_ns: NDArray[np.int64]
    partner: NDArray[np.int64]
    unmaps: int
    switches: NDArray[np.int32]
    strays: int
    misfits: int


def replay_locals(events: pl.DataFrame, layout: Layout, *, losses: Gaps = NO_GAPS) -> LocalReplay:
    """Replay all local mappings of a trace.

    Parameters
    ----------
    events
        Event table, sorted by `seq`.
    layout
        Of the machine that the trace is from.
    losses
        `seq` of the first event after each loss of events.

    Returns
    -------
    LocalReplay
    """
    ops = events.get_column("op").unique()
    stacks = LocalStacks(layout, switch_hook(ops.cast(pl.String).to_list()), losses)
    piece = stacks.feed(events, 0, last=True)
    maps = events.with_row_index("row").filter(pl.col("op") == "kmap_local")
    row = maps.get_column("row").to_numpy().astype(np.int64)
    vaddr = direct_of(maps, layout)
    status = np.zeros(row.size, np.uint8)
    depth, cpu = np.full((2, row.size), -1, np.int32)
    hold_ns, partner = np.full((2, row.size), -1, np.int64)
    # The piece is in the order of returns, the table in the order of entries.
    where = np.searchsorted(row, piece.row)
    vaddr[where] = layout.kmap_fix_top + piece.pages_in * layout.kmap_fix_step
    status[where], depth[where], cpu[where] = piece.status, piece.depth, piece.cpu
    where = np.searchsorted(row, piece.ended)
    hold_ns[where], partner[where] = piece.hold_ns, piece.ended_by
    return LocalReplay(
        row=row,
        vaddr=vaddr,
        takes_slot=takes_slot(maps, layout).to_numpy(),
        reused=maps.select(reuses(layout)).to_series().to_numpy(),
        status=status,
        depth=depth,
        cpu=cpu,
        hold_ns=hold_ns,
        partner=partner,
        unmaps=piece.unmaps,
        switches=piece.switches,
        strays=piece.strays,
        misfits=piece.misfits,
    )
