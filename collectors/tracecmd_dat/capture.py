"""A trace.dat as the trace of a capture, with the machine's files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.ahead import ahead
from collectors.capture import Lost
from collectors.reading import Embedded, Reading, Stream
from collectors.tracecmd_dat import latency
from collectors.tracecmd_dat.container import machine_of, open_container, release_of
from collectors.tracecmd_dat.read import choose, stream_buffer
from collectors.traceevent.meaning import probe_functions

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.input.source import Source
    from collectors.tracecmd_dat.read import TraceDat

LARGE: Final = 16 << 20
"""Bytes of a file from which on its pieces are made in a thread of their own."""


def stream(
    source: Source, progress: Callable[[int, int], None] | None = None, **sizes: int
) -> Stream | Embedded:
    """Read a trace.dat piece by piece.

    Parameters
    ----------
    source, progress
        As of :attr:`collectors.reading.Format.stream`.
    **sizes
        As of :func:`collectors.tracecmd_dat.read.open_stream`, for tests.

    Returns
    -------
    Stream or Embedded
        A trace of another format where the file holds the text of a latency tracer.

    Raises
    ------
    HmtraceError
        As :func:`collectors.tracecmd_dat.read_raw`; damage of trace data by the pieces.
    """
    file = open_container(source.data.data, name=source.trace)
    chosen, notes = choose(file, source.buffer)
    if chosen.text is not None:
        return latency.embedded(file, chosen.text, notes, source)
    probes = source.read_meta("kprobe_events") or b""
    opened = stream_buffer(
        file,
        chosen,
        notes,
        lambda: source.read_meta("kallsyms"),
        probe_functions(probes.decode("utf-8", "replace")),
        progress,
        **sizes,
    )
    is_large = len(source.data.data) >= LARGE
    pieces = ahead(opened.pieces) if is_large else opened.pieces
    return Stream(pieces, lambda: _reading(opened.ending()), lambda: opened.symbols)


def _reading(got: TraceDat) -> Reading:
    return Reading(
        raw=got.raw,
        format=got.format,
        clock="" if got.clock == "unknown" else got.clock,
        clock_is_ns=got.clock_is_ns,
        span_ns=0 if got.first_ts is None or got.last_ts is None else got.last_ts - got.first_ts,
        lost=Lost(got.lost),
        release=release_of(got.uname),
        cpus=got.cpus,
        machine=machine_of(got.uname),
        notes=got.notes,
        symbols=got.symbols,
    )
