"""trace.dat, the file of trace-cmd: versions 6 and 7, any machine, any compression it uses.

:func:`read_raw` gives the raw events, mapping functions and task switches, with what was lost;
:func:`stream` the same for a capture, with the machine's files beside the trace, or the text of
a latency tracer, which another format's reader reads.

The way of the bytes: :mod:`container` finds where everything lies (with :mod:`cursor`,
:mod:`metadata`, :mod:`formats`, :mod:`unpack`, :mod:`clocks`); :mod:`spans` gives each CPU's pages,
decompressed, :mod:`decode` lists their records (compiled: :mod:`walk`), :mod:`merging` puts
those of all CPUs into one order (compiled: :mod:`weaving`), :mod:`meaning` says what they stand
for, and :mod:`rows` makes raw events of them (with :mod:`names` and :mod:`lost`). Numbers of the
format are in :mod:`layout`. :func:`read_tracing_data` reads the same descriptions of events out
of a perf.data.

Bound on memory: some 100 MB of pages and listed records and 75 MB per piece of raw events, however
large the file is; a section with descriptions is refused beyond 256 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors.input.magic import TRACE_DAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.input.source import Source
    from collectors.reading import Embedded, Stream
    from collectors.tracecmd_dat.read import TraceDat, read_raw
    from collectors.traceevent.meaning import probe_functions
    from collectors.traceevent.metadata import read_tracing_data

__all__ = [
    "TraceDat",
    "probe_functions",
    "read_raw",
    "read_tracing_data",
    "sniff",
    "stream",
]

_HOMES = {
    "TraceDat": "collectors.tracecmd_dat.read",
    "read_raw": "collectors.tracecmd_dat.read",
    "probe_functions": "collectors.traceevent.meaning",
    "read_tracing_data": "collectors.traceevent.metadata",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: looking at a file's first bytes must not import numpy."""
    from importlib import import_module

    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def sniff(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is a trace.dat."""
    return head.startswith(TRACE_DAT)


def stream(source: Source, progress: Callable[[int, int], None] | None = None) -> Stream | Embedded:
    """Read it piece by piece; see :func:`collectors.tracecmd_dat.capture.stream`."""
    from collectors.tracecmd_dat import capture

    return capture.stream(source, progress)
