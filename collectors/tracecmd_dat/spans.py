"""One CPU's trace data in stretches of whole pages: where it lies in the file, or decompressed.

Memory is bounded: a stretch is a few megabytes long, compressed chunks are expanded one after the
other when their turn comes, and a large one bit by bit. No number of the file is believed before
the bytes for it have been seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from collectors.errors import TRUNCATED
from collectors.records import dataclass
from collectors.tracecmd_dat import unpack
from collectors.traceevent.cursor import Cursor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.tracecmd_dat.container import CpuData, DatFile, TraceBuffer


@dataclass(frozen=True)
class Span:
    """Some pages of one CPU.

    Attributes
    ----------
    data : ndarray of uint8
        Bytes that `begin` and `end` count in; valid until the buffer is used again.
    begin, end
        First byte of the pages and the byte after the last.
    place
        What `begin` is in the file, or in the CPU's data when decompressed.
    used
        The file's bytes before this place are not needed for it, nor for what follows.
    """

    data: NDArray[np.uint8]
    begin: int
    end: int
    place: int
    used: int


class Feed(Protocol):
    """The spans of one CPU, in order."""

    def next(self, which: int) -> Span | None:
        """Get the next span.

        Parameters
        ----------
        which
            Buffer, 0 or 1, that it may be put into: what was there before is lost.

        Returns
        -------
        Span or None
            None behind the last.

        Raises
        ------
        HmtraceError
            If the data is damaged.
        """


def feed_of(file: DatFile, buffer: TraceBuffer, cpu: CpuData, size: int) -> Feed:
    """Open one CPU's data, to be read in spans of about `size` bytes."""
    if buffer.compressed:
        return _Expanded(file, buffer, cpu, size)
    return _Mapped(file, buffer, cpu, size)


class _Mapped:
    """Pages that are read where they lie."""

    def __init__(self, file: DatFile, buffer: TraceBuffer, cpu: CpuData, size: int) -> None:
        self._data: NDArray[np.uint8] = np.frombuffer(file.data, np.uint8)
        self._data.flags.writeable = False
        self._at = cpu.offset
        self._end = cpu.offset + cpu.size
        self._step = max(size // buffer.page_size, 1) * buffer.page_size

    def next(self, which: int) -> Span | None:  # noqa: ARG002
        """As :meth:`Feed.next`."""
        begin = self._at
        if begin >= self._end:
            return None
        self._at = min(begin + self._step, self._end)
        return Span(self._data, begin, self._at, begin, begin)


class _Expanded:
    """Pages in compressed chunks: u32 number, then {u32 size on disk, u32 size, bytes} each.

    Chunks need not be whole pages: what is left of one is kept for the next.
    """

    def __init__(self, file: DatFile, buffer: TraceBuffer, cpu: CpuData, size: int) -> None:
        self._cursor = Cursor(file.data, name=file.name, order=file.meta.order)
        self._cursor.seek(cpu.offset, f"trace data of CPU {cpu.cpu}")
        # trace-cmd's size leaves out the number of chunks itself (seen in files of 3.1.6)
        self._end = cpu.offset + 4 + cpu.size
        self._expander = unpack.Expander(file.algorithm, self._cursor)
        self._page = buffer.page_size
        self._room = max(size // self._page, 2) * self._page
        self._buffers: list[NDArray[np.uint8] | None] = [None, None]
        self._chunks = -1
        self._rest = np.zeros(0, np.uint8)
        self._place = 0

    def next(self, which: int) -> Span | None:
        """As :meth:`Feed.next`."""
        out = self._buffers[which]
        if out is None:
            out = self._buffers[which] = np.empty(self._room, np.uint8)
        filled = len(self._rest)
        out[:filled] = self._rest
        while filled < self._room:
            piece = self._expander.take(self._room - filled)
            if piece:
                out[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                filled += len(piece)
            elif not self._open_chunk():
                break
        pages = filled
        if self._chunks != 0 or not self._expander.done:
            pages = filled // self._page * self._page
        self._rest = out[pages:filled].copy()
        if not pages:
            return None
        begin = self._place
        self._place += pages
        shown = out[:pages]
        shown.flags.writeable = False
        return Span(shown, 0, pages, begin, self._cursor.offset)

    def _open_chunk(self) -> bool:
        """Begin with the next chunk; False where there is none."""
        cursor = self._cursor
        if self._chunks < 0:
            self._chunks = cursor.count(4, 8, "compressed chunks")
        if not self._chunks:
            return False
        self._chunks -= 1
        packed = cursor.number(4, "chunk's compressed size")
        full = cursor.number(4, "chunk's size")
        self._expander.open(packed, full)
        if cursor.offset > self._end:
            raise cursor.error("compressed chunks run beyond their CPU's data", hint=TRUNCATED)
        return True
