"""What lies around the first divergence in the arena: some areas, and the holes between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from replay.arena.state import initial_state
from replay.machine.generations import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collectors.snapshot import Snapshot
    from replay.arena.calls import ArenaCalls
    from replay.arena.pieces import ArenaPiece
    from replay.arena.state import ArenaState
    from replay.machine.layout import Layout
    from replay.machine.model import Machine

AROUND: Final = 3
"""Areas on each side of a place of interest."""


def arena_picture(
    pieces: Iterable[ArenaPiece],
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
    pieces
        Calls of the arena; gone through twice.
    machine, layout, values
        The machine, its address map, and its facts: what was in use at the start.
    row
        Row of the event table that is the allocation that diverges.
    predicted, observed
        Addresses; negative ones have no place.

    Returns
    -------
    dict
        ``kind`` "arena"; ``rows``: start, end, state ("busy", "lazy", "free") and ``marks`` of
        "model" and "kernel", by address.
    """
    order = GENERATIONS[machine.generation].lazy_list
    state = initial_state(pieces, values, order)
    areas = _areas_at(pieces, state, row)
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


_LIVES: Final = {"start": pl.Int64, "end": pl.Int64, "born": pl.Int64, "freed": pl.Int64}


def _areas_at(
    pieces: Iterable[ArenaPiece], state: ArenaState, row: int
) -> list[tuple[int, int, str]]:
    """Areas that are in use or wait for a purge when a call is served, by address."""
    lives = pl.DataFrame(
        {"start": state.busy[:, 0], "end": state.busy[:, 1]},
        schema={"start": pl.Int64, "end": pl.Int64},
    ).with_columns(born=pl.lit(-1, pl.Int64), freed=pl.lit(None, pl.Int64))
    purged = -1
    for piece in pieces:
        calls = piece.calls
        here = calls.allocs.filter(pl.col("row") == row)
        at = int(here["at"][0]) if here.height else piece.end
        lives, purged = _lives_at(lives, calls, at, purged)
        if here.height:
            break
    out = [
        (start, end, "busy" if freed is None else "lazy")
        for start, end, freed in lives.select("start", "end", "freed").iter_rows()
    ]
    if purged < 0:
        out += [(int(a), int(b), "lazy") for a, b in state.lazy]
    return sorted(out)


def _lives_at(
    lives: pl.DataFrame, calls: ArenaCalls, at: int, purged: int
) -> tuple[pl.DataFrame, int]:
    """Areas that are in use or wait at a position of a piece, and where the last purge began."""
    later = calls.allocs.filter((pl.col("at") < at) & (pl.col("seen") > 0)).select(
        start="seen", end=pl.col("seen") + pl.col("size"), born="at", freed=pl.lit(None, pl.Int64)
    )
    gone = calls.frees.filter(pl.col("lo") < at).select("start", gone="lo", key="lo").sort("key")
    known = pl.concat([lives, later.select(*_LIVES)]).sort("born", maintain_order=True)
    last = calls.purges.filter(pl.col("at") < at)["detach"].max()
    purged = last if isinstance(last, int) else purged
    found = known.join_asof(
        gone, left_on="born", right_on="key", by="start", strategy="forward",
        check_sortedness=False,
    )  # fmt: skip
    told = found.with_columns(freed=pl.coalesce("freed", "gone")).select(*_LIVES)
    return told.filter(pl.col("freed").is_null() | (pl.col("freed") > purged)), purged


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
