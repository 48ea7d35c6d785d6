"""The stacks of local mappings, followed through a trace piece by piece.

What is kept between pieces: the depth of every stack that is not empty, or of which the depth is
known, the mappings on them, and mappings that have not returned yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.events import IN_INTERRUPT
from replay.pool.calls import is_reuse
from replay.pool.replay import window_of
from replay.trace.columns import of_ops

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from replay.local.loops import Stacks
    from replay.machine.model import Layout

_EVENT: Final = np.dtype(
    [
        ("row", "i8"),  # of the event table
        ("at", "u8"),  # position of a mapping's return, else of the entry
        ("ts", "i8"),
        ("seq", "u8"),
        ("stack", "i8"),  # the task's number, the CPU's below zero
        ("cpu", "i4"),
        ("seen", "i4"),  # slot, -1 unknown
        ("up", "i4"),  # pages of the slot's group above the mapping's own: its colour's place
        ("vaddr", "i8"),  # -1 unknown
        ("parent", "u8"),  # `seq` of the call that an interrupt's mapping came in
        ("is_nested", "?"),
        ("kind", "u1"),
        ("slot", "i4"),
        ("depth", "i4"),
        ("status", "u1"),
        ("pushed", "?"),
        ("spared", "?"),  # another machine does not need it
        ("below", "i4"),  # such ones below it
    ]
)
_COLUMNS: Final = (
    "seq", "ts", "end_ts", "end_seq", "cpu", "end_cpu", "pid", "ctx", "op", "page", "pfn", "vaddr",
    "parent",
)  # fmt: skip
"""Those of the event table that are looked at."""
_HELD: Final = np.dtype([("stack", "i8"), ("level", "i8"), ("seq", "u8")])
_STACK: Final = np.dtype(
    [("key", "i8"), ("depth", "i8"), ("certain", "?"), ("last", "u1"), ("above", "i4")]
)


@dataclass(frozen=True)
class Elsewhere:
    """What of a piece is left on a machine that does not need some of the mappings.

    Attributes
    ----------
    depth, cpu : ndarray of int32
        Of the mappings that it needs.
    ended
        Those that were taken back.
    switches : ndarray of int32
        Mappings held at each context switch that held any.
    """

    depth: NDArray[np.int32]
    cpu: NDArray[np.int32]
    ended: int
    switches: NDArray[np.int32]


@dataclass(frozen=True)
class LocalPiece:
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
    elsewhere
        The same without the mappings that were named as needless.
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
    elsewhere: Elsewhere
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
        `seq` of the first event after each loss of events.
    """

    def __init__(self, layout: Layout, hook: str, losses: Sequence[int] = ()) -> None:
        from replay.local.loops import LOSS

        self._layout = layout
        self._hook = hook
        self._held = np.zeros(0, _HELD)
        self._mapped = np.zeros(0, _EVENT)  # the events of the mappings held
        self._stacks = np.zeros(0, _STACK)
        self._coming = np.zeros(len(losses), _EVENT)
        self._coming["at"] = self._coming["seq"] = sorted(losses)
        self._coming["kind"], self._coming["seen"] = LOSS, -1

    @property
    def open_rows(self) -> NDArray[np.int64]:
        """Rows of the mappings that are held or have not returned yet."""
        from replay.local.loops import MAP

        coming = self._coming["row"][self._coming["kind"] == MAP]
        return np.concatenate([self._mapped["row"], coming])

    def feed(
        self,
        events: pl.DataFrame,
        first_row: int,
        *,
        last: bool,
        spared: NDArray[np.bool_] | None = None,
    ) -> LocalPiece:
        """Follow the stacks through a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row.
        last
            Nothing comes behind it.
        spared
            Per row: a mapping that another machine does not need; None: it needs all.
        """
        from replay.local import loops as kernel

        here = ("kmap_local", "kunmap_local", self._hook)
        table = of_ops(events.select(_COLUMNS).with_row_index("row", first_row), here)
        maps = table.filter(pl.col("op") == "kmap_local")
        high = maps.filter(takes_slot(maps, self._layout))
        new = self._events_of(table, high)
        if spared is not None:
            new["spared"] = spared[new["row"] - first_row]
        coming = _joined(self._coming, new)
        # Of events at one position (a loss and what comes after it) the loss comes first.
        coming = _taken(coming, _in_order(coming["at"].copy(), coming["kind"]))
        end = int(events["seq"][-1]) if events.height else 0
        settled = np.searchsorted(coming["at"], end, side="right") if not last else coming.size
        start = self._mapped.size
        stream = _joined(self._mapped, coming)
        keys, stack = np.unique(stream["stack"].copy(), return_inverse=True)
        stacks = self._state(stream, keys)
        done = kernel.Locals(
            kind=stream["kind"].copy(),
            stack=stack.astype(np.int32),
            cpu=stream["cpu"].copy(),
            seen=stream["seen"].copy(),
            outer=_outer(stream),
            slot=stream["slot"].copy(),
            depth=stream["depth"].copy(),
            status=stream["status"].copy(),
            partner=np.full(stream.size, -1, np.int32),
            pushed=stream["pushed"].copy(),
            spared=stream["spared"].copy(),
            below=stream["below"].copy(),
        )
        stop = start + int(settled)
        layout = self._layout
        strays, misfits = kernel.run(
            done, stacks, start, stop, layout.km_max_idx, layout.km_step,
            not layout.kmap_per_cpu, self._hook == "sched_out",
        )  # fmt: skip
        for name in ("slot", "depth", "status", "pushed", "below"):
            stream[name] = getattr(done, name)
        lost = bool((done.kind[start:stop] == kernel.LOSS).any())
        self._keep(stream, keys, stacks, stop, lost=lost)
        piece = _piece(stream, done.partner, start, stop, layout.pkmap_colours)
        reused = maps.filter(reuses(layout)).height
        return replace(
            piece,
            lowmem=maps.height - high.height - reused,
            reused=reused,
            unknown=nameless(high),
            strays=int(strays),
            misfits=int(misfits),
        )

    def _state(self, stream: NDArray[np.void], keys: NDArray[np.int64]) -> Stacks:
        """State of the stacks `keys` before the stream."""
        from replay.local import loops as kernel

        state = kernel.Stacks(
            np.zeros(keys.size, np.int64),
            np.zeros(keys.size, np.bool_),
            np.full((keys.size, self._layout.km_max_idx + 1), kernel.FREE, np.int32),
            np.full(keys.size, kernel.POPPED, np.uint8),
            np.zeros(keys.size, np.int32),
        )
        at = np.searchsorted(keys, self._stacks["key"])
        here = at < keys.size
        here[here] = keys[at[here]] == self._stacks["key"][here]
        for name in ("depth", "certain", "last", "above"):
            getattr(state, name)[at[here]] = self._stacks[name][here]
        maps = np.flatnonzero(stream["kind"] == kernel.MAP)
        maps = maps[np.argsort(stream["seq"][maps], kind="stable")]
        event = maps[np.searchsorted(stream["seq"][maps], self._held["seq"])]
        state.held[np.searchsorted(keys, self._held["stack"]), self._held["level"]] = event
        return state

    def _keep(
        self,
        stream: NDArray[np.void],
        keys: NDArray[np.int64],
        stacks: Stacks,
        stop: int,
        *,
        lost: bool,
    ) -> None:
        """Carry over what the next piece needs."""
        from replay.local.loops import POPPED

        stack, level = np.nonzero(stacks.held >= 0)
        event = stacks.held[stack, level]
        self._held = np.zeros(event.size, _HELD)
        self._held["stack"], self._held["level"] = keys[stack], level
        self._held["seq"] = stream["seq"][event]
        self._mapped = stream[np.unique(event[event < stop])]
        self._coming = stream[stop:].copy()  # a view would keep all of it
        others = self._stacks[~np.isin(self._stacks["key"], keys)]
        if lost:
            others["certain"], others["above"], others["last"] = False, 0, POPPED
        here = np.zeros(keys.size, _STACK)
        here["key"] = keys
        for name in ("depth", "certain", "last", "above"):
            here[name] = getattr(stacks, name)
        self._stacks = np.concatenate([others, here])
        self._stacks = self._stacks[(self._stacks["depth"] > 0) | self._stacks["certain"]]

    def _events_of(self, table: pl.DataFrame, maps: pl.DataFrame) -> NDArray[np.void]:
        """Mappings that take a slot, unmaps of slots, and switches, in this order."""
        from replay.local import loops as kernel

        unmaps = table.filter(
            (pl.col("op") == "kunmap_local") & (slot_of(self._layout).fill_null(0) >= 0)
        )
        switches = table.filter(pl.col("op") == self._hook)
        return np.concatenate(
            [
                self._rows(maps, kernel.MAP, ended=True),
                self._rows(unmaps, kernel.UNMAP),
                self._rows(switches, kernel.SWITCH_OUT),
            ]
        )

    def _rows(self, rows: pl.DataFrame, kind: int, *, ended: bool = False) -> NDArray[np.void]:
        """Rows as events: at their return (`ended`) or at their entry."""
        layout = self._layout
        if ended:
            rows = rows.with_columns(
                # A return is behind its entry, whatever the table says.
                at=pl.max_horizontal("end_seq", "seq"),
                ts=pl.coalesce("end_ts", "ts"),
                cpu=pl.coalesce("end_cpu", "cpu"),
            )
        else:
            rows = rows.with_columns(at="seq")
        cpu, pid = pl.col("cpu").cast(pl.Int64), pl.col("pid").cast(pl.Int64)
        # An idle task (pid 0) is its CPU's own; up to 5.10 every stack is a CPU's.
        stack = cpu if layout.kmap_per_cpu else pl.when(pid == 0).then(-2 - cpu).otherwise(pid)
        nested = (pl.col("ctx") & IN_INTERRUPT != 0) & pl.col("parent").is_not_null()
        rows = rows.select(
            "row", "at", "ts", "seq",
            stack=stack.fill_null(-1),  # the trace does not tell the task
            cpu=cpu,
            seen=slot_of(layout).fill_null(-1),
            # asm/highmem.h of xtensa, kmap_local_map_idx: the highest colour lies highest
            up=layout.pkmap_colours
            - 1
            - (pl.col("pfn").fill_null(0) % layout.pkmap_colours).cast(pl.Int64),
            vaddr=pl.col("vaddr").cast(pl.Int64, strict=False).fill_null(-1),
            parent=pl.col("parent").fill_null(0),
            is_nested=nested.fill_null(value=False),
        )  # fmt: skip
        out = np.zeros(rows.height, _EVENT)
        for name in rows.columns:
            out[name] = rows.get_column(name).to_numpy()
        out["kind"], out["slot"], out["depth"] = kind, -1, -1
        return out


def _in_order(at: NDArray[np.uint64], kind: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Order of events by their positions, and of those at one position by their kinds, downwards.

    What is merged is sorted already, kind by kind, which numpy's stable sort makes use of.
    """
    order = np.argsort(at, kind="stable")
    placed = at[order]
    if (placed[1:] != placed[:-1]).all():
        return order
    return np.lexsort((-kind.astype(np.int16), at))


def _taken(rows: NDArray[np.void], which: NDArray[Any]) -> NDArray[np.void]:
    """Some of the rows, copied as they lie: numpy copies structures field by field."""
    plain = np.dtype((np.void, rows.dtype.itemsize))
    taken: NDArray[np.void] = rows.view(plain)[which].view(rows.dtype)
    return taken


def _joined(one: NDArray[np.void], two: NDArray[np.void]) -> NDArray[np.void]:
    """Rows one behind the other, copied as they lie."""
    plain = np.dtype((np.void, one.dtype.itemsize))
    return np.concatenate([one.view(plain), two.view(plain)]).view(one.dtype)


def _piece(
    stream: NDArray[np.void],
    partner: NDArray[np.int32],
    start: int,
    stop: int,
    colours: int,
) -> LocalPiece:
    """What the events from `start` to `stop` came to."""
    from replay.local import loops as kernel

    here = stream[start:stop]
    maps = _taken(here, here["kind"] == kernel.MAP)
    by = np.flatnonzero(partner >= 0)
    of = partner[by]
    out = _taken(here, here["kind"] == kernel.SWITCH_OUT)
    held, needed = out["depth"], out["depth"] - out["below"]
    unmaps = int(((here["kind"] == kernel.UNMAP) & (here["slot"] >= 0)).sum())
    kept = _taken(maps, ~maps["spared"])
    elsewhere = Elsewhere(
        depth=kept["depth"] - kept["below"],
        cpu=kept["cpu"],
        ended=unmaps - int(stream["spared"][of].sum()),
        switches=needed[needed > 0],
    )
    return LocalPiece(
        row=maps["row"],
        slot=maps["slot"],
        pages_in=maps["slot"].astype(np.int64) * colours + maps["up"],
        depth=maps["depth"],
        cpu=maps["cpu"],
        status=maps["status"],
        vaddr=maps["vaddr"],
        ended=stream["row"][of],
        ended_by=stream["row"][by],
        hold_ns=stream["ts"][by] - stream["ts"][of],
        unmaps=unmaps,
        switches=held[held > 0],
        switch_rows=out["row"][held > 0],
        elsewhere=elsewhere,
    )


def _outer(stream: NDArray[np.void]) -> NDArray[np.int32]:
    """For a mapping made by an interrupt: the event of the mapping it interrupted."""
    from replay.local.loops import MAP

    outer = np.full(stream.size, -1, np.int32)
    nested = np.flatnonzero((stream["kind"] == MAP) & stream["is_nested"])
    if nested.size:
        maps = np.flatnonzero(stream["kind"] == MAP)
        maps = maps[np.argsort(stream["seq"][maps], kind="stable")]
        seq, parent = stream["seq"][maps], stream["parent"][nested]
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
    direct = pl.col("vaddr").is_between(layout.page_offset, layout.high_memory, closed="left")
    low_atomic = direct.fill_null(value=False) & pl.lit(layout.kmap_per_cpu)
    by_page = pl.col("page").is_not_null()
    high = pl.col("pfn") >= layout.lowmem_end_pfn
    in_window = slot_of(layout) >= 0
    return maps.select(
        pl.when(reuses(layout) | (by_page & low_atomic & pl.lit(not layout.kmap_force_map)))
        .then(pl.lit(value=False))
        .when(~by_page | pl.lit(layout.kmap_per_cpu or layout.kmap_force_map))
        .then(pl.lit(value=True))
        .otherwise(pl.coalesce(high, in_window, pl.lit(value=True)))
    ).to_series()


def nameless(maps: pl.DataFrame) -> int:
    """Number of mappings of which neither page nor address is known."""
    return maps.filter(pl.all_horizontal(pl.col("page", "pfn", "vaddr").is_null())).height


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
