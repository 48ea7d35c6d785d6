"""vm_map_ram(): every address beside the prediction, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from collectors.records import dataclass
from replay.arena.result import Summed
from replay.trace.tasks import own_events

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.arena.loops.blocks import Blocks
    from replay.machine.layout import Layout

MAX_PIECE: Final = 32
"""VMAP_MAX_ALLOC: above so many pages vm_map_ram() takes an area of its own."""


_OPS: Final = ("vm_map_ram", "vm_unmap_ram", "area_free", "area_purge")
_COLUMNS: Final = (
    "row", "seq", "end_seq", "cpu", "end_cpu", "pid", "op", "vaddr", "pages", "start", "end",
    "parent",
)  # fmt: skip


@dataclass(frozen=True)
class BlockTally(Summed):
    """What came of vm_map_ram().

    Attributes
    ----------
    total, exact
        Calls whose address was traced, and those that were predicted.
    initial
        Those whose address told of a block that was there at the start: no prediction.
    ordering
        Calls whose queue or place an observed address decided.
    released, released_predicted
        Blocks given up, and of these the ones that the model gives up too.
    aliases, aliases_matched
        Ranges that vm_unmap_aliases() handed to a purge, and those predicted.
    """

    total: int = 0
    exact: int = 0
    initial: int = 0
    ordering: int = 0
    released: int = 0
    released_predicted: int = 0
    aliases: int = 0
    aliases_matched: int = 0


class BlockRun:
    """Replays vm_map_ram() and vm_unmap_ram(), piece by piece.

    Parameters
    ----------
    layout
        For the size of a block.
    values
        Facts: the blocks in ``areas``.
    forget
        ``Generation.dirty_range_reset``.
    """

    def __init__(self, layout: Layout, values: Snapshot, *, forget: bool) -> None:
        from replay.arena.loops.blocks import new_blocks

        self._layout, self._forget = layout, forget
        size = layout.vmap_block_pages * layout.page_size
        known = [
            a.start for a in values.areas
            if a.kind == "vm_map_ram" and a.end - a.start == size and a.start % size == 0
        ]  # fmt: skip
        self._blocks = new_blocks(0, np.array(known, np.int64), layout.page_size)

    def take(self, table: pl.DataFrame, areas: pl.DataFrame, begin: int) -> BlockTally:
        """Go on.

        Parameters
        ----------
        table
            Of :func:`block_rows`.
        areas
            Allocations of the arena in this piece: `parent`, `seq` and `end` (Int64, of entry and
            return), `size`, `align`, `seen`, `predicted`, `end_cpu`.
        begin
            `seq` from which on events are in this piece.
        """
        from replay.arena.loops import blocks as kernel

        if not table.height:
            return BlockTally()
        bits = self._layout.vmap_block_pages
        size = bits * self._layout.page_size
        calls = _calls(table, areas)
        small = calls.filter(pl.col("pages").is_between(1, MAX_PIECE))
        is_block = ((pl.col("size") == size) & (pl.col("align") == size)).fill_null(value=False)
        plain = small.filter(~is_block)
        fresh = small.filter(is_block)
        # What an earlier piece held of a call is not looked at again.
        aliases = _aliases(table, self._layout).with_columns(
            at=pl.max_horizontal("at", pl.lit(begin - 1)),
            since=pl.max_horizontal(
                pl.min_horizontal(pl.col("before").fill_null(0), "at"), pl.lit(begin - 1)
            ),
        )
        parts = [
            _part(kernel.MAP, plain, at="done", address="seen", units="units",
                  cpu2="end_cpu", end=pl.col("done") - pl.col("seq")),
            _part(kernel.TRY, fresh, at="area_seq", units="units"),
            _part(kernel.NEW, fresh, at="area_end", address="block", units="units",
                  cpu="area_cpu"),
            _part(kernel.UNMAP, _pieces(table, "vm_unmap_ram"), at="seq", address="vaddr",
                  units="units"),
            _part(kernel.RELEASE, _pieces(table, "area_free"), at="seq", address="vaddr"),
            _part(kernel.ALIAS, aliases, at="at", address="start", end="end"),
            _part(kernel.OPEN, aliases, at="since"),
        ]  # fmt: skip
        stream = _linked(pl.concat(parts).sort("at", maintain_order=True))
        event = np.ascontiguousarray(
            stream.select("kind", "address", "units", "cpu", "cpu2", "lo", "end")
            .fill_null(-1).to_numpy().astype(np.int64)
        )  # fmt: skip
        self._blocks = kernel.continued(self._blocks, len(event))
        kernel.run(self._blocks, event, bits, int(self._forget))
        return _result(calls, stream, event, self._blocks)


def _linked(stream: pl.DataFrame) -> pl.DataFrame:
    """The stream, where each OPEN knows the number of its ALIAS."""
    from replay.arena.loops import blocks as kernel

    numbered = stream.with_row_index("number")
    alias = numbered.filter(pl.col("kind") == kernel.ALIAS).select("row", alias="number")
    return (
        numbered.join(alias, on="row", how="left", maintain_order="left")
        .with_columns(
            lo=pl.when(pl.col("kind") == kernel.OPEN)
            .then(pl.col("alias").cast(pl.Int64))
            .otherwise("lo")
        )
        .drop("number", "alias")
    )


def block_rows(events: pl.DataFrame, ops: Collection[str]) -> pl.DataFrame:
    """What the replay of vm_map_ram() looks at: nothing where it was not called.

    Parameters
    ----------
    events
        Event table, sorted by `seq`, with a column `row`; a part of the trace is enough.
    ops
        Operations of the whole trace.

    Returns
    -------
    DataFrame
        Rows of the event table, with `before` (:func:`_own_before`) of purges.
    """
    wanted = _OPS if "vm_map_ram" in ops else ()
    table = events.filter(pl.col("op").is_in(wanted)).select(*_COLUMNS)
    if not table.height:
        return table.with_columns(before=pl.lit(None, pl.Int64))
    return table.join(_own_before(events), on="seq", how="left", maintain_order="left")


def _own_before(events: pl.DataFrame) -> pl.DataFrame:
    """Position of what each purge's task was traced to do before, but for frees of areas.

    vm_unmap_aliases() looks at the blocks, may wait for vmap_purge_lock, gives up fragmented
    blocks, and purges: where in all that time others unmapped pieces is not told.
    """
    own = own_events(events.lazy()).filter(pl.col("op") != "area_free")
    done = pl.when(pl.col("end_seq") < pl.col("seq").shift(-1).over("pid")).then("end_seq")
    return (
        own.select("seq", "op", before=pl.coalesce(done, "seq").shift(1).over("pid"))
        .filter(pl.col("op") == "area_purge")
        .select("seq", pl.col("before").cast(pl.Int64))
        .collect()
    )


def _result(
    calls: pl.DataFrame, stream: pl.DataFrame, event: NDArray[np.int64], blocks: Blocks
) -> BlockTally:
    """Put the predictions of pieces, blocks and large areas together."""
    from replay.arena.loops import blocks as kernel

    kind = event[:, kernel.KIND]
    asked = (kind == kernel.MAP) | (kind == kernel.TRY)
    found = pl.DataFrame(
        {
            "row": stream.get_column("row").to_numpy()[asked],
            "piece": blocks.predicted[asked],
            "status": blocks.status[asked],
        }
    )
    rows = (
        calls.with_columns(pl.col("row").cast(pl.Int64))
        .join(found, on="row", how="left", maintain_order="left")
        .filter(pl.col("seen") >= 0)
    )
    # No block had room (or the call is too large for one): the area decides.
    own_area = pl.col("piece").fill_null(kernel.NO_BLOCK) == kernel.NO_BLOCK
    predicted = rows.select(
        pl.when(own_area).then(pl.col("area_predicted").fill_null(-2)).otherwise("piece")
    ).to_series()
    status = rows.get_column("status").fill_null(0).to_numpy()
    releases = blocks.predicted[kind == kernel.RELEASE]
    alias = kind == kernel.ALIAS
    same = (blocks.predicted[alias] == event[alias, kernel.ADDRESS]) & (
        blocks.predicted_end[alias] == event[alias, kernel.END]
    )
    initial = status == kernel.LEARNT
    right = (predicted == rows.get_column("seen")).to_numpy()
    return BlockTally(
        total=rows.height,
        exact=int((right & ~initial).sum()),
        initial=int(initial.sum()),
        ordering=int((status == kernel.ORDERED).sum()),
        released=int((releases >= 0).sum()),
        released_predicted=int((releases == 1).sum()),
        aliases=int(alias.sum()),
        aliases_matched=int(same.sum()),
    )


def _calls(table: pl.DataFrame, areas: pl.DataFrame) -> pl.DataFrame:
    """Calls of vm_map_ram() with the area that each allocated, if any."""
    inner = areas.filter(pl.col("parent").is_not_null()).unique("parent", keep="last").select(
        "parent", "size", "align",
        area_seq="seq", area_end="end", area_cpu="end_cpu", area_predicted="predicted",
        block=pl.when(pl.col("seen") > 0).then("seen").otherwise("predicted"),
    )  # fmt: skip
    return (
        _pieces(table, "vm_map_ram")
        .drop("parent")
        .with_columns(
            done=pl.coalesce("end_seq", "seq"),
            end_cpu=pl.coalesce("end_cpu", "cpu"),
            seen=pl.col("vaddr").fill_null(-1),
        )
        .join(inner, left_on="seq", right_on="parent", how="left", maintain_order="left")
    )


def _pieces(table: pl.DataFrame, op: str) -> pl.DataFrame:
    """Rows of one operation, numbers as Int64, `units` the pages rounded up as vb_alloc() does."""
    pages = pl.col("pages").clip(1, 1 << 20)
    names = ("seq", "end_seq", "vaddr", "pages", "parent", "start", "end")
    return table.filter(pl.col("op") == op).with_columns(
        *(pl.col(name).cast(pl.Int64) for name in names),
        units=sum((pages > (1 << k)).cast(pl.Int64) * (1 << k) for k in range(20)) + 1,
    )


def _aliases(table: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Purges with a range of the arena's own, which vm_unmap_aliases() collected from blocks.

    It did so before it gave up fragmented blocks: before the task's last frees of blocks.
    """
    size = layout.vmap_block_pages * layout.page_size
    block = (pl.col("op") == "area_free") & (pl.col("end") - pl.col("vaddr") == size)
    return (
        table.with_columns(pl.col("seq", "start", "end", "vaddr").cast(pl.Int64))
        .with_columns(block=block.fill_null(value=False))
        .with_columns(after_block=pl.col("block").shift(1, fill_value=False).over("pid"))
        .with_columns(
            first=pl.when(pl.col("block") & ~pl.col("after_block"))
            .then("seq")
            .forward_fill()
            .over("pid")
        )
        .filter(
            (pl.col("op") == "area_purge")
            & (pl.col("start") >= layout.vmalloc_start)
            & (pl.col("end") <= layout.vmalloc_end)
            & (pl.col("start") < pl.col("end"))
        )
        .with_columns(at=pl.when("after_block").then("first").otherwise("seq") - 1)
    )


def _part(
    kind: int, rows: pl.DataFrame, *, at: str, address: str | None = None,
    units: str | None = None, cpu: str = "cpu", cpu2: str | None = None,
    end: str | pl.Expr | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Events of one kind."""

    def number(what: str | pl.Expr | None) -> pl.Expr:
        if what is None:
            return pl.lit(-1, pl.Int64)
        return (pl.col(what) if isinstance(what, str) else what).cast(pl.Int64)

    return rows.select(
        row=pl.col("row").cast(pl.Int64),
        at=number(at),
        kind=pl.lit(kind, pl.Int64),
        address=number(address),
        units=number(units),
        cpu=number(cpu),
        cpu2=number(cpu2),
        lo=number("seq"),
        end=number(end),
    )
