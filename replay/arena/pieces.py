"""The arena's calls of a trace in pieces, cut where nothing is under way.

A piece ends where every call that began before has returned and every purge has given its areas
back, so that what is replayed of it needs no later piece. Where the pieces end follows from the
trace alone, not from the windows that it is read in. Frees hold no piece open: how long one may
have taken to reach the lazy list matters to the purge that takes it only, and what a later piece
tells of it is handed on (`bounds`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.records import dataclass
from replay.arena.blocks import block_rows
from replay.arena.calls import (
    NEVER,
    POINTS,
    ArenaCalls,
    Before,
    arena_calls,
    first_after,
    known_ends,
    own_points,
)
from replay.arena.rows import ArenaRows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout
    from replay.trace.parts import Parts
    from replay.trace.windows import Window

ROWS: Final = 1 << 16
"""Events of the arena from which on a piece may end."""
LONGEST: Final = 4
"""Times :data:`ROWS`: a piece ends there, whatever is under way."""
AHEAD: Final = 2
"""Part of :data:`ROWS` behind a piece in which the purge that follows it is looked for."""
MAX_WAITING: Final = 1 << 16
"""Frees at most whose tasks are waited for; of earlier ones nobody tells when they were over."""
MAX_ENDS: Final = 1 << 20
"""Areas at most of which the end is kept for a free that does not tell it: all pages of 4 GiB."""
_WAITING: Final = {"row": pl.Int64, "pid": pl.Int32, "lo": pl.Int64}
_FRAMES: Final = ("allocs", "frees", "purges", "away", "flushes", "unusable")


class NextPurge(NamedTuple):
    """The first purge behind a piece: the range that it flushed, its entry, when it was over.

    `seen_start` and `seen_end` as in :class:`replay.arena.calls.ArenaCalls`.
    """

    seen_start: int = -1
    seen_end: int = -1
    lo: int = NEVER
    hi: int = NEVER


@dataclass(frozen=True)
class ArenaPiece:
    """Calls of the arena between two positions of a trace.

    Attributes
    ----------
    calls
        As of a whole trace.
    blocks
        Of :func:`replay.arena.blocks.block_rows`.
    bounds
        `row`, `hi`: ends of the intervals of frees of earlier pieces, which were not known there.
    next_purge
        None: there is none, or none that is near.
    begin, end
        Its positions.
    forced
        A call was under way where it ends: it had not returned for too long.
    last
        Nothing comes behind it.
    """

    calls: ArenaCalls
    blocks: pl.DataFrame
    bounds: pl.DataFrame
    next_purge: NextPurge | None
    begin: int
    end: int
    forced: bool
    last: bool


class ArenaPieces:
    """The pieces of a trace, one after another.

    Parameters
    ----------
    parts, prefix
        Where they are kept, and what the names of their tables begin with.
    """

    def __init__(self, parts: Parts, prefix: str = "arena") -> None:
        self._parts, self._prefix = parts, prefix

    def put(self, number: int, piece: ArenaPiece) -> None:
        """Keep a piece."""
        calls, following = piece.calls, piece.next_purge
        for name in _FRAMES:
            self._parts.put(f"{self._prefix}-{name}-{number}", getattr(calls, name))
        self._parts.put(f"{self._prefix}-blocks-{number}", piece.blocks)
        self._parts.put(f"{self._prefix}-bounds-{number}", piece.bounds)
        facts: dict[str, Any] = {
            "derived": calls.derived, "purges_traced": calls.purges_traced,
            "begin": piece.begin, "end": piece.end, "forced": piece.forced,
            "followed": following is not None, "last": piece.last,
            **(following or NextPurge())._asdict(),
        }  # fmt: skip
        self._parts.put(f"{self._prefix}-facts-{number}", pl.DataFrame([facts]))

    def __iter__(self) -> Iterator[ArenaPiece]:
        """The pieces, as often as is wanted; at least one."""
        number, last = 0, False
        while not last:
            facts = self._get("facts", number).row(0, named=True)
            following = NextPurge(*(facts[name] for name in NextPurge._fields))
            calls = ArenaCalls(
                **{name: self._get(name, number) for name in _FRAMES},
                derived=facts["derived"],
                purges_traced=facts["purges_traced"],
            )
            yield ArenaPiece(
                calls,
                self._get("blocks", number),
                self._get("bounds", number),
                following if facts["followed"] else None,
                *(facts[name] for name in ("begin", "end", "forced", "last")),
            )
            number, last = number + 1, facts["last"]

    def _get(self, name: str, number: int) -> pl.DataFrame:
        return self._parts.get(f"{self._prefix}-{name}-{number}")


class ArenaCutter:
    """Makes the pieces of a trace from its windows.

    Parameters
    ----------
    layout, values, by_pointer, ops
        As for :func:`replay.arena.calls.arena_calls`.
    into
        Where the pieces go.
    rows
        Events from which on a piece may end; None: :data:`ROWS`.
    """

    def __init__(
        self,
        layout: Layout,
        values: Snapshot,
        ops: Collection[str],
        into: ArenaPieces,
        *,
        by_pointer: bool,
        rows: int | None = None,
    ) -> None:
        rows = ROWS if rows is None else rows
        self._layout, self._values, self._ops = layout, values, ops
        self._by_pointer, self._rows, self._into = by_pointer, rows, into
        self._picked = ArenaRows(layout)
        self._buffer: list[pl.DataFrame] = []
        self._wanted = 0
        self._enough = self._take = rows + rows // AHEAD
        self._number = self._begin = 0
        self._before = Before()
        self._waiting = pl.DataFrame(schema=_WAITING)

    def feed(self, window: Window) -> None:
        """Take a window."""
        kept = self._picked.feed(window)
        self._buffer.append(kept)
        self._wanted += int(kept.get_column("wanted").sum())
        reached = 2 * int(window.table["seq"][-1]) + 1 if window.table.height else self._begin
        while self._wanted >= self._enough or (window.last and self._buffer):
            whole = pl.concat(self._buffer)
            self._buffer = [whole]
            before = whole.get_column("wanted").cum_sum() <= self._enough
            part = whole.filter(before)
            is_all = part.height == whole.height
            until = reached if is_all else 2 * int(part["seq"][-1]) + 1
            if self._cut(part, until, last=window.last and is_all):
                self._enough = self._take
            elif is_all:
                self._enough = self._wanted + max(1, self._take // AHEAD)
                return
            else:
                self._enough *= 2

    def _cut(self, table: pl.DataFrame, reached: int, *, last: bool) -> bool:
        """Make a piece of the first events that are kept; False where it cannot end yet."""
        calls = arena_calls(
            table.drop("wanted"), self._layout, self._values,
            by_pointer=self._by_pointer, ops=self._ops, before=self._before,
        )  # fmt: skip
        blocks = block_rows(table, self._ops)
        at = _place_to_cut(table, calls, blocks, self._rows, reached, last=last)
        if at is None:
            return False
        self._emit(table, calls, blocks, at, NEVER if last else reached)
        return True

    def _emit(
        self, table: pl.DataFrame, calls: ArenaCalls, blocks: pl.DataFrame, at: _Place, known: int
    ) -> None:
        points = own_points(table, self._before.points)
        here, following = _until(calls, at.end), _purge_from(calls, at.end, known)
        found = first_after(self._waiting, "lo", points)
        told = (found <= known).fill_null(value=False)
        bounds = self._waiting.select("row", hi=found - 1).filter(told)
        seq = pl.col("seq").cast(pl.Int64) * 2
        done = at.end > known
        self._into.put(
            self._number,
            ArenaPiece(
                here, blocks.filter(seq < at.end), bounds, following, self._begin,
                at.end, at.forced, done,
            ),
        )  # fmt: skip
        rest = self._buffer[0].filter(seq >= at.end)
        self._buffer = [] if done else [rest]
        self._wanted = int(rest.get_column("wanted").sum())
        self._number += 1
        self._begin = at.end
        waiting = here.frees.filter(pl.col("hi") + 1 > known).select(
            pl.col("row").cast(pl.Int64), "pid", "lo"
        )
        self._waiting = pl.concat([self._waiting.filter(~told), waiting]).tail(MAX_WAITING)
        self._before = self._behind(table.filter(seq < at.end), here, at.end)

    def _behind(self, table: pl.DataFrame, calls: ArenaCalls, end: int) -> Before:
        """What the next piece has to know."""
        points = own_points(table, self._before.points).filter(pl.col("at") >= end)
        purges = calls.purges
        ends = pl.concat([self._before.ends, known_ends(calls.allocs)]).sort("lo")
        ends = ends.unique("start", keep="last", maintain_order=True).tail(MAX_ENDS)
        return Before(
            points.cast(POINTS),
            2 * int(purges["seq"][-1]) if purges.height else self._before.purge,
            ends,
        )


class _Place(NamedTuple):
    """Where a piece ends, and whether calls are under way there."""

    end: int
    forced: bool


def _place_to_cut(
    table: pl.DataFrame, calls: ArenaCalls, blocks: pl.DataFrame, rows: int, reached: int, *,
    last: bool,
) -> _Place | None:  # fmt: skip
    """The first place behind so many events at which nothing is under way; None: not known yet."""
    wanted = table.filter("wanted").select(pl.col("seq").cast(pl.Int64) * 2).to_series().to_numpy()
    end = _Place(NEVER + 2, forced=False)
    if wanted.size < rows:
        return end if last else None
    tried = wanted[rows - 1 : rows * LONGEST]
    places = np.sort(np.concatenate([tried[1:], tried + 1]))
    places = places[places <= reached]
    clear = places[~_under_way(calls, blocks, places)]
    if not clear.size:
        if wanted.size < rows * LONGEST:
            return end if last else None
        # What a purge that goes on has given back is not known; of a call nothing is.
        at = int(wanted[rows * LONGEST - 1]) + 1
        forced = _under_way(calls, blocks, np.array([at]), purges=False)
        return _Place(at, forced=bool(forced[0]))
    at = int(clear[0])
    purges = calls.purges
    following = purges.filter(pl.col("seq") * 2 >= at)
    unsettled = following.height == 0 or bool(following["hi"][0] > reached)
    near = int((wanted >= at).sum()) <= rows // AHEAD
    if purges.height and unsettled and near and not last:
        return None
    return _Place(at, forced=False)


def _under_way(
    calls: ArenaCalls, blocks: pl.DataFrame, places: NDArray[np.int64], *, purges: bool = True
) -> NDArray[np.bool_]:
    """Whether a call, or a purge, that began before each place had not ended by then."""
    mapped = blocks.filter(pl.col("op") == "vm_map_ram")
    spans = pl.concat([
        calls.allocs.select(first=pl.col("seq") * 2, last="hi"),
        calls.purges[: None if purges else 0].select(first="since", last="hi"),
        mapped.select(
            first=pl.col("seq").cast(pl.Int64) * 2,
            last=pl.coalesce("end_seq", "seq").cast(pl.Int64) * 2,
        ),
    ]).sort("first")  # fmt: skip
    first, reach = spans["first"].to_numpy(), np.append(-1, spans["last"].cum_max().to_numpy())
    return np.asarray(reach[np.searchsorted(first, places)] >= places, bool)


def _until(calls: ArenaCalls, end: int) -> ArenaCalls:
    """The calls that began before a place; what had not ended there is taken to have."""
    seq = pl.col("seq") * 2
    clip = pl.min_horizontal("hi", pl.lit(end - 1))
    purges = calls.purges.filter(seq < end)
    return replace(
        calls,
        allocs=calls.allocs.filter(seq < end).with_columns(
            hi=clip, at=pl.min_horizontal("at", pl.lit(end - 1))
        ),
        frees=calls.frees.filter(pl.col("lo") < end),
        purges=purges.with_columns(
            pl.Series("open", purges.get_column("hi") >= end),
            *(
                pl.min_horizontal(name, pl.lit(end - 1)).alias(name)
                for name in ("lo", "hi", "at", "detach")
            ),
        ),
        away=calls.away.filter(pl.col("purge") < purges.height),
        flushes=calls.flushes.filter(pl.col("at") < end),
        unusable=calls.unusable.filter(pl.col("at") < end),
    )


def _purge_from(calls: ArenaCalls, end: int, known: int) -> NextPurge | None:
    """The first purge from a place on, where all of it is known."""
    purges = calls.purges.filter(pl.col("seq") * 2 >= end)
    if not purges.height or purges["hi"][0] > known:
        return None
    return NextPurge(*purges.select("seen_start", "seen_end", "entry", "hi").row(0))
