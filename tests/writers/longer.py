"""Makes a long trace.dat out of a short one, copy behind copy, later each time.

The descriptions of the short file stay as they are; only its trace data is written anew, page by
page, so that files of many gigabytes need no memory. Records hold differences of time: only the
stamps of the pages change.

``python -m tests.writers.longer SHORT.dat LONG.dat EVENTS [none|zstd]``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_PAGES = 10
_PAUSE = 1_000_000


class _Short:
    """The short file, taken apart (version 7, little-endian, stamps at a page's begin)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        assert data[10:12] == b"7\0"
        assert data[12] == 0
        at = 18
        end = data.index(b"\0", at)
        self.algorithm = data[at:end].decode()
        self.link = data.index(b"\0", end + 1) + 1
        self.options: list[tuple[int, bytes]] = []
        offset = self.number(data, self.link, 8)
        while offset:
            offset = self.read_options(offset)

    @staticmethod
    def number(data: bytes, at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    def unpacked(self, data: bytes, size: int) -> bytes:
        assert self.algorithm == "zstd"
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)

    def read_options(self, offset: int) -> int:
        """Collect one list of options; give the place of the next."""
        data, number = self.data, self.number
        size = number(data, offset + 8, 8)
        body = data[offset + 16 : offset + 16 + size]
        if number(data, offset + 2, 2) & 1:
            body = self.unpacked(body[8:], number(body, 4, 4))
        at = 0
        while True:
            option, length = number(body, at, 2), number(body, at + 2, 4)
            value = body[at + 6 : at + 6 + length]
            at += 6 + length
            if option == 0:
                return number(value, 0, 8)
            self.options.append((option, value))

    def buffer(self) -> tuple[bytes, int, dict[int, bytes]]:
        """Name and clock, page size, and pages per CPU of the top buffer."""
        data, number = self.data, self.number
        value = next(v for o, v in self.options if o == 3)
        head = value[8 : value.index(b"\0", value.index(b"\0", 8) + 1) + 1]
        at = 8 + len(head)
        page_size, cpus = number(value, at, 4), number(value, at + 4, 4)
        packed = number(data, number(value, 0, 8) + 2, 2) & 1
        found = {}
        for index in range(cpus):
            place = at + 8 + 20 * index
            cpu, offset = number(value, place, 4), number(value, place + 4, 8)
            size = number(value, place + 12, 8)
            pages = data[offset : offset + size]
            if packed and size:
                pages = b""
                chunks = number(data, offset, 4)
                offset += 4
                for _ in range(chunks):
                    small, full = number(data, offset, 4), number(data, offset + 4, 4)
                    pages += self.unpacked(data[offset + 8 : offset + 8 + small], full)
                    offset += 8 + small
            found[cpu] = pages
        return head, page_size, found


def lengthen(source: Path, target: Path, events: int, compression: str = "zstd") -> int:
    """Write a file with at least so many events.

    Parameters
    ----------
    source
        A trace.dat of version 7.
    target
        To be written.
    events
        Wanted at least; whole copies are written.
    compression
        Of the trace data: ``none`` or, where the source has it too, ``zstd``.

    Returns
    -------
    int
        Events in the file.
    """
    from collectors.tracecmd_dat import read_raw

    short = _Short(source.read_bytes())
    read = read_raw(short.data, name=source.name, buffer="")
    own = read.events
    span = (read.last_ts or 0) - (read.first_ts or 0) + _PAUSE
    copies = -(-events // own)
    head, page_size, cpus = short.buffer()
    packed = compression == "zstd"
    with target.open("w+b") as out:
        out.write(short.data)
        _align(out, page_size)
        section = out.tell()
        out.write((3).to_bytes(2, "little") + int(packed).to_bytes(2, "little") + bytes(12))
        places = []
        for cpu, pages in cpus.items():
            _align(out, page_size)
            start = out.tell()
            if packed:
                out.write(bytes(4))
            written = 0
            for piece in _pieces(pages, page_size, copies, span):
                if packed:
                    params = zstandard.ZstdCompressionParameters.from_level(3, write_content_size=0)
                    small = zstandard.ZstdCompressor(compression_params=params).compress(piece)
                    out.write(len(small).to_bytes(4, "little") + len(piece).to_bytes(4, "little"))
                    out.write(small)
                else:
                    out.write(piece)
                written += 1
            size = out.tell() - start - (4 if packed else 0)
            places.append((cpu, start, size))
            if packed:
                out.seek(start)
                out.write(written.to_bytes(4, "little"))
                out.seek(0, 2)
        end = out.tell()
        out.seek(section + 8)
        out.write((end - section - 16).to_bytes(8, "little"))
        out.seek(0, 2)
        buffer = section.to_bytes(8, "little") + head + page_size.to_bytes(4, "little")
        buffer += len(places).to_bytes(4, "little")
        for cpu, start, size in places:
            buffer += cpu.to_bytes(4, "little") + start.to_bytes(8, "little")
            buffer += size.to_bytes(8, "little")
        listed = [(o, v) for o, v in short.options if o != 3] + [(3, buffer), (0, bytes(8))]
        body = b"".join(
            o.to_bytes(2, "little") + len(v).to_bytes(4, "little") + v for o, v in listed
        )
        at = out.tell()
        out.write(bytes(8) + len(body).to_bytes(8, "little") + body)
        out.seek(short.link)
        out.write(at.to_bytes(8, "little"))
    return own * copies


def _align(out: BinaryIO, size: int) -> None:
    out.write(bytes(-out.tell() % size))


def _pieces(pages: bytes, page_size: int, copies: int, span: int) -> Iterator[bytes]:
    """Give chunks of pages, the copies one after the other."""
    words = np.frombuffer(pages, np.uint64).reshape(-1, page_size // 8).copy()
    for copy in range(copies):
        if copy:
            words[:, 0] += np.uint64(span)
        for first in range(0, len(words), _CHUNK_PAGES):
            yield words[first : first + _CHUNK_PAGES].tobytes()


if __name__ == "__main__":
    made = lengthen(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5])
    sys.stdout.write(f"{made} events\n")
