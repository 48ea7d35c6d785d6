"""Every event of a trace.dat with every field, as polars frames, to be held against trace-cmd's."""

from __future__ import annotations

import mmap
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from collectors.errors import HmtraceError
from collectors.reading import PIECE_ROWS
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.merging import Merger
from collectors.tracecmd_dat.read import choose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import NDArray

    from collectors.tracecmd_dat.container import DatFile, TraceBuffer
    from collectors.traceevent.formats import EventFormat, Field

_SIGNED = {1: pl.Int8(), 2: pl.Int16(), 4: pl.Int32(), 8: pl.Int64()}
_UNSIGNED = {1: pl.UInt8(), 2: pl.UInt16(), 4: pl.UInt32(), 8: pl.UInt64()}
_PRINTK = re.compile(r'^\s*(0x[0-9a-fA-F]+|\d+)\s*:\s*"?(.*?)"?\s*$')
_PRINTK_POINTER = {"bprint": "fmt", "bputs": "str"}
"""Events of trace_printk() and the field that points to their constant text."""


def scan(path: str | PathLike[str], *, buffer: str | None = None) -> dict[str, pl.LazyFrame]:
    """Open a trace.dat as one lazy frame per event that occurs in it.

    Nothing but the counting walk is done before a frame is collected; then only the columns
    that the query needs are decoded, about a million rows at a time.

    Parameters
    ----------
    path
        File, not compressed as a whole (sections inside it may be).
    buffer
        Instance to read; None: the top buffer, or the only one with events.

    Returns
    -------
    dict
        Event name to frame, by name. Where two systems have an event of the same name (kprobe
        ``hm/alloc_vmap_area`` and tracepoint ``vmalloc:alloc_vmap_area``), the keys are
        ``system:name``. Columns:

        ``common_ts`` (Int64, ns or counts of the trace clock, as `trace-cmd report` shows it),
        ``common_cpu`` (UInt16), ``common_comm`` (Categorical, null where the name was not
        kept), then every field of the event's format under its own name: ``common_type``,
        ``common_flags``, ``common_preempt_count``, ``common_pid``, … and the event's own.
        Numbers have the width and sign of the field; arrays of char are String; other arrays,
        fixed or dynamic, are List. ``bprint`` and ``bputs`` get a column ``text`` with the
        constant that their pointer stands for.
        Rows are in the order of time.

    Raises
    ------
    HmtraceError
        If the file cannot be read, is no trace.dat, or is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        message = "the file is empty" if isinstance(error, ValueError) else str(error.strerror)
        raise HmtraceError(message, source=str(path)) from error
    container = open_container(memoryview(mapped), name=str(path))
    chosen, _ = choose(container, buffer)
    return scan_buffer(container, chosen)


def scan_buffer(file: DatFile, buffer: TraceBuffer) -> dict[str, pl.LazyFrame]:
    """As :func:`scan`, for a buffer of an open file."""
    present = [file.meta.events[t] for t in _present(file, buffer) if t in file.meta.events]
    names = [e.name for e in present]
    frames = {}
    for event in sorted(present, key=lambda e: (e.name, e.system)):
        key = event.name if names.count(event.name) == 1 else f"{event.system}:{event.name}"
        frames[key] = _Source(file, buffer, event).lazy()
    return frames


def _present(file: DatFile, buffer: TraceBuffer) -> set[int]:
    """Ids of the events that occur."""
    merger = Merger(file, buffer, lambda _event, _ip: (-1, 0, False))
    for _ in merger.windows():
        pass
    return {event for walk in merger.walks for event, _, _ in walk.counts()}


class _Source:
    """One event's records, decoded column by column when polars asks."""

    def __init__(self, file: DatFile, buffer: TraceBuffer, event: EventFormat) -> None:
        self.file = file
        self.buffer = buffer
        self.event = event
        self.columns: dict[str, Field | None] = {
            "common_ts": None,
            "common_cpu": None,
            "common_comm": None,
        }
        for name, field in event.fields.items():
            self.columns.setdefault(name, field)
        if event.name in _PRINTK_POINTER and _PRINTK_POINTER[event.name] in event.fields:
            self.columns.setdefault("text", None)

    @cached_property
    def printk(self) -> dict[int, str]:
        """Constant texts of trace_printk(), by their address."""
        texts = {}
        for line in self.file.meta.printk.decode("utf-8", "replace").split("\n"):
            match = _PRINTK.match(line)
            if match:
                texts[int(match[1], 16)] = match[2]
        return texts

    def schema(self) -> pl.Schema:
        """Columns and their types."""
        return pl.Schema({name: _dtype(name, field) for name, field in self.columns.items()})

    def lazy(self) -> pl.LazyFrame:
        """A frame that decodes when collected."""

        def source(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            wanted = list(self.columns) if with_columns is None else with_columns
            extra = set() if predicate is None else set(predicate.meta.root_names())
            names = [n for n in self.columns if n in wanted or n in extra]
            left = n_rows
            for frame in self.batches(names):
                found = frame if predicate is None else frame.filter(predicate)
                if left is not None:
                    found = found.head(left)
                    left -= found.height
                yield found.select(wanted)
                if left == 0:
                    return

        return register_io_source(source, schema=self.schema())

    def batches(self, names: list[str]) -> Iterator[pl.DataFrame]:
        """Decode columns, window by window; one frame without rows where there is no record."""
        own = self.event.id
        merger = Merger(
            self.file, self.buffer, lambda event, _ip: (int(event == own) or -1, 0, False)
        )
        held: list[pl.DataFrame] = []
        for order in merger.windows():
            batch = _Batch(self, merger, order[merger.pool.plan[order] > 0])
            held.append(pl.DataFrame([batch.column(n) for n in names]))
            if sum(f.height for f in held) >= PIECE_ROWS:
                yield pl.concat(held)
                held = []
        empty = pl.DataFrame(schema={n: _dtype(n, self.columns[n]) for n in names})
        yield pl.concat([empty, *held])


class _Batch:
    """The columns of one window's records."""

    def __init__(self, source: _Source, merger: Merger, order: NDArray[np.int64]) -> None:
        self.source = source
        self.merger = merger
        self.order = order

    def column(self, name: str) -> pl.Series:
        """Decode one column."""
        field = self.source.columns[name]
        dtype = _dtype(name, field)
        pool = self.merger.pool
        if name == "common_ts":
            return pl.Series(name, pool.ts[self.order], dtype)
        if name == "common_cpu":
            return pl.Series(name, pool.cpu[self.order], dtype)
        if name == "common_comm":
            comms = self.source.file.meta.comms
            pid = self.source.event.fields.get("common_pid")
            pids = [] if pid is None else self.numbers(pid).tolist()
            named = [comms.get(p, "<idle>" if p == 0 else None) for p in pids]
            return pl.Series(name, named or [None] * len(self.order), dtype)
        if field is None:
            return self.printk_text(name)
        if field.is_number:
            sized = self.numbers(field).astype(
                f"{'i' if field.signed else 'u'}{field.size}", copy=False
            )
            return pl.Series(name, sized, dtype)
        if field.is_text:
            return pl.Series(name, list(self.texts(field)), dtype)
        return pl.Series(name, list(self.lists(field)), dtype)

    def numbers(self, field: Field) -> NDArray[np.int64]:
        """Take a number from every record."""
        pool, order = self.merger.pool, self.order
        size = 4 if field.dynamic else field.size
        kind = "i" if field.signed and not field.dynamic else "u"
        dtype = np.dtype(f"{'>' if self.merger.big else '<'}{kind}{size}")
        fits = field.offset + size <= pool.length[order]
        out = np.zeros(len(order), np.int64)
        for block in self.merger.blocks:
            if block.span is None:
                continue
            rows = np.flatnonzero(fits & (order >> pool.shift == block.number))
            places = pool.at[order[rows], None] + field.offset + np.arange(size)
            out[rows] = block.span.data[places].view(dtype)[:, 0].astype(np.int64)
        return out

    def spans(self, field: Field) -> Iterator[bytes]:
        """Bytes of an array in every record."""
        pool, order = self.merger.pool, self.order
        blocks = {b.number: b.span.data for b in self.merger.blocks if b.span is not None}
        places = self.numbers(field) if field.dynamic else np.zeros(len(order), np.int64)
        base = field.offset + 4 if field.dynamic == "rel" else 0
        for start, size, place, block in zip(
            pool.at[order].tolist(),
            pool.length[order].tolist(),
            places.tolist(),
            (order >> pool.shift).tolist(),
            strict=True,
        ):
            if field.dynamic:
                first = min(base + (place & 0xFFFF), size)
                last = min(first + (place >> 16), size)
            else:
                first = min(field.offset, size)
                last = size if field.open_ended else min(first + field.size, size)
            yield blocks[block][start + first : start + last].tobytes()

    def texts(self, field: Field) -> Iterator[str]:
        """Strings of an array of char, up to their NUL."""
        known: dict[bytes, str] = {}
        for span in self.spans(field):
            if span not in known:
                known[span] = span.split(b"\0", 1)[0].decode("utf-8", "replace")
            yield known[span]

    def lists(self, field: Field) -> Iterator[list[int]]:
        """Elements of an array of numbers; kernel_stack says itself how many callers it has."""
        width = field.width if field.width in _SIGNED else 1
        order = ">" if self.merger.big else "<"
        dtype = np.dtype(f"{order}{'i' if field.signed else 'u'}{width}")
        entries: list[int] | None = None
        size = self.source.event.fields.get("size")
        if field.name == "caller" and size is not None and size.is_number:
            entries = self.numbers(size).tolist()
        for row, span in enumerate(self.spans(field)):
            values = np.frombuffer(span[: len(span) // width * width], dtype)
            if entries is not None:
                values = values[: max(entries[row], 0)]
            yield values.tolist()

    def printk_text(self, name: str) -> pl.Series:
        """Constant texts of trace_printk(), by their address."""
        texts = self.source.printk
        field = self.source.event.fields[_PRINTK_POINTER[self.source.event.name]]
        mask = (1 << 8 * field.size) - 1
        found = [texts.get(a & mask) for a in self.numbers(field).tolist()]
        return pl.Series(name, found, pl.String())


def _dtype(name: str, field: Field | None) -> Any:
    """Polars type of a column."""
    if field is None:
        own = {"common_ts": pl.Int64(), "common_cpu": pl.UInt16(), "common_comm": pl.Categorical()}
        return own.get(name, pl.String())
    if field.is_number:
        return (_SIGNED if field.signed else _UNSIGNED)[field.size]
    if field.is_text:
        return pl.String()
    width = field.width if field.width in _SIGNED else 1
    return pl.List((_SIGNED if field.signed else _UNSIGNED)[width])
