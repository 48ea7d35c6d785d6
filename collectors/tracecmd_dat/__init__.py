"""trace.dat, the file of trace-cmd: versions 6 and 7, any machine, any compression it uses.

Two faces:

:func:`read_raw`
    Raw events for the rest of hmtrace: mapping functions and task switches, with what was lost.
:func:`scan`
    Every event with every field, as lazy polars frames. Usable on its own.

The way of the bytes: :mod:`container` finds where everything lies (with :mod:`cursor`,
:mod:`metadata`, :mod:`formats`, :mod:`unpack`, :mod:`clocks`), :mod:`kernels` walks over the
pages (driven by :mod:`pages`), :mod:`meaning` says what the records stand for. Numbers of the
format are in :mod:`layout`. :func:`read_tracing_data` reads the same descriptions of events
out of a perf.data.

Bound on memory: decompressed trace data, which is refused beyond 64 MiB plus 256 times the
file's size (``layout.EXPANSION``), 24 bytes per wanted record and 72 per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.tracecmd_dat.meaning import probe_functions
from collectors.tracecmd_dat.metadata import read_tracing_data
from collectors.tracecmd_dat.read import TraceDat, read_raw, sniff

if TYPE_CHECKING:
    from os import PathLike

    import polars as pl

__all__ = ["TraceDat", "probe_functions", "read_raw", "read_tracing_data", "scan", "sniff"]


def scan(path: str | PathLike[str], *, buffer: str | None = None) -> dict[str, pl.LazyFrame]:
    """Open a trace.dat as one lazy frame per event: see :func:`frames.scan`."""
    from collectors.tracecmd_dat import frames

    return frames.scan(path, buffer=buffer)
