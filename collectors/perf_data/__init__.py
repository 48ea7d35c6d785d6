"""perf.data, the file of perf record: file, stream (pipe) and directory form, any machine.

The way of the bytes: :mod:`container` finds events, ids, descriptions and records (with
:mod:`attrs`, :mod:`features`, :mod:`expand`), :mod:`walk` walks over the records (driven by
:mod:`records`), and :mod:`collectors.traceevent.meaning` says what the tracepoints stand for:
the raw data of a sample is what a record of a trace.dat is, and described by the same texts.
:mod:`pieces` puts them into the order of time, :mod:`chains` makes stack traces of their call
chains, :mod:`tasks` follows the names of tasks,
:mod:`capture` puts it together. Numbers of the format are in :mod:`layout`.

Bound on memory: 26 bytes (with call chains 34) per sample that is held for its order, eight
million at most (else the rows are sorted through a temporary file), and 75 MB per piece of raw
events (with call chains twice as much); records that were compressed are expanded into a temporary
file, which is refused beyond 64 MiB plus 256 times the file's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.input.magic import PERF_DATA, PERF_DATA_OLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.input.source import Source
    from collectors.reading import Reading, Stream

__all__ = ["read", "sniff", "stream"]


def sniff(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is a perf.data."""
    return head.startswith((PERF_DATA, PERF_DATA[::-1], PERF_DATA_OLD))


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read a perf.data as a capture's trace; see :func:`collectors.perf_data.capture.read`."""
    from collectors.perf_data import capture

    return capture.read(source, progress)


def stream(source: Source, progress: Callable[[int, int], None] | None = None) -> Stream:
    """Read it piece by piece; see :func:`collectors.perf_data.capture.stream`."""
    from collectors.perf_data import capture

    return capture.stream(source, progress)
