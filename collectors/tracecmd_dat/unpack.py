"""Decompression of sections and of trace data, each size checked before it is believed.

zstd frames of trace-cmd do not carry their content's size; zlib is RFC 1950
(trace-cmd lib/trace-cmd/trace-compress-zstd.c, trace-compress-zlib.c).
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Final

from collectors.errors import TRUNCATED
from collectors.tracecmd_dat import layout
from collectors.traceevent.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zstandard import ZstdDecompressor

ALGORITHMS = ("none", "zstd", "zlib")
_AT_ONCE = 1 << 20
"""Bytes that are decompressed in one step (a chunk of trace-cmd has ten pages)."""


class _PerThread(local):
    """Decompressors, one a thread: to make one takes as long as to use it for a chunk."""

    decompressor: ZstdDecompressor | None = None


_PER_THREAD: Final = _PerThread()


def _decompressor() -> ZstdDecompressor:
    if _PER_THREAD.decompressor is None:
        from zstandard import ZstdDecompressor

        _PER_THREAD.decompressor = ZstdDecompressor()
    return _PER_THREAD.decompressor


def expand(data: memoryview, size: int, algorithm: str, cursor: Cursor) -> bytes:
    """Decompress one block.

    Parameters
    ----------
    data
        Compressed bytes.
    size
        Bytes that must come out: one more or less is an error.
    algorithm
        ``zstd`` or ``zlib``.
    cursor
        Where the block stands, for messages.

    Raises
    ------
    HmtraceError
        If the block is damaged or has another size.
    """
    with _damage(cursor):
        if algorithm == "zstd":
            from zstandard import frame_content_size

            # A frame that names its size must name this one: zstandard would allocate it.
            named = frame_content_size(data)
            more = named > size
            out: bytes = b"" if more else _decompressor().decompress(data, max_output_size=size)
        else:
            decoder = zlib.decompressobj()
            out = decoder.decompress(data, size + 1)
            more = len(out) > size
    if more or len(out) != size:
        got = f"more than {size}" if more else str(len(out))
        msg = f"compressed block holds {got} bytes, but its header says {size}"
        raise cursor.error(msg, hint=TRUNCATED)
    return out


@contextmanager
def _damage(cursor: Cursor) -> Iterator[None]:
    """Turn what a decompressor says about its input into an error at the cursor's place."""
    try:
        yield
    except (zlib.error, ValueError, MemoryError) as error:
        raise cursor.error(f"compressed block is damaged: {error}", hint=TRUNCATED) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise cursor.error(f"compressed block is damaged: {error}", hint=TRUNCATED) from error


def section(cursor: Cursor, size: int, algorithm: str) -> Cursor:
    """Decompress an ordinary section: u32 size on disk, u32 size, one block.

    Returns
    -------
    Cursor
        Over the section's payload.
    """
    body = Cursor(
        cursor.take(size, "compressed section"),
        name=cursor.name,
        order=cursor.order,
        base=None if cursor.base is None else cursor.base + cursor.offset - size,
    )
    packed = body.number(4, "compressed size")
    full = body.number(4, "decompressed size")
    if full > layout.MAX_TEXT or (full > layout.FREE and full > packed * layout.EXPANSION):
        raise body.error(f"a section of {full} bytes is more than any kernel has to say")
    data = expand(body.take(packed, "compressed section"), full, algorithm, body)
    return Cursor(memoryview(data), name=cursor.name, order=cursor.order, base=None)


class Expander:
    """Decompresses chunks of trace data, small ones at once and large ones bit by bit.

    Parameters
    ----------
    algorithm
        ``zstd`` or ``zlib``.
    cursor
        In the file; moved over the chunks.
    """

    def __init__(self, algorithm: str, cursor: Cursor) -> None:
        self._algorithm = algorithm
        self._cursor = cursor
        self._left = 0
        self._ready: memoryview | bytes = b""
        self._step: Callable[[int], bytes] | None = None

    @property
    def done(self) -> bool:
        """Nothing is left of the chunk that was opened last."""
        return not self._left and not self._ready

    def open(self, packed: int, full: int) -> None:
        """Begin with the chunk at the cursor.

        Parameters
        ----------
        packed, full
            Bytes on disk, and bytes that must come out.

        Raises
        ------
        HmtraceError
            If it is damaged or runs beyond the file.
        """
        body = self._cursor.take(packed, "compressed chunk")
        self._start = self._cursor.offset - packed
        if full <= _AT_ONCE:
            place = Cursor(
                self._cursor.data, name=self._cursor.name, order="little", offset=self._start
            )
            self._ready = expand(body, full, self._algorithm, place)
            return
        self._left = full
        self._step = _stepper(body, self._algorithm)

    def take(self, most: int) -> memoryview | bytes:
        """Get up to `most` bytes; none where the chunk is used up.

        Raises
        ------
        HmtraceError
            If the chunk is damaged or has another size.
        """
        if self._step is not None and not self._ready:
            self._ready = self._next_step(self._step)
        out = self._ready[:most]
        self._ready = memoryview(self._ready)[len(out) :]
        return out

    def _next_step(self, step: Callable[[int], bytes]) -> bytes:
        """Decompress a bit more of a large chunk."""
        place = Cursor(
            self._cursor.data, name=self._cursor.name, order="little", offset=self._start
        )
        with _damage(place):
            out = step(_AT_ONCE)
        self._left -= len(out)
        if self._left < 0 or (self._left and not out):
            got = "more" if self._left < 0 else "fewer"
            msg = f"compressed block holds {got} bytes than its header says"
            raise place.error(msg, hint=TRUNCATED)
        if not out:
            self._step = None
        return out


def _stepper(data: memoryview, algorithm: str) -> Callable[[int], bytes]:
    """Start to decompress a block; each call gives at most so many bytes more, b"" at the end."""
    if algorithm == "zstd":
        import zstandard

        step: Callable[[int], bytes] = zstandard.ZstdDecompressor().stream_reader(data).read
        return step
    decoder = zlib.decompressobj()
    rest = [data]

    def more(size: int) -> bytes:
        out = decoder.decompress(rest[0], size)
        rest[0] = memoryview(decoder.unconsumed_tail)
        return out

    return more
