"""Reading hmtrace's own Arrow IPC files as captures."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import zstandard

from collectors.arrow.headers import KINDS, Batch, Footer
from collectors.arrow.layout import ALIGNED, END, STORED
from collectors.errors import HmtraceError
from collectors.events import SCHEMA
from collectors.input.magic import ARROW
from collectors.input.mapped import Mapped
from collectors.parquet.checked import captured
from collectors.parquet.layout import KEY
from collectors.parquet.metadata import Document
from collectors.table.part import Column, Part
from collectors.table.scan import scan_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from collectors.arrow.layout import Buffer, MessageBlock
    from collectors.capture import Capture
    from collectors.input.source import Source

_MOST_ROWS: Final = 1 << 20
"""Rows of a batch: hmtrace writes a quarter of it."""


def read_capture(source: Source, progress: Callable[[int, int], None] | None = None) -> Capture:
    """Read an event table that hmtrace wrote, with the facts in its metadata.

    Parameters
    ----------
    source
        The file.
    progress
        Called with (bytes done, bytes in all), estimated from the rows.

    Returns
    -------
    Capture

    Raises
    ------
    HmtraceError
        If the file is damaged, is not one of hmtrace, or contradicts itself.
    """
    try:
        file = _File(source.data)
        text = file.footer.metadata.get(KEY)
        if text is None:
            raise HmtraceError(
                "an Arrow file, but none that hmtrace wrote",
                hint="hmtrace reads what `hmtrace convert` writes",
            )
        document = Document(text, source.trace)
        file.footer.require_events()
        return captured(
            source, document, "hmtrace-arrow", scan_parts(file.parts), file.rows(), progress
        )
    except HmtraceError as error:
        error.source = error.source or source.trace
        raise


def scan(path: Path) -> pl.LazyFrame:
    """Table of a file that this process writes: it is opened when the table is asked for."""

    def parts(wanted: Collection[str]) -> Iterator[Part]:
        return _File(np.memmap(path, np.uint8, "r")).parts(wanted)

    return scan_parts(parts)


class _File:
    """An Arrow IPC file as hmtrace writes it."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data = data
        self._mapped = Mapped(data)
        tail = len(END) + 4
        if len(data) < len(ARROW) + tail or bytes(data[-len(END) :]) != END:
            raise HmtraceError("the Arrow file ends early: it is truncated")
        (length,) = struct.unpack("<i", bytes(data[-tail : -len(END)]))
        if not 0 < length <= len(data) - tail:
            raise HmtraceError("damaged Arrow file: its footer is longer than the file")
        self.footer = Footer(bytes(data[-tail - length : -tail]))
        self._names: dict[int, list[str]] = {}

    def rows(self) -> int:
        """Rows of all batches, which stand one behind the other."""
        for one, two in pairwise(self.footer.batches):
            if two.at < one.at + one.header + one.body:
                raise HmtraceError("damaged Arrow file: batches that overlap")
        return sum(self._header(block).rows for block in self.footer.batches)

    def parts(self, wanted: Collection[str]) -> Iterator[Part]:
        """The batches, with these columns."""
        if not self._names:
            self._names = dict(map(self._dictionary, self.footer.dictionaries))
        for block in self.footer.batches:
            yield self._part(block, wanted)
            self._mapped.forget(block.at + block.header + block.body, block.at)

    def _header(self, block: MessageBlock) -> Batch:
        at, header, body = block
        if min(block) < 0 or at + header + body > len(self._data) or (at + header) % ALIGNED:
            raise HmtraceError("damaged Arrow file: its footer points beyond its end")
        made = Batch(bytes(self._data[at : at + header]), body)
        if not 0 <= made.rows <= _MOST_ROWS:
            raise HmtraceError(f"damaged Arrow file: a batch of {made.rows} rows")
        return made

    def _part(self, block: MessageBlock, wanted: Collection[str]) -> Part:
        batch = self._header(block)
        if (len(batch.nulls), len(batch.buffers), batch.number) != (
            len(KINDS),
            2 * len(KINDS),
            -1,
        ):
            raise HmtraceError("damaged Arrow file: a batch has not the columns of the schema")
        body = self._data[block.at + block.header :][: block.body]
        columns = {}
        for number, name in enumerate(KINDS):
            if name in wanted:
                bitmap, values = batch.buffers[2 * number : 2 * number + 2]
                some = None
                if batch.nulls[number]:
                    some = _bits(_content(body, bitmap, batch, -(-batch.rows // 8)), batch.rows)
                columns[name] = self._column(name, body, values, batch, some)
        return Part(batch.rows, {name: columns[name] for name in wanted})

    def _column(
        self,
        name: str,
        body: NDArray[np.uint8],
        buffer: Buffer,
        batch: Batch,
        some: NDArray[np.uint8] | None,
    ) -> Column:
        if some is not None and not some.any():
            return Column()
        kind = KINDS[name]
        data = _content(body, buffer, batch, -(-batch.rows * kind.bits // 8))
        valid = None if some is None else some.astype(np.uint32)
        if kind.bits == 1:
            return Column(_bits(data, batch.rows).view(np.bool_), valid)
        values = data.view(f"{'i' if kind.is_signed else 'u'}{kind.bits // 8}")
        if kind.dictionary < 0:
            return Column(values, valid)
        names = self._names.get(kind.dictionary, [])
        known = frozenset(getattr(SCHEMA[name], "categories", ()))
        highest = int((values if some is None else values * some).max(initial=0))
        if not isinstance(SCHEMA[name], pl.Categorical) and not known.issuperset(names):
            raise HmtraceError(f"column {name!r} has values that this version does not know")
        if batch.rows and highest >= len(names):
            raise HmtraceError(f"damaged Arrow file: column {name!r} has a name that is not there")
        return Column(values, valid, 0, names)

    def _dictionary(self, block: MessageBlock) -> tuple[int, list[str]]:
        """Number and names of a dictionary."""
        batch = self._header(block)
        if batch.number < 0 or batch.packed or len(batch.buffers) != 3:
            raise HmtraceError("damaged Arrow file: no dictionary where the footer says")
        body = self._data[block.at + block.header :][: block.body]
        _, offsets, texts = (body[b.at : b.at + b.length] for b in batch.buffers)
        if len(offsets) < 4 * (batch.rows + 1):
            raise HmtraceError("damaged Arrow file: a dictionary ends early")
        ends = offsets[: 4 * (batch.rows + 1)].view(np.int32).astype(np.int64)
        if ends[0] or (np.diff(ends) < 0).any() or ends[-1] > len(texts):
            raise HmtraceError("damaged Arrow file: names that overlap")
        whole, places = bytes(texts), ends.tolist()
        try:
            return batch.number, [whole[a:b].decode() for a, b in pairwise(places)]
        except UnicodeDecodeError:
            raise HmtraceError("damaged Arrow file: a name is no UTF-8") from None


def _content(body: NDArray[np.uint8], buffer: Buffer, batch: Batch, need: int) -> NDArray[Any]:
    """The bytes of a buffer, at least as many as are needed."""
    data = body[buffer.at : buffer.at + buffer.length]
    if batch.packed and len(data):
        if len(data) < 8:
            raise HmtraceError("damaged Arrow file: a buffer without its length")
        (length,) = struct.unpack("<q", bytes(data[:8]))
        data = data[8:]
        if length != STORED:
            data = _decompressed(bytes(data), length, need)
    if len(data) < need:
        raise HmtraceError("damaged Arrow file: a buffer is too short for its rows")
    return data[:need].copy()


def _decompressed(data: bytes, length: int, need: int) -> NDArray[np.uint8]:
    if length != need:
        raise HmtraceError("damaged Arrow file: a buffer of another length than its rows need")
    try:
        made = zstandard.ZstdDecompressor().decompress(data, max_output_size=need)
    except zstandard.ZstdError:
        raise HmtraceError("damaged Arrow file: a buffer that cannot be decompressed") from None
    return np.frombuffer(made, np.uint8)


def _bits(data: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    return np.unpackbits(data, count=rows, bitorder="little")
