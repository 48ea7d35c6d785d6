"""The stacks of local mappings, followed through a trace piece by piece.

What is kept between pieces: the depth of every stack that is not empty, or of which the depth is
known, the mappings on them, and mappings that have not returned yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.events import IN_INTERRUPT, OP_CODE
from replay.local.events import HeldPiece, LocalEvents
from replay.local.wrong import NO_WRONG, WrongUnmaps, wrong_unmaps
from replay.pool.calls import is_reuse
from replay.pool.replay import window_of
from replay.trace.columns import of_ops, op_codes
from replay.trace.losses import NO_GAPS
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from replay.local.loops import Notes, Stacks
    from replay.machine.model import Layout
    from replay.trace.losses import Gaps

_COLUMNS: Final = (
    "seq", "ts", "end_ts", "end_seq", "cpu", "end_cpu", "pid", "ctx", "op", "page", "pfn", "vaddr",
    "parent",
)  # fmt: skip
"""Those of the event table that are looked at."""
_HELD: Final = np.dtype([("stack", "i8"), ("level", "i8"), ("seq", "u8")])
_STACK: Final = np.dtype(
    [("key", "i8"), ("depth", "i8"), ("certain", "?"), ("last", "u1"), ("above", "i4")]
)


class _Rows(NamedTuple):
    """Events of local mappings, a column each; see :class:`replay.local.loops.Locals` for others.

    Attributes
    ----------
    row
        Of the event table.
    at
        Position of a mapping's return, else of the entry.
    ts, seq
        Time of the same; position of the entry.
    stack
        The task's number, the CPU's below zero.
    task
        As of :class:`LocalEvents`.
    up
        Pages of the slot's group above the mapping's own: its colour's place.
    vaddr
        -1 unknown.
    parent, is_nested
        `seq` of the call that an interrupt's mapping came in, and whether it came in one.
    """

    row: NDArray[np.int64]
    at: NDArray[np.uint64]
    ts: NDArray[np.int64]
    seq: NDArray[np.uint64]
    stack: NDArray[np.int64]
    task: NDArray[np.int64]
    cpu: NDArray[np.int32]
    seen: NDArray[np.int32]
    up: NDArray[np.int32]
    vaddr: NDArray[np.int64]
    parent: NDArray[np.uint64]
    is_nested: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    slot: NDArray[np.int32]
    depth: NDArray[np.int32]
    status: NDArray[np.uint8]
    pushed: NDArray[np.bool_]

    def some(self, which: NDArray[Any] | slice) -> _Rows:
        """Some of them, copied."""
        columns: list[Any] = [column[which].copy() for column in self]
        return _Rows(*columns)


_TYPES: Final = (
    "i8", "u8", "i8", "u8", "i8", "i8", "i4", "i4", "i4", "i8", "u8", "?", "u1", "i4", "i4", "u1",
    "?",
)  # fmt: skip


class NewMaps(NamedTuple):
    """Calls that map, in the order of the table.

    Attributes
    ----------
    row : ndarray of int64
    frame : ndarray of int64
        -1 unknown.
    needs_slot : ndarray of bool
    """

    row: NDArray[np.int64]
    frame: NDArray[np.int64]
    needs_slot: NDArray[np.bool_]


_NO_MAPS: Final = NewMaps(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))


class LocalPiece(NamedTuple):
    """What happened in a piece of a trace.

    Attributes
    ----------
    row, slot, depth, cpu, status : ndarray, shape (m,)
        Mappings that returned; see :class:`replay.local.loops.Locals`.
    pages_in : ndarray of int64, shape (m,)
        Their predicted places, in pages from slot 0 of CPU 0 on.
    vaddr : ndarray of int64, shape (m,)
        Address that the kernel returned, -1 unknown.
    ended, ended_by : ndarray of int64
        Rows of the mappings that were taken back, and of their unmaps.
    hold_ns : ndarray of int64
        From the mapping's return to its unmap's entry.
    lowmem, reused
        Calls for pages that need no slot, and that found a mapping of the pool.
    unknown
        Mappings of which neither page nor address is known: they are taken for highmem.
    unmaps
        Unmaps that gave a slot back.
    switches : ndarray of int32
        Mappings held at each context switch that held any.
    switch_rows : ndarray of int64
        Their rows.
    strays, misfits
        Unmaps on an empty stack; unmaps that were not of the newest mapping.
    new, wrong
        Calls of the piece; unmaps that are certainly wrong.
    held, events
        What was held, and what happened; None where it is not wanted.
    """

    row: NDArray[np.int64]
    slot: NDArray[np.int32]
    pages_in: NDArray[np.int64]
    depth: NDArray[np.int32]
    cpu: NDArray[np.int32]
    status: NDArray[np.uint8]
    vaddr: NDArray[np.int64]
    ended: NDArray[np.int64]
    ended_by: NDArray[np.int64]
    hold_ns: NDArray[np.int64]
    unmaps: int
    switches: NDArray[np.int32]
    switch_rows: NDArray[np.int64]
    new: NewMaps
    wrong: WrongUnmaps = NO_WRONG
    held: HeldPiece | None = None
    events: LocalEvents | None = None
    lowmem: int = 0
    reused: int = 0
    unknown: int = 0
    strays: int = 0
    misfits: int = 0


class LocalStacks:
    """Follows the stacks.

    Parameters
    ----------
    layout
        Of the machine that the trace is from.
    hook
        Operation that shows a task losing its CPU: ``sched_out`` where the kernel's own hook was
        traced anywhere in the trace, else ``switch``.
    losses
        Where events were lost.
    wants_held
        Whether the pieces are to tell what was held, and what happened.
    wants_events
        Whether they are to tell what happened.
    """

    def __init__(
        self,
        layout: Layout,
        hook: str,
        losses: Gaps = NO_GAPS,
        *,
        wants_held: bool = False,
        wants_events: bool = False,
    ) -> None:
        self._layout = layout
        self._hook = hook
        self._wants_held = wants_held
        self._wants_events = wants_held or wants_events
        self._expressions = _expressions(layout, hook)
        self._held = np.zeros(0, _HELD)
        self._mapped = _blank(0)  # the events of the mappings held
        self._stacks = np.zeros(0, _STACK)
        self._losses = losses
        self._coming = _lost_at(np.union1d(losses.after, losses.ends))

    @property
    def open_rows(self) -> NDArray[np.int64]:
        """Rows of the mappings that are held or have not returned yet."""
        from replay.local.loops import MAP

        coming = self._coming.row[self._coming.kind == MAP]
        return np.concatenate([self._mapped.row, coming])

    @property
    def held(self) -> NDArray[np.int64]:
        """Row, task and time of each mapping that is held, shape (n, 3)."""
        return np.stack([self._mapped.row, self._mapped.task, self._mapped.ts], axis=1)

    def feed(self, events: pl.DataFrame, first_row: int, *, last: bool) -> LocalPiece:
        """Follow the stacks through a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row.
        last
            Nothing comes behind it.
        """
        from replay.local import loops as kernel

        if not self._wants_held and self._is_empty and not _maps_here(events):
            none = np.zeros((2, 0), np.int32)
            return _piece(_blank(0), none, 0, 0, self._layout.pkmap_colours)
        told = self._told(events, first_row)
        coming = _joined(self._coming, _lost_at(self._losses.within(told.rows.at)), told.rows)
        # Of events at one position (a loss and what comes after it) the loss comes first.
        coming = coming.some(_in_order(coming.at, coming.kind))
        end = int(events["seq"][-1]) if events.height else 0
        settled = coming.at.size if last else int(np.searchsorted(coming.at, end, side="right"))
        start = self._mapped.at.size
        stream = _joined(self._mapped, coming)
        keys = Numbering()
        stack = keys.of(stream.stack)
        stacks = self._state(stream, keys)
        done = kernel.Locals(
            kind=stream.kind,
            stack=stack.astype(np.int32),
            cpu=stream.cpu,
            seen=stream.seen,
            outer=_outer(stream),
            slot=stream.slot,
            depth=stream.depth,
            status=stream.status,
            partner=np.full(stream.at.size, -1, np.int32),
            pushed=stream.pushed,
            owner=np.full(stream.at.size, -1, np.int32),
        )
        stop = start + settled
        layout = self._layout
        notes = kernel.new_notes((stop - start) * self._wants_held, layout.km_max_idx)
        strays, misfits = kernel.run(
            done, stacks, notes, start, stop, layout.km_max_idx, layout.km_step,
            not layout.kmap_per_cpu, self._hook == "sched_out",
        )  # fmt: skip
        lost = bool((done.kind[start:stop] == kernel.LOSS).any())
        self._keep(stream, keys, stacks, stop, lost=lost)
        meant = np.stack([done.partner, done.owner])
        piece = _piece(stream, meant, start, stop, layout.pkmap_colours)
        return piece._replace(
            new=told.new,
            held=_held(stream, notes) if self._wants_held else None,
            events=_events(stream, start, stop) if self._wants_events else None,
            lowmem=told.new.row.size - int(told.new.needs_slot.sum()) - told.reused,
            reused=told.reused,
            unknown=told.unknown,
            strays=int(strays),
            misfits=int(misfits),
        )

    @property
    def _is_empty(self) -> bool:
        """Whether nothing is known of any stack: then switches tell nothing either."""
        return not (self._stacks.size or self._held.size or self._coming.at.size)

    def _state(self, stream: _Rows, keys: Numbering) -> Stacks:
        """State of the stacks that have a number before the stream."""
        from replay.local import loops as kernel

        state = kernel.Stacks(
            np.zeros(keys.count, np.int64),
            np.zeros(keys.count, np.bool_),
            np.full((keys.count, self._layout.km_max_idx + 1), kernel.FREE, np.int32),
            np.full(keys.count, kernel.POPPED, np.uint8),
            np.zeros(keys.count, np.int32),
        )
        at = keys.find(np.ascontiguousarray(self._stacks["key"]))
        here = at >= 0
        for name in ("depth", "certain", "last", "above"):
            getattr(state, name)[at[here]] = self._stacks[name][here]
        # They come first in the stream, but for those that were pushed and have not returned.
        start = self._mapped.at.size
        there = np.append(np.arange(start), start + np.flatnonzero(stream.pushed[start:]))
        there = there[np.argsort(stream.seq[there], kind="stable")]
        event = there[np.searchsorted(stream.seq[there], self._held["seq"])]
        stack = keys.find(np.ascontiguousarray(self._held["stack"]))
        state.held[stack, self._held["level"]] = event
        return state

    def _keep(
        self,
        stream: _Rows,
        keys: Numbering,
        stacks: Stacks,
        stop: int,
        *,
        lost: bool,
    ) -> None:
        """Carry over what the next piece needs."""
        from replay.local.loops import POPPED

        stack, level = np.nonzero(stacks.held >= 0)
        event = stacks.held[stack, level]
        tasks = keys.keys().view(np.int64)
        self._held = np.zeros(event.size, _HELD)
        self._held["stack"], self._held["level"] = tasks[stack], level
        self._held["seq"] = stream.seq[event]
        self._mapped = stream.some(np.unique(event[event < stop]))
        self._coming = stream.some(slice(stop, None))
        others = self._stacks[keys.find(np.ascontiguousarray(self._stacks["key"])) < 0]
        if lost:
            others["certain"], others["above"], others["last"] = False, 0, POPPED
        here = np.zeros(tasks.size, _STACK)
        here["key"] = tasks
        for name in ("depth", "certain", "last", "above"):
            here[name] = getattr(stacks, name)
        self._stacks = np.concatenate([others, here])
        self._stacks = self._stacks[(self._stacks["depth"] > 0) | self._stacks["certain"]]

    def _told(self, events: pl.DataFrame, first_row: int) -> _Told:
        """What a piece of the event table tells of local mappings."""
        from replay.local import loops as kernel

        here = ("kmap_local", "kunmap_local", self._hook)
        rows = of_ops(events.select(_COLUMNS).with_row_index("row", first_row), here)
        if not rows.height:
            none = np.zeros(0, np.int64)
            return _Told(_blank(0), NewMaps(none, none, none.astype(bool)), 0, 0)
        told = {c.name: c.to_numpy() for c in rows.select(self._expressions)}
        kind, takes = told["kind"], told["takes"]
        is_map = kind == kernel.MAP
        # Mappings, unmaps and switches, each in the order of the table.
        kinds = (kernel.MAP, kernel.UNMAP, kernel.SWITCH_OUT)
        index = np.concatenate([np.flatnonzero((kind == k) & takes) for k in kinds])
        blank = _blank(index.size)
        found = {n: told[n][index].astype(getattr(blank, n).dtype) for n in _NAMED}
        return _Told(
            blank._replace(**found),
            NewMaps(told["row"][is_map].astype(np.int64), told["pfn"][is_map], takes[is_map]),
            reused=int(told["reused"].sum()),
            unknown=int(told["nameless"].sum()),
        )


_NAMED: Final = (
    "row", "at", "ts", "seq", "stack", "task", "cpu", "seen", "up", "vaddr", "parent", "is_nested",
    "kind",
)  # fmt: skip


class _Told(NamedTuple):
    """Events of a piece: mappings that take a slot, unmaps of slots, switches, in this order.

    Attributes
    ----------
    rows
        The events.
    new
        Calls that map.
    reused, unknown
        As of :class:`LocalPiece`.
    """

    rows: _Rows
    new: NewMaps
    reused: int
    unknown: int


def _expressions(layout: Layout, hook: str) -> list[pl.Expr]:
    """Columns of :class:`_Rows` for rows of local mappings: of these at their return.

    With them `takes`: whether it takes a slot, gives one back, or is a switch; and `pfn` (-1
    unknown), `reused` and `nameless` of mappings.
    """
    from replay.local import loops as kernel

    op = pl.col("op")
    is_map = op == "kmap_local"
    kind = pl.when(is_map).then(kernel.MAP).when(op == hook).then(kernel.SWITCH_OUT)
    cpu = pl.when(is_map).then(pl.coalesce("end_cpu", "cpu")).otherwise("cpu").cast(pl.Int64)
    task = task_key(cpu)
    stack = cpu if layout.kmap_per_cpu else task  # up to 5.10 every stack is a CPU's
    nested = (pl.col("ctx") & IN_INTERRUPT != 0) & pl.col("parent").is_not_null()
    slot = slot_of(layout)
    takes = (
        pl.when(is_map).then(_takes_slot(layout)).otherwise((op == hook) | (slot.fill_null(0) >= 0))
    )
    columns = {
        "row": pl.col("row"),
        # A return is behind its entry, whatever the table says.
        "at": pl.when(is_map).then(pl.max_horizontal("end_seq", "seq")).otherwise("seq"),
        "ts": pl.when(is_map).then(pl.coalesce("end_ts", "ts")).otherwise("ts"),
        "seq": pl.col("seq"),
        "stack": stack.fill_null(-1),  # the trace does not tell the task
        "task": task.fill_null(-1),
        "cpu": cpu,
        "seen": slot.fill_null(-1),
        # asm/highmem.h of xtensa, kmap_local_map_idx: the highest colour lies highest
        "up": layout.pkmap_colours
        - 1
        - (pl.col("pfn").fill_null(0) % layout.pkmap_colours).cast(pl.Int64),
        "vaddr": pl.col("vaddr").cast(pl.Int64, strict=False).fill_null(-1),
        "parent": pl.col("parent").fill_null(0),
        "is_nested": nested.fill_null(value=False),
        "kind": kind.otherwise(kernel.UNMAP).cast(pl.UInt8),
        "takes": takes,
        "pfn": pl.col("pfn").cast(pl.Int64).fill_null(-1),
        "reused": is_map & reuses(layout),
        "nameless": is_map
        & _takes_slot(layout)
        & pl.all_horizontal(pl.col("page", "pfn", "vaddr").is_null()),
    }
    return [expression.alias(name) for name, expression in columns.items()]


def task_key(cpu: pl.Expr) -> pl.Expr:
    """What a task is known by: an idle task (pid 0) is its CPU's own."""
    pid = pl.col("pid").cast(pl.Int64)
    return pl.when(pid == 0).then(-2 - cpu).otherwise(pid)


def _maps_here(events: pl.DataFrame) -> bool:
    """Whether a piece has a local mapping, or an unmap."""
    op = op_codes(events)
    return bool(((op == OP_CODE["kmap_local"]) | (op == OP_CODE["kunmap_local"])).any())


def _blank(events: int) -> _Rows:
    """So many events of which nothing is known."""
    rows = _Rows(*(np.zeros(events, kind) for kind in _TYPES))
    rows.slot[:] = rows.depth[:] = -1
    return rows


def _lost_at(positions: NDArray[np.int64]) -> _Rows:
    """Events before which nothing is known, in their order."""
    from replay.local.loops import LOSS

    rows = _blank(positions.size)
    rows.at[:] = rows.seq[:] = positions
    rows.kind[:], rows.seen[:] = LOSS, -1
    return rows


def _in_order(at: NDArray[np.uint64], kind: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Order of events by their positions, and of those at one position by their kinds, downwards.

    What is merged is sorted already, kind by kind, which numpy's stable sort makes use of.
    """
    order = np.argsort(at, kind="stable")
    placed = at[order]
    if (placed[1:] != placed[:-1]).all():
        return order
    return np.lexsort((-kind.astype(np.int16), at))


def _joined(*some: _Rows) -> _Rows:
    """Events one behind the other."""
    columns: Any = zip(*some, strict=True)
    return _Rows(*(np.concatenate(column) for column in columns))


def _piece(
    stream: _Rows, meant: NDArray[np.int32], start: int, stop: int, colours: int
) -> LocalPiece:
    """What the events from `start` to `stop` came to; `meant` are partners and owners."""
    from replay.local import loops as kernel

    partner, owner = meant
    kind = stream.kind[start:stop]
    maps = start + np.flatnonzero(kind == kernel.MAP)
    by = np.flatnonzero(partner >= 0)
    of = partner[by]
    out = start + np.flatnonzero(kind == kernel.SWITCH_OUT)
    held = stream.depth[out]
    slot = stream.slot[maps]
    return LocalPiece(
        row=stream.row[maps],
        slot=slot,
        pages_in=slot.astype(np.int64) * colours + stream.up[maps],
        depth=stream.depth[maps],
        cpu=stream.cpu[maps],
        status=stream.status[maps],
        vaddr=stream.vaddr[maps],
        ended=stream.row[of],
        ended_by=stream.row[by],
        hold_ns=stream.ts[by] - stream.ts[of],
        unmaps=int(((kind == kernel.UNMAP) & (stream.slot[start:stop] >= 0)).sum()),
        switches=held[held > 0],
        switch_rows=stream.row[out[held > 0]],
        new=_NO_MAPS,
        wrong=wrong_unmaps(stream, partner, owner, start, stop),
    )


def _held(stream: _Rows, notes: Notes) -> HeldPiece:
    """What the loop noted."""
    from replay.local.loops import MAP

    number, known = notes.used.tolist()
    who = notes.who[:number]
    stop = notes.stop[:number]
    return HeldPiece(
        row=np.where(stream.kind[who] == MAP, stream.row[who], ~stream.row[who]),
        depth=stream.depth[who],
        cpu=stream.cpu[who],
        below=np.diff(stop, prepend=0),
        rows=stream.row[notes.event[:known]],
    )


def _events(stream: _Rows, start: int, stop: int) -> LocalEvents:
    """What the stacks were moved by from `start` to `stop`."""
    from replay.local.loops import LOSS, UNMAP

    kind = stream.kind[start:stop]
    index = np.flatnonzero((kind != LOSS) & ((kind != UNMAP) | (stream.slot[start:stop] >= 0)))
    columns: list[Any] = [getattr(stream, name)[start:stop][index] for name in LocalEvents._fields]
    return LocalEvents(*columns)


def _outer(stream: _Rows) -> NDArray[np.int32]:
    """For a mapping made by an interrupt: the event of the mapping it interrupted."""
    from replay.local.loops import MAP

    outer = np.full(stream.at.size, -1, np.int32)
    nested = np.flatnonzero((stream.kind == MAP) & stream.is_nested)
    if nested.size:
        maps = np.flatnonzero(stream.kind == MAP)
        maps = maps[np.argsort(stream.seq[maps], kind="stable")]
        seq, parent = stream.seq[maps], stream.parent[nested]
        at = np.minimum(np.searchsorted(seq, parent), maps.size - 1)
        found = seq[at] == parent
        outer[nested[found]] = maps[at[found]]
    return outer


def takes_slot(maps: pl.DataFrame, layout: Layout) -> pl.Series:
    """Which mappings need a slot: highmem pages, and whatever is mapped by frame number.

    mm/highmem.c: __kmap_local_page_prot returns the direct address of a lowmem page, unless
    lowmem is forced through slots; __kmap_local_pfn_prot and kmap_atomic_high_prot always take
    one. A page whose frame is not known is judged by the address that came back, and so is one
    that kmap_high_get() found in the pool. Before 5.8 kmap_atomic_prot() was entered for every
    page (20b271dfe9f0 made the inline test for lowmem): there too the direct mapping's address
    tells (observed on 5.0).
    """
    return maps.select(_takes_slot(layout)).to_series()


def _takes_slot(layout: Layout) -> pl.Expr:
    direct = pl.col("vaddr").is_between(layout.page_offset, layout.high_memory, closed="left")
    low_atomic = direct.fill_null(value=False) & pl.lit(layout.kmap_per_cpu)
    by_page = pl.col("page").is_not_null()
    high = pl.col("pfn") >= layout.lowmem_end_pfn
    in_window = slot_of(layout) >= 0
    return (
        pl.when(reuses(layout) | (by_page & low_atomic & pl.lit(not layout.kmap_force_map)))
        .then(pl.lit(value=False))
        .when(~by_page | pl.lit(layout.kmap_per_cpu or layout.kmap_force_map))
        .then(pl.lit(value=True))
        .otherwise(pl.coalesce(high, in_window, pl.lit(value=True)))
    )


def reuses(layout: Layout) -> pl.Expr:
    """Mappings that are the pool's: kmap_high_get() found one (:func:`is_reuse`)."""
    return is_reuse(window_of(layout))


def slot_of(layout: Layout) -> pl.Expr:
    """Slot number of `vaddr`, counted down from slot 0 of CPU 0; -1 outside, null unknown.

    With colours each slot is a group of pages, one per colour (asm/highmem.h of xtensa).
    """
    vaddr = pl.col("vaddr").cast(pl.Int64, strict=False)
    page = vaddr - vaddr % layout.page_size
    slot = (page - layout.kmap_fix_top) // layout.kmap_fix_step // layout.pkmap_colours
    inside = (slot >= 0) & (slot < layout.km_max_idx * layout.nr_cpus)
    return pl.when(inside).then(slot).when(vaddr.is_not_null()).then(-1)


def switch_hook(ops: Iterable[str]) -> str:
    """Operation that shows a task losing its CPU.

    Where the kernel's own hook was traced it counts, else every switch does.
    """
    return "sched_out" if "sched_out" in ops else "switch"


def direct_of(maps: pl.DataFrame, layout: Layout) -> NDArray[np.int64]:
    """Address of each page in the direct mapping; -1 where its frame is not known."""
    address = layout.page_offset + pl.col("pfn").cast(pl.Int64) * layout.page_size
    return maps.select((address - layout.phys_offset).fill_null(-1)).to_series().to_numpy().copy()
