"""Compressed input: recognised by magic, decompressed in pieces, with a bound."""

from __future__ import annotations

import lzma
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from collectors.compressed import ATRACE, FIRST, ZLIB
from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE: Final = 1 << 20
"""Bytes that are read or written at a time."""
MAX_BYTES: Final = 64 << 30
"""No input is decompressed to more than this."""
MAX_RATIO: Final = 2000
"""Nor, beyond `FREE_BYTES`, to more than this many times its size: text traces compress 10 to
100 times, the densest gzip stream about 1030 times."""
FREE_BYTES: Final = 1 << 30


def _engine(name: str) -> tuple[Any, Callable[[bytes], bytes]]:
    """Start a decompressor; the second is its step from input to output, bounded in size."""
    if name in ZLIB:
        gz = zlib.decompressobj(wbits=ZLIB[name])
        return gz, lambda new: gz.decompress(gz.unconsumed_tail + new, PIECE)
    if name == "xz":
        xz = lzma.LZMADecompressor(memlimit=1 << 30)
        return xz, lambda new: xz.decompress(new, PIECE)
    import zstandard

    zs = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    return zs, zs.decompress


def decompress(
    name: str,
    file: BinaryIO,
    write: Callable[[bytes], object],
    *,
    source: str,
    progress: Callable[[int], None] | None = None,
    max_bytes: int = MAX_BYTES,
) -> int:
    """Decompress a whole stream of one or more members.

    Parameters
    ----------
    name
        ``gzip``, ``xz``, ``zstd`` or ``atrace``.
    file
        Compressed input.
    write
        Takes the output piece by piece.
    source
        Name of the file, for errors.
    progress
        Called with the number of compressed bytes read.
    max_bytes
        Bound on the output.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    HmtraceError
        If the stream is damaged, ends early, or grows beyond the bounds.
    """
    read = written = 0
    engine: Any = None
    step: Callable[[bytes], bytes]
    piece, at = b"", 0
    # zstd gives all output of its input at once, 128 KiB for a block of 4 bytes at worst: small
    # pieces bound the memory.
    size = PIECE if name != "zstd" else 1 << 10
    if name == "atrace":
        read = len(file.read(len(ATRACE)))
    try:
        while True:
            wants = engine is None or _wants_input(name, engine)
            if wants and at == len(piece):
                piece, at = file.read(size), 0
                if not piece and engine is None:
                    break
                if not piece:
                    raise _early_end(name, source, read, written)
            if engine is None:
                if piece[at] == 0 and not piece[at:].strip(b"\0"):  # padding after the end
                    at = len(piece)
                    continue
                engine, step = _engine(name)
                share = min(FIRST, size)
            data = b""
            if wants:  # little of a new member: what is behind its end is copied
                data = piece[at : at + share]
                at += len(data)
                read += len(data)
                share = min(2 * share, size)
            output = step(data)
            written += len(output)
            _check_bounds(written, read, max_bytes, source)
            write(output)
            if progress is not None:
                progress(read)
            if engine.eof:
                behind = len(engine.unused_data)
                at -= behind
                read -= behind
                engine = None
                if name == "atrace":  # it is one stream; adb may add an end of line
                    break
    except (zlib.error, lzma.LZMAError, _zstd_error(name)) as error:
        msg = f"damaged {name} data; {written} bytes could be decompressed before it"
        raise HmtraceError(msg, source=source, offset=read, hint=f"decompressor: {error}") from None
    return written


def _wants_input(name: str, engine: Any) -> bool:
    if name in ZLIB:
        return not engine.unconsumed_tail
    return bool(engine.needs_input) if name == "xz" else True


def _zstd_error(name: str) -> type[Exception]:
    if name != "zstd":
        return zlib.error
    import zstandard

    return zstandard.ZstdError


def _early_end(name: str, source: str, read: int, written: int) -> HmtraceError:
    return HmtraceError(
        f"the {name} data ends early: the file is truncated; {written} bytes could be read",
        source=source,
        offset=read,
        hint="copy the file again; or decompress what is there (zcat, xzcat, zstdcat) and give "
        "that to hmtrace, knowing that its end is missing",
    )


def _check_bounds(written: int, read: int, max_bytes: int, source: str) -> None:
    if written > max_bytes or (written > FREE_BYTES and written > MAX_RATIO * max(read, 1)):
        raise HmtraceError(
            f"decompresses to more than {min(written, max_bytes) >> 20} MiB, "
            f"{written // max(read, 1)} times its size: refused",
            source=source,
            hint="if this is a trace all the same, decompress it yourself",
        )
