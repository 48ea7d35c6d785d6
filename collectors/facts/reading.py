"""Bounded reading of small text files that may be compressed."""

from __future__ import annotations

import codecs
import io
import lzma
import zlib
from pathlib import Path

from collectors.compressed import ATRACE, FIRST, ZLIB, compression
from collectors.opened import opened

LIMIT = 64 << 20
"""Bytes that a machine file may have after decompression; a kallsyms file has 2 to 10 million."""

TEXT_LIMIT = 32 << 20
"""Bytes of a file that is read line by line: a boot log has at most as many (LOG_BUF_SHIFT
25)."""
MOST_LINES = 1 << 18
"""Lines of such a file: the areas of a large arena are some 30 000, a boot log has 100 000."""
WIDEST = 1 << 12
"""Characters of a line."""
JSON_LIMIT = 8 << 20
"""Bytes of a JSON document; one of 100 000 areas has half as many."""

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
            with opened(content) as file:
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
    """Read as :func:`read_bytes`, as text; bytes that are no UTF-8 become U+FFFD.

    UTF-16 is told by its mark: a Windows shell writes what it is given so.
    """
    data, trouble = read_bytes(content, limit)
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return data.decode("utf-16" if wide else "utf-8-sig", "replace"), trouble


def read_lines(content: Content) -> tuple[str, list[str]]:
    """Read a machine's file as text of bounded size: so many lines, none of them very long.

    Returns
    -------
    text
        As :func:`read_text`.
    troubles
        In words, what was left out and why; none: all of it was read.
    """
    text, trouble = read_text(content, TEXT_LIMIT)
    troubles = [] if trouble is None else [trouble]
    if text.count("\n") > MOST_LINES:
        text = "\n".join(text.split("\n", MOST_LINES)[:MOST_LINES])
        troubles.append(f"more than {MOST_LINES} lines; the rest is ignored")
    if len(text) > WIDEST:
        lines = text.split("\n")
        long = [number for number, line in enumerate(lines) if len(line) > WIDEST]
        for number in long:
            lines[number] = lines[number][:WIDEST]
        if long:
            text = "\n".join(lines)
            more = f" and {len(long) - 1} more are" if len(long) > 1 else " is"
            troubles.append(f"line {long[0] + 1}{more} longer than {WIDEST} characters and cut")
    return text, troubles


def _decompressed(raw: bytes, limit: int) -> tuple[bytes, str | None]:
    name = compression(raw)
    if name is None:
        return raw, None
    if name in ZLIB:
        return _inflate(raw[len(ATRACE) :] if name == "atrace" else raw, limit, ZLIB[name])
    return _unxz(raw, limit) if name == "xz" else _unzstd(raw, limit)


def _inflate(raw: bytes, limit: int, wbits: int) -> tuple[bytes, str | None]:
    """What zlib packed; a gzip file may have very many short members."""
    parts: list[bytes] = []
    size = at = 0
    try:
        while at < len(raw) and size <= limit:
            engine = zlib.decompressobj(wbits=wbits)
            share = FIRST
            while not engine.eof and at < len(raw) and size <= limit:
                piece = raw[at : at + share]
                at += len(piece)
                share *= 2
                parts.append(engine.decompress(piece, limit + 1 - size))
                size += len(parts[-1])
            if not engine.eof:
                return b"".join(parts), None if size > limit else "truncated gzip data"
            at = _behind_zeros(raw, at - len(engine.unused_data))
    except zlib.error:
        return b"".join(parts), "damaged gzip data"
    return b"".join(parts), None


def _behind_zeros(raw: bytes, at: int) -> int:
    """Position of the next byte that is not zero."""
    while at < len(raw):
        piece = raw[at : at + FIRST]
        left = len(piece.lstrip(b"\0"))
        at += len(piece) - left
        if left:
            break
    return at


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
