"""Bounded reading of small text files that may be compressed."""

from __future__ import annotations

import io
import lzma
import zlib
from pathlib import Path

LIMIT = 64 << 20
"""Bytes that a machine file may have after decompression; a kallsyms file has 2 to 10 million."""

Content = bytes | bytearray | memoryview | Path


def read_bytes(content: Content, limit: int = LIMIT) -> tuple[bytes, str | None]:
    """Read a file, decompressed by its magic number, never more than `limit` bytes.

    Parameters
    ----------
    content
        The bytes themselves, or where they are.
    limit
        Bytes that are kept.

    Returns
    -------
    data
        What could be read.
    trouble
        In words, where not all of it could: truncated, damaged, too large. None: all well.

    Notes
    -----
    Never raises for damaged content; an unreadable file is empty data and its trouble.
    """
    if isinstance(content, Path):
        try:
            if content.exists() and not content.is_file():
                return b"", "is no file"  # a pipe nobody writes to would be waited for
            with content.open("rb") as file:
                raw = file.read(limit + 1)
        except OSError as error:
            return b"", f"cannot be read ({error.strerror or error})"
    else:
        raw = bytes(content[: limit + 1])
    data, trouble = _decompressed(raw, limit)
    if len(data) > limit:
        return data[:limit], f"larger than {limit >> 20} MiB; the rest is ignored"
    return data, trouble


def read_text(content: Content, limit: int = LIMIT) -> tuple[str, str | None]:
    """Read as :func:`read_bytes`, as text; bytes that are no UTF-8 become U+FFFD."""
    data, trouble = read_bytes(content, limit)
    return data.decode("utf-8", "replace"), trouble


def _decompressed(raw: bytes, limit: int) -> tuple[bytes, str | None]:
    if raw.startswith(b"\x1f\x8b"):
        return _gunzip(raw, limit)
    if raw.startswith(b"\xfd7zXZ\x00"):
        return _unxz(raw, limit)
    if raw.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(raw, limit)
    return raw, None


def _gunzip(raw: bytes, limit: int) -> tuple[bytes, str | None]:
    parts: list[bytes] = []
    size = 0
    try:
        # gzip files may consist of several members
        while raw and size <= limit:
            engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            parts.append(engine.decompress(raw, limit + 1 - size))
            size += len(parts[-1])
            if not engine.eof:
                return b"".join(parts), None if size > limit else "truncated gzip data"
            raw = engine.unused_data.lstrip(b"\0")
    except zlib.error:
        return b"".join(parts), "damaged gzip data"
    return b"".join(parts), None


def _unxz(raw: bytes, limit: int) -> tuple[bytes, str | None]:
    engine = lzma.LZMADecompressor(memlimit=256 << 20)
    try:
        data = engine.decompress(raw, limit + 1)
    except lzma.LZMAError:
        return b"", "damaged xz data"
    return data, None if engine.eof or len(data) > limit else "truncated xz data"


def _unzstd(raw: bytes, limit: int) -> tuple[bytes, str | None]:
    import zstandard

    parts: list[bytes] = []
    size = 0
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(raw))
        while size <= limit and (part := reader.read(1 << 20)):
            parts.append(part)
            size += len(part)
    except zstandard.ZstdError:
        return b"".join(parts), "damaged zstd data"
    return b"".join(parts), None
