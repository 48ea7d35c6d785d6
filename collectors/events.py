"""The event table: one row per operation, as the kernel carried it out.

Of :mod:`collectors`, :mod:`replay` imports this module and :mod:`collectors.errors` only.
An entry probe and its return probe become one row; `seq` and `end_seq` are the positions of
the two in the merged trace, which is the order that counts (time stamps of text traces are
rounded to microseconds, so many events share one).
"""

from __future__ import annotations

from enum import IntFlag
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    SomeRows = tuple[Rows, pl.DataFrame]

__all__ = [
    "IN_INTERRUPT",
    "OPS",
    "OP_CODE",
    "REASONS",
    "SCHEMA",
    "Ctx",
    "HmtraceError",
    "TableTotals",
    "among",
    "array_of",
    "batches",
    "empty",
    "empty_of",
    "reads_itself",
    "require_events",
    "rows_of",
    "totals_of",
    "with_arrays",
]

OPS: Final = (
    "kmap",
    "kunmap",
    "kmap_get",
    "kmap_local",
    "kunmap_local",
    "vmap",
    "vunmap",
    "vm_map_ram",
    "vm_unmap_ram",
    "vmalloc",
    "vfree",
    "area_alloc",
    "area_free",
    "area_purge",
    "flush_unused",
    "pool_flush",
    "flush_range",
    "flush_all",
    "sched_out",
    "sched_in",
    "switch",
    "tlb_flush",
    "percpu_alloc",
)
"""Values of column ``op``; the position of a name is its code in compiled loops."""

OP_CODE: Final = {name: code for code, name in enumerate(OPS)}

REASONS: Final = (
    "task switch",
    "remote shootdown",
    "local shootdown",
    "local mm shootdown",
    "remote ipi send",
    "remote wrong cpu",
)
"""Values of column ``reason``, by the kernel's number (include/linux/mm_types.h: enum
tlb_flush_reason)."""


class Ctx(IntFlag):
    """Bits of column ``ctx``: the state of the CPU when the event was recorded."""

    IRQS_OFF = 1
    HARDIRQ = 2
    SOFTIRQ = 4
    NMI = 8
    PREEMPT_OFF = 16
    UNKNOWN = 128
    """The trace has no flags column."""


IN_INTERRUPT: Final = int(Ctx.HARDIRQ | Ctx.SOFTIRQ | Ctx.NMI)
"""Bits of ``ctx`` of an event that an interrupt made, not the task itself."""

SCHEMA: Final[dict[str, pl.DataType]] = {
    "seq": pl.UInt64(),
    "ts": pl.Int64(),
    "end_ts": pl.Int64(),
    "cpu": pl.UInt16(),
    "pid": pl.Int32(),
    "comm": pl.Categorical(),
    "ctx": pl.UInt8(),
    "op": pl.Enum(OPS),
    "page": pl.UInt64(),
    "pfn": pl.UInt64(),
    "vaddr": pl.UInt64(),
    "pages": pl.UInt64(),
    "size": pl.UInt64(),
    "align": pl.UInt64(),
    "start": pl.UInt64(),
    "end": pl.UInt64(),
    "caller": pl.UInt64(),
    "site": pl.Categorical(),
    # Beyond design.md section 3:
    "end_seq": pl.UInt64(),
    "end_cpu": pl.UInt16(),
    "parent": pl.UInt64(),
    "entry_traced": pl.Boolean(),
    "next_pid": pl.Int32(),
    "blocked": pl.Boolean(),
    "nr_lazy": pl.UInt64(),
    "nr_lazy_max": pl.UInt64(),
    "purged": pl.UInt64(),
    "reason": pl.Enum(REASONS),
    "duration": pl.Int64(),
    "stack": pl.Categorical(),
}
"""Columns and types of the event table.

seq, end_seq
    Position in the merged capture of the entry and of the return event (null: no return traced).
    A row whose entry was lost has ``entry_traced`` false and takes `seq` and `ts` of its return.
ts, end_ts
    Nanoseconds of the trace clock (counts, where the clock is no time: see ``Capture.clock``).
cpu, end_cpu
    CPU at entry and at return.
pid, comm
    Task that ran, by number and by name.
ctx
    State of the CPU: bits of :class:`Ctx`.
op
    What was done: one of :data:`OPS`.
page, pfn
    Address of struct page and page frame number, null where unknown.
vaddr
    Address that the kernel returned or was given. 0 where the call failed.
pages, size, align, start, end
    As the operation has them: pages, bytes, bytes, addresses.
    ``area_alloc``: `start`/`end` are the range allowed, `vaddr` is the address found and 0 for a
    failed call; ``percpu_alloc``: one area of `pages` areas (groups of CPUs) of a percpu chunk,
    searched for from the top of the arena down; ``area_free``: `vaddr` and `end` are the area;
    ``area_purge``: `start`/`end` as given (those flushed, where only the tracepoint shows it),
    `pages` is the returned truth value.
caller, site
    Return address of the call, and its symbol as ``function+0x12`` where known.
parent
    `seq` of the innermost operation of the same task that was open at this one's entry.
next_pid, blocked
    ``switch`` only: the task switched to, and whether the old one went to uninterruptible sleep.
nr_lazy, nr_lazy_max, purged
    As the tracepoints of ``area_free`` (pages lazily freed after it, and the limit) and
    ``area_purge`` (areas given back) tell.
reason
    ``tlb_flush`` only, the tracepoint tlb:tlb_flush: a CPU flushed its TLB of `pages` pages (null:
    all) of a user address space.
duration
    Nanoseconds that the function_graph tracer measured; the stamps of its text are coarser, or
    missing.
stack
    Stack trace of the entry, else of the return: ``innermost<-caller<-caller``.
"""


def empty() -> pl.DataFrame:
    """Event table without rows.

    Returns
    -------
    polars.DataFrame
        Columns of :data:`SCHEMA`.
    """
    return _empty().clone()


@cache
def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMA)


def require_events(events: pl.DataFrame | pl.LazyFrame) -> None:
    """Check that a frame is an event table.

    Raises
    ------
    HmtraceError
        If a column of :data:`SCHEMA` is missing or has another type.
    """
    have = events.collect_schema() if isinstance(events, pl.LazyFrame) else events.schema
    for name, dtype in SCHEMA.items():
        if name not in have:
            msg = f"not an event table: column {name!r} is missing"
            raise HmtraceError(msg)
        if have[name] != dtype:
            types = " is {:.60}, expected {:.60}".format(*map(str, (have[name], dtype)))
            msg = f"not an event table: column {name!r}{types}"
            raise HmtraceError(msg)


class TableTotals(NamedTuple):
    """What a table comes to; arrays by the code of the operation.

    Attributes
    ----------
    rows, paged, returned : ndarray of int64, shape (len(OPS) + 1,)
        Rows; those with a page, and with a return. The last element is of rows without operation.
    first_named : ndarray of int64, shape (len(OPS) + 1,)
        `ts` of the earliest row that tells a page or an address; :data:`NO_TIMES` if none does.
    span : ndarray of int64, shape (2,)
        The least `ts`, and the greatest `ts` or `end_ts`; of no row :data:`NO_TIMES`.
    """

    rows: NDArray[np.int64]
    paged: NDArray[np.int64]
    returned: NDArray[np.int64]
    first_named: NDArray[np.int64]
    span: NDArray[np.int64]

    @classmethod
    def none(cls) -> TableTotals:
        """Those of no row."""
        rows, paged, returned, first_named = np.zeros((4, len(OPS) + 1), np.int64)
        first_named[:] = NO_TIMES[0]
        return cls(rows, paged, returned, first_named, np.array(NO_TIMES, np.int64))


NO_TIMES: Final = (np.iinfo(np.int64).max, np.iinfo(np.int64).min)
"""Least and greatest of no time stamp."""
_PIECES: Final = "hmtrace_pieces"
_SOME: Final = "hmtrace_some"
"""Attributes of a table that knows how it, or some of its rows, is read piece by piece; those made
of it have them not."""
_TOTALS: Final = "hmtrace_totals"
"""Attribute of a table of which is known what it comes to."""
_ARRAYS: Final = "hmtrace_arrays"
"""Attribute of rows of a table whose columns are at hand as plain arrays, too."""


def reads_itself(
    events: pl.LazyFrame,
    pieces: Callable[[list[str]], Iterator[pl.DataFrame]],
    some: Callable[[list[str], Rows], Iterator[SomeRows]],
    totals: TableTotals | None = None,
) -> pl.LazyFrame:
    """Note how a table is read piece by piece without polars, which would read far ahead.

    Parameters
    ----------
    events
        The table.
    pieces
        Gives its rows with the columns that are named, piece by piece.
    some
        Gives the same of rows whose numbers are given, ascending: piece by piece those of each that
        holds one of them, and their numbers.
    totals
        What it comes to, if that is known.

    Returns
    -------
    polars.LazyFrame
        The same.
    """
    vars(events).update({_PIECES: pieces, _SOME: some, _TOTALS: totals})
    return events


def totals_of(events: pl.LazyFrame) -> TableTotals | None:
    """What a table comes to, where that was counted when it was written."""
    known: TableTotals | None = vars(events).get(_TOTALS)
    return known


def empty_of(column: str) -> int:
    """What stands in a plain array of a column of 8 bytes where there is no value."""
    return NO_TIMES[1] if column in _TIMES else -1


_TIMES: Final = ("ts", "end_ts", "duration")


def with_arrays(piece: pl.DataFrame, arrays: Mapping[str, NDArray[np.int64]]) -> pl.DataFrame:
    """Note plain arrays of columns of a table, from which whoever wants those need not make them.

    Parameters
    ----------
    piece
        Rows of a table; what is made of them has no arrays.
    arrays
        By column, read-only, :func:`empty_of` where there is no value, and nowhere else.

    Returns
    -------
    polars.DataFrame
        The same.
    """
    vars(piece)[_ARRAYS] = arrays
    return piece


def array_of(piece: pl.DataFrame, column: str) -> NDArray[np.int64] | None:
    """Plain array of a column (:func:`with_arrays`), if it is at hand."""
    arrays: Mapping[str, NDArray[np.int64]] = vars(piece).get(_ARRAYS, {})
    return arrays.get(column)


def batches(events: pl.LazyFrame, columns: list[str], rows: int) -> Iterator[pl.DataFrame]:
    """Rows of a table piece by piece.

    Parameters
    ----------
    events
        The table.
    columns
        Names of those that are wanted.
    rows
        At most so many rows at a time.

    Yields
    ------
    polars.DataFrame
        Its columns in the order in which they are named.
    """
    pieces = vars(events).get(_PIECES)
    if pieces is None:
        wanted = events.select(columns)
        yield from wanted.collect_batches(chunk_size=rows, maintain_order=True)
        return
    for piece in pieces(columns):
        if piece.columns == columns and piece.height <= rows:
            yield piece  # with its arrays
        else:
            yield from piece.select(columns).iter_slices(rows)


def rows_of(
    events: pl.LazyFrame, columns: list[str], wanted: Rows, rows: int
) -> Iterator[SomeRows]:
    """Some rows of a table.

    Parameters
    ----------
    events, columns, rows
        As for :func:`batches`.
    wanted
        Numbers of rows, ascending.

    Yields
    ------
    numbers : ndarray of int64
        Some of the numbers.
    polars.DataFrame
        These rows.
    """
    some = vars(events).get(_SOME)
    if some is not None:
        for numbers, piece in some(columns, wanted):
            yield numbers, piece.select(columns)
        return
    first_row = 0
    for piece in batches(events, columns, rows):
        numbers = among(wanted, first_row, first_row + piece.height)
        yield numbers, piece[numbers - first_row]
        first_row += piece.height
        if first_row > wanted[-1]:
            break


def among(wanted: Rows, first: int, stop: int) -> Rows:
    """Those of ascending numbers that lie between two."""
    start, end = np.searchsorted(wanted, (first, stop))
    return wanted[start:end]
