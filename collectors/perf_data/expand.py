"""Records of several files, and compressed ones, to one run of plain records.

``perf record -z`` wraps what it took from the kernel into COMPRESSED records. Their bodies, put
one behind the other, are one zstd stream; a record of it may end in a later body
(tools/perf/util/session.c: perf_session__process_compressed_event). With --threads every data
file has a stream of its own.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from collectors.errors import TRUNCATED, HmtraceError
from collectors.perf_data import layout
from collectors.perf_data.layout import RecordType
from collectors.traceevent.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from collectors.traceevent.cursor import Order

_PIECE = 1 << 10
"""Compressed bytes that are given to the decoder at a time: 128 KiB for 4 bytes at worst."""


class _Spool:
    """A temporary file without a name, and a bound on its size."""

    def __init__(self, source: str, limit: int) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile(prefix="hmtrace-")  # noqa: SIM115
        self.size = 0
        self._source = source
        self._limit = limit

    def write(self, data: bytes | memoryview) -> None:
        """Append.

        Raises
        ------
        HmtraceError
            If it becomes larger than allowed, or the disk is full.
        """
        self.size += len(data)
        if self.size > self._limit:
            msg = f"the compressed records expand to more than {self._limit >> 20} MiB: refused"
            raise HmtraceError(msg, source=self._source, hint=TRUNCATED)
        try:
            self.file.write(data)
        except OSError as error:
            raise HmtraceError(
                f"records cannot be expanded to {tempfile.gettempdir()}: {error.strerror}",
                source=self._source,
                hint="set TMPDIR to a folder with more room",
            ) from None


def expand(runs: Sequence[tuple[memoryview, str]], order: Order) -> NDArray[np.uint8]:
    """Write the records of all runs, decompressed, one behind the other.

    Parameters
    ----------
    runs
        Records, and the name of the file that they are in.
    order
        Endianness of their headers.

    Returns
    -------
    ndarray of uint8
        The records, mapped from a temporary file.

    Raises
    ------
    HmtraceError
        If compressed data is damaged, or expands beyond its bound.
    """
    total = sum(len(run) for run, _ in runs)
    name = runs[0][1] if runs else ""
    spool = _Spool(name, layout.EXPANSION_FREE + layout.EXPANSION * total)
    with spool.file:
        for run, source in runs:
            _expand_run(run, source, order, spool)
        spool.file.flush()
        if not spool.size:
            return np.zeros(0, np.uint8)
        return np.memmap(spool.file, np.uint8, "r", shape=(spool.size,)).view(np.ndarray)


def _expand_run(run: memoryview, source: str, order: Order, spool: _Spool) -> None:
    import zstandard

    engine = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    pending = b""  # the begin of a record of which the end comes later
    plain = 0  # first byte that has not been copied
    for at, kind, size in _compressed(run, source, order):
        spool.write(run[plain:at])
        plain = at + size
        body = run[at + layout.RECORD_HEADER : at + size]
        if kind == RecordType.COMPRESSED2:  # u64 size, data, padding (Linux 6.16)
            length = int.from_bytes(body[:8], order)
            if length > len(body) - 8:
                raise HmtraceError("a compressed record ends early", source=source, offset=at)
            body = body[8 : 8 + length]
        for begin in range(0, len(body), _PIECE):
            try:
                out = engine.decompress(body[begin : begin + _PIECE])
            except zstandard.ZstdError as error:
                raise HmtraceError(
                    "a compressed record is damaged",
                    source=source,
                    offset=at,
                    hint=f"decompressor: {error}",
                ) from None
            pending = _write_whole(pending + out, source, order, spool)
            if engine.eof:
                engine = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    if pending:
        raise HmtraceError("the compressed records end early", source=source, hint=TRUNCATED)
    spool.write(run[plain:])


def _write_whole(data: bytes, source: str, order: Order, spool: _Spool) -> bytes:
    """Write the whole records of `data`; give back the begin of one that is not whole."""
    at = 0
    while len(data) - at >= layout.RECORD_HEADER:
        size = int.from_bytes(data[at + 6 : at + 8], order)
        if size < layout.RECORD_HEADER:
            raise HmtraceError(
                "a compressed record holds no records", source=source, hint=TRUNCATED
            )
        if size > len(data) - at:
            break
        at += size
    spool.write(data[:at])
    return data[at:]


def _compressed(run: memoryview, source: str, order: Order) -> list[tuple[int, int, int]]:
    """List place, type and size of the compressed records."""
    found = []
    cursor = Cursor(run, name=source, order=order, base=None)
    while cursor.left >= layout.RECORD_HEADER:
        at = cursor.offset
        kind = cursor.number(4, "type of a record")
        cursor.number(2, "misc")
        size = cursor.number(2, "size of a record")
        if size < layout.RECORD_HEADER or size > len(run) - at:
            raise HmtraceError("a record runs beyond the end of the data", source=source, offset=at)
        cursor.offset = at + size
        if kind in (RecordType.COMPRESSED, RecordType.COMPRESSED2):
            found.append((at, int(kind), size))
        elif kind in (RecordType.TRACING_DATA, RecordType.AUXTRACE):
            width = 4 if kind == RecordType.TRACING_DATA else 8
            more = int.from_bytes(run[at + 8 : at + 8 + width], order)
            cursor.offset = min(cursor.offset + (more + 7 & ~7), len(run))
    return found
