"""What lies around the first divergence: some slots of the pool, or some areas of the arena."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from replay.arena.calls import arena_calls
from replay.arena.state import initial_state
from replay.machine.generations import GENERATIONS
from replay.pool.replay import window_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replay.pool.loops.highmem import Pool
    from replay.run import Replayed

AROUND: Final = 3
"""Slots, or areas, on each side of a place of interest."""


def pool_before(done: Replayed, call: int) -> Pool:
    """The model's pool just before a call was served."""
    from replay.pool.loops import sequence as kernel

    sequence = done.pool.sequence
    here = np.flatnonzero(sequence.call == call)
    stop = int(here[-1]) if here.size else 0
    window = window_of(done.layout)
    pool = window.pool(sequence.calls.pages, sequence.calls.colour)
    empty = np.zeros(stop, np.int32)
    kernel.run(
        pool, sequence.piece.snapshot, sequence.operations[:stop], sequence.time[:stop],
        empty, empty.copy(), empty.copy(), kernel.new_gauges(window.slots, 0, 0, 0),
    )  # fmt: skip
    return pool


def pool_picture(done: Replayed, call: int) -> dict[str, Any]:
    """The slots around the cursor, and those that the model and the kernel chose.

    Parameters
    ----------
    done
        The replay.
    call
        Index of the call that diverges.

    Returns
    -------
    dict
        ``kind`` "pool"; ``last`` (the cursor of the page's colour), ``used``, ``stale``, ``free``
        (numbers of slots), ``rows``: slot, address, pkmap_count, frame (None unknown) and
        ``marks`` of "cursor", "model" and "kernel", by slot.
    """
    from replay.pool.loops.highmem import LAST, STALE, USED, colour_of

    pool, window, calls = pool_before(done, call), window_of(done.layout), done.pool.sequence.calls
    places = {
        "cursor": int(pool.reg[LAST + colour_of(pool, int(calls.page[call]))]),
        "model": int(done.pool.predicted[call]),
        "kernel": int(calls.seen[call]),
    }
    marks: dict[int, list[str]] = {}
    for mark, inside in places.items():
        if inside >= 0:
            slot = int(window.by_address(np.array([inside], np.int64))[0])
            marks.setdefault(slot, []).append(mark)
    near = {
        slot
        for centre in marks
        for slot in range(centre - AROUND, centre + AROUND + 1)
        if 0 <= slot < window.slots
    }
    rows = []
    for slot in sorted(near):
        inside = int(window.inside(np.array([slot], np.int64))[0])
        page = int(pool.page[inside])
        frame = int(calls.pfn[page]) if page >= 0 else -1
        rows.append(
            {
                "slot": slot,
                "address": window.base + slot * window.page_size,
                "count": int(pool.counts[inside]),
                "pfn": frame if frame >= 0 else None,
                "marks": marks.get(slot, []),
            }
        )
    used, stale = int(pool.reg[USED]), int(pool.reg[STALE])
    last = int(window.by_address(np.array([places["cursor"]], np.int64))[0])
    return {
        "kind": "pool",
        "last": last,
        "used": used,
        "stale": stale,
        "free": window.slots - used - stale,
        "rows": rows,
    }


def arena_picture(
    done: Replayed, values: Mapping[str, Any], row: int, predicted: int, observed: int
) -> dict[str, Any]:
    """The areas and holes around the two addresses.

    Parameters
    ----------
    done, values
        The replay, and the facts: what was in use at the start.
    row
        Row of the event table of the allocation that diverges.
    predicted, observed
        Addresses; negative ones have no place.

    Returns
    -------
    dict
        ``kind`` "arena"; ``rows``: start, end, state ("busy", "lazy", "free") and ``marks`` of
        "model" and "kernel", by address.
    """
    generation = GENERATIONS[done.machine.generation]
    calls = arena_calls(done.events, done.layout, values, by_pointer=generation.purge_by_pointer)
    order = generation.lazy_list
    state = initial_state(calls, values, order)
    at = int(calls.allocs.filter(pl.col("row") == row)["at"][0])
    areas = _areas_at(calls.allocs, calls.frees, calls.purges, state.busy, state.lazy, at)
    marks = {"model": predicted, "kernel": observed}
    wanted = [address for address in marks.values() if address >= 0]
    tiles = _with_holes(areas, done.layout.vmalloc_start, done.layout.vmalloc_end)
    near: set[int] = set()
    for address in wanted:
        here = next((i for i, (start, end, _) in enumerate(tiles) if start <= address < end), None)
        if here is not None:
            near |= set(range(max(0, here - AROUND), min(len(tiles), here + AROUND + 1)))
    rows = [
        {
            "start": start,
            "end": end,
            "state": what,
            "marks": [mark for mark, address in marks.items() if start <= address < end],
        }
        for start, end, what in (tiles[i] for i in sorted(near))
    ]
    return {"kind": "arena", "rows": rows}


def _areas_at(
    allocs: pl.DataFrame,
    frees: pl.DataFrame,
    purges: pl.DataFrame,
    busy: Any,
    lazy: Any,
    at: int,
) -> list[tuple[int, int, str]]:
    """Areas that are in use or wait for a purge at a position of the trace, by address."""
    start = pl.DataFrame(
        {"start": busy[:, 0], "end": busy[:, 1]}, schema={"start": pl.Int64, "end": pl.Int64}
    ).with_columns(born=pl.lit(-1, pl.Int64))
    later = allocs.filter((pl.col("at") < at) & (pl.col("seen") > 0)).select(
        start="seen", end=pl.col("seen") + pl.col("size"), born="at"
    )
    gone = frees.filter(pl.col("lo") < at).select("start", freed="lo", key="lo").sort("key")
    born = pl.concat([start, later]).with_columns(key=pl.col("born")).sort("key")
    last = purges.filter(pl.col("at") < at)["detach"].max()
    purged = last if isinstance(last, int) else -1
    lives = born.join_asof(gone, on="key", by="start", strategy="forward", check_sortedness=False)
    out = []
    for first, end, freed in lives.select("start", "end", "freed").iter_rows():
        if freed is None:
            out.append((first, end, "busy"))
        elif freed > purged:
            out.append((first, end, "lazy"))
    if purged < 0:
        out += [(int(a), int(b), "lazy") for a, b in lazy]
    return sorted(out)


def _with_holes(
    areas: list[tuple[int, int, str]], low: int, high: int
) -> list[tuple[int, int, str]]:
    """The arena without gaps: areas, and the holes between them."""
    tiles: list[tuple[int, int, str]] = []
    reached = low
    for start, end, what in areas:
        if start > reached:
            tiles.append((reached, start, "free"))
        tiles.append((start, end, what))
        reached = max(reached, end)
    if reached < high:
        tiles.append((reached, high, "free"))
    return tiles
