"""Decompression of sections and of trace data, each size checked before it is believed.

zstd frames of trace-cmd do not carry their content's size; zlib is RFC 1950
(trace-cmd lib/trace-cmd/trace-compress-zstd.c, trace-compress-zlib.c).
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from collectors.tracecmd_dat import layout
from collectors.tracecmd_dat.cursor import TRUNCATED, Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ALGORITHMS = ("none", "zstd", "zlib")
_BATCH = 64
"""Chunks that a thread takes at a time: about 2.5 MB of pages."""
_MAX_THREADS = 8


def threads() -> int:
    """Threads to work with: as many as there are CPUs, at most 8."""
    return min(os.cpu_count() or 1, _MAX_THREADS)


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
    try:
        if algorithm == "zstd":
            import zstandard

            # A frame that names its size must name this one: zstandard would allocate it.
            named = zstandard.frame_content_size(data)
            more = named > size
            out: bytes = (
                b"" if more else zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
            )
        else:
            decoder = zlib.decompressobj()
            out = decoder.decompress(data, size + 1)
            more = len(out) > size
    except (zlib.error, ValueError, MemoryError) as error:
        raise cursor.error(f"compressed block is damaged: {error}", hint=TRUNCATED) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise cursor.error(f"compressed block is damaged: {error}", hint=TRUNCATED) from error
    if more or len(out) != size:
        got = f"more than {size}" if more else str(len(out))
        msg = f"compressed block holds {got} bytes, but its header says {size}"
        raise cursor.error(msg, hint=TRUNCATED)
    return out


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
    if full > layout.MAX_TEXT or (full > layout.MAX_CHUNK and full > packed * layout.EXPANSION):
        raise body.error(f"a section of {full} bytes is more than any kernel has to say")
    data = expand(body.take(packed, "compressed section"), full, algorithm, body)
    return Cursor(memoryview(data), name=cursor.name, order=cursor.order, base=None)


def chunks(cursor: Cursor, size: int) -> list[tuple[int, int, int]]:
    """List the compressed chunks of one CPU's trace data.

    Parameters
    ----------
    cursor
        At the data: u32 number of chunks, then {u32 size on disk, u32 size, bytes} each.
    size
        Bytes on disk that belong to the CPU.

    Returns
    -------
    list of (offset in file, size on disk, size)
    """
    # trace-cmd's size leaves out the number of chunks itself (seen in files of 3.1.6)
    end = cursor.offset + 4 + size
    number = cursor.count(4, 8, "compressed chunks")
    found = []
    for _ in range(number):
        packed = cursor.number(4, "chunk's compressed size")
        full = cursor.number(4, "chunk's size")
        if full > layout.MAX_CHUNK:
            raise cursor.error(f"a chunk of {full} bytes is larger than any that trace-cmd writes")
        found.append((cursor.offset, packed, full))
        cursor.take(packed, "compressed chunk")
        if cursor.offset > end:
            raise cursor.error("compressed chunks run beyond their CPU's data", hint=TRUNCATED)
    return found


def expand_all(
    cursor: Cursor,
    cpus: Sequence[Sequence[tuple[int, int, int]]],
    algorithm: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decompress the trace data of all CPUs into one array.

    Returns
    -------
    data
        Pages of one CPU after those of the other.
    extents
        int64, (CPUs, 2): first byte of each CPU's pages, and the byte after the last.

    Raises
    ------
    HmtraceError
        If a chunk is damaged, or the sizes given are beyond reason for the file's size.
    """
    sizes = [sum(full for _, _, full in found) for found in cpus]
    limit = layout.MAX_CHUNK + layout.EXPANSION * len(cursor.data)
    if sum(sizes) > limit:
        msg = f"trace data would expand to {sum(sizes)} bytes from a file of {len(cursor.data)}"
        raise cursor.error(msg, hint="the file is damaged, or made to exhaust memory")
    bounds = np.cumsum([0, *sizes])
    data = np.empty(sum(sizes), np.uint8)
    places = np.cumsum([0, *(full for found in cpus for _, _, full in found)]).tolist()
    jobs = [(*chunk, at) for chunk, at in zip((c for f in cpus for c in f), places, strict=False)]

    def work(batch: list[tuple[int, int, int, int]]) -> int:
        place = Cursor(cursor.data, name=cursor.name, order=cursor.order)
        for offset, packed, full, at in batch:
            place.offset = offset
            block = expand(cursor.data[offset : offset + packed], full, algorithm, place)
            data[at : at + full] = np.frombuffer(block, np.uint8)
        return batch[-1][0] + batch[-1][1]

    batches = [jobs[i : i + _BATCH] for i in range(0, len(jobs), _BATCH)]
    with ThreadPoolExecutor(threads()) as pool:
        try:
            for done in pool.map(work, batches):
                if progress is not None:
                    progress(done, len(cursor.data))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    data.flags.writeable = False
    return data, np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int64)
