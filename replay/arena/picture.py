"""What lies around the first divergence in the arena: some areas, and the holes between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from replay.arena.calls import arena_calls
from replay.arena.state import initial_state
from replay.machine.generations import GENERATIONS

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout
    from replay.machine.model import Machine

AROUND: Final = 3
"""Areas on each side of a place of interest."""


def arena_picture(
    events: pl.DataFrame,
    machine: Machine,
    layout: Layout,
    values: Snapshot,
    row: int,
    predicted: int,
    observed: int,
) -> dict[str, Any]:
    """The areas and holes around the two addresses.

    Parameters
    ----------
    events
        Events of the arena.
    machine, layout, values
        The machine, its address map, and its facts: what was in use at the start.
    row
        Row of `events` that is the allocation that diverges.
    predicted, observed
        Addresses; negative ones have no place.

    Returns
    -------
    dict
        ``kind`` "arena"; ``rows``: start, end, state ("busy", "lazy", "free") and ``marks`` of
        "model" and "kernel", by address.
    """
    generation = GENERATIONS[machine.generation]
    calls = arena_calls(events, layout, values, by_pointer=generation.purge_by_pointer)
    order = generation.lazy_list
    state = initial_state(calls, values, order)
    at = int(calls.allocs.filter(pl.col("row") == row)["at"][0])
    areas = _areas_at(calls.allocs, calls.frees, calls.purges, state.busy, state.lazy, at)
    marks = {"model": predicted, "kernel": observed}
    wanted = [address for address in marks.values() if address >= 0]
    tiles = _with_holes(areas, layout.vmalloc_start, layout.vmalloc_end)
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
