"""Events of a trace.dat by name, as lazy polars frames with all their fields.

Usable on its own, without the rest of hmtrace::

    from collectors.tracecmd_dat import scan

    events = scan("trace.dat")
    events["sched_switch"].filter(pl.col("prev_state") & 2 != 0).collect()
"""

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
from collectors.tracecmd_dat import pages as paging
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.read import choose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import NDArray

    from collectors.tracecmd_dat.formats import EventFormat, Field
    from collectors.tracecmd_dat.pages import Pages, Records

_SIGNED = {1: pl.Int8(), 2: pl.Int16(), 4: pl.Int32(), 8: pl.Int64()}
_UNSIGNED = {1: pl.UInt8(), 2: pl.UInt16(), 4: pl.UInt32(), 8: pl.UInt64()}
_PRINTK = re.compile(r'^\s*(0x[0-9a-fA-F]+|\d+)\s*:\s*"?(.*?)"?\s*$')
_PRINTK_POINTER = {"bprint": "fmt", "bputs": "str"}
"""Events of trace_printk() and the field that points to their constant text."""


def scan(path: str | PathLike[str], *, buffer: str | None = None) -> dict[str, pl.LazyFrame]:
    """Open a trace.dat as one lazy frame per event that occurs in it.

    Nothing but the counting walk is done before a frame is collected; then only the columns
    that the query needs are decoded.

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
    return scan_pages(paging.load(container, chosen))


def scan_pages(pages: Pages) -> dict[str, pl.LazyFrame]:
    """As :func:`scan`, for trace data that is already loaded."""
    present = [pages.file.meta.events[t] for t in pages.present if t in pages.file.meta.events]
    names = [e.name for e in present]
    frames = {}
    for event in sorted(present, key=lambda e: (e.name, e.system)):
        key = event.name if names.count(event.name) == 1 else f"{event.system}:{event.name}"
        frames[key] = _Source(pages, event).lazy()
    return frames


class _Source:
    """One event's records, decoded column by column when polars asks."""

    def __init__(self, pages: Pages, event: EventFormat) -> None:
        self.pages = pages
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
    def records(self) -> Records:
        """Places of the records, found at the first query."""
        plan_of = np.where(self.pages.slot_type == self.event.id, 0, -1).astype(np.int32)
        return paging.list_records(self.pages, np.append(plan_of, np.int32(-1)))

    @cached_property
    def where(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Place and length of each record in the order of time."""
        order = self.records.order
        return self.records.at[order], self.records.length[order]

    def schema(self) -> pl.Schema:
        """Columns and their types."""
        return pl.Schema({name: _dtype(name, field) for name, field in self.columns.items()})

    def lazy(self) -> pl.LazyFrame:
        """A frame that decodes when collected."""

        def source(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,  # noqa: ARG001
        ) -> Iterator[pl.DataFrame]:
            wanted = list(self.columns) if with_columns is None else with_columns
            extra = set() if predicate is None else set(predicate.meta.root_names())
            names = [n for n in self.columns if n in wanted or n in extra]
            limit = None if predicate is not None else n_rows
            frame = pl.DataFrame([self.column(n, limit) for n in names])
            if predicate is not None:
                frame = frame.filter(predicate)
            if n_rows is not None:
                frame = frame.head(n_rows)
            yield frame.select(wanted)

        return register_io_source(source, schema=self.schema())

    def column(self, name: str, limit: int | None = None) -> pl.Series:
        """Decode one column."""
        field = self.columns[name]
        dtype = _dtype(name, field)
        if name == "common_ts":
            return pl.Series(name, self.records.ts[self.records.order[:limit]], dtype)
        if name == "common_cpu":
            return pl.Series(name, self.records.cpu[self.records.order[:limit]], dtype)
        if name == "common_comm":
            comms = self.pages.file.meta.comms
            pid = self.event.fields.get("common_pid")
            pids = [] if pid is None else self.numbers(pid, 0, limit).tolist()
            named = [comms.get(p, "<idle>" if p == 0 else None) for p in pids]
            return pl.Series(name, named or [None] * len(self.where[0][:limit]), dtype)
        if field is None:
            return self.printk_text(name, limit)
        if field.is_number:
            raw = self.numbers(field, 0, limit)
            sized = raw.astype(f"{'i' if field.signed else 'u'}{field.size}", copy=False)
            return pl.Series(name, sized, dtype)
        if field.is_text:
            return pl.Series(name, list(self.texts(field, limit)), dtype)
        return pl.Series(name, list(self.lists(field, limit)), dtype)

    def numbers(self, field: Field, extra: int, limit: int | None) -> NDArray[np.int64]:
        """Take a number from every record, `extra` bytes after the field's start."""
        from collectors.tracecmd_dat import kernels

        at, length = self.where
        at, length = at[:limit], length[:limit]
        out = np.empty(len(at), np.int64)
        size = 4 if field.dynamic else field.size
        signed = field.signed and not field.dynamic
        offset = field.offset + extra
        kernels.take_numbers(self.pages.data, self.pages.big, at, length, offset, size, signed, out)
        return out

    def spans(self, field: Field, limit: int | None) -> Iterator[bytes]:
        """Bytes of an array in every record."""
        at, length = self.where
        starts, sizes = at[:limit].tolist(), length[:limit].tolist()
        data = self.pages.data.data
        if field.dynamic:
            base = field.offset + 4 if field.dynamic == "rel" else 0
            places = self.numbers(field, 0, limit).tolist()
            for start, size, place in zip(starts, sizes, places, strict=True):
                first = min(base + (place & 0xFFFF), size)
                yield bytes(data[start + first : start + min(first + (place >> 16), size)])
            return
        for start, size in zip(starts, sizes, strict=True):
            first = min(field.offset, size)
            last = size if field.open_ended else min(first + field.size, size)
            yield bytes(data[start + first : start + last])

    def texts(self, field: Field, limit: int | None) -> Iterator[str]:
        """Strings of an array of char, up to their NUL."""
        known: dict[bytes, str] = {}
        for span in self.spans(field, limit):
            if span not in known:
                known[span] = span.split(b"\0", 1)[0].decode("utf-8", "replace")
            yield known[span]

    def lists(self, field: Field, limit: int | None) -> Iterator[list[int]]:
        """Elements of an array of numbers; kernel_stack says itself how many callers it has."""
        width = field.width if field.width in _SIGNED else 1
        order = ">" if self.pages.big else "<"
        dtype = np.dtype(f"{order}{'i' if field.signed else 'u'}{width}")
        entries: list[int] | None = None
        size = self.event.fields.get("size")
        if field.name == "caller" and size is not None and size.is_number:
            entries = self.numbers(size, 0, limit).tolist()
        for row, span in enumerate(self.spans(field, limit)):
            values = np.frombuffer(span[: len(span) // width * width], dtype)
            if entries is not None:
                values = values[: max(entries[row], 0)]
            yield values.tolist()

    def printk_text(self, name: str, limit: int | None) -> pl.Series:
        """Constant texts of trace_printk(), by their address."""
        texts: dict[int, str] = {}
        for line in self.pages.file.meta.printk.decode("utf-8", "replace").split("\n"):
            match = _PRINTK.match(line)
            if match:
                texts[int(match[1], 16)] = match[2]
        field = self.event.fields[_PRINTK_POINTER[self.event.name]]
        mask = (1 << 8 * field.size) - 1
        found = [texts.get(a & mask) for a in self.numbers(field, 0, limit).tolist()]
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
