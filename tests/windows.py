"""Captures read in windows of any size, as a trace beyond memory is: for tests and the fuzzer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unittest import mock

import collectors
from collectors import arrow, parquet
from collectors.build import spool_capture
from collectors.input.opening import open_source
from collectors.parquet.writer import TableWriter
from collectors.perf_data import capture as perf_data
from collectors.reading import Embedded
from collectors.text import reader as text
from collectors.text.perf_script import capture as perf_script
from collectors.tracecmd_dat import capture as tracecmd_dat

if TYPE_CHECKING:
    from pathlib import Path

    from collectors.capture import Capture
    from collectors.input.source import Source
    from collectors.reading import Format, Stream

TELLING: Final = ("raw_events", "clock", "clock_is_ns", "span_ns", "lost", "notes", "markers")
"""What must be the same of a capture, however it is read, beside its table and its facts."""


class Sizes(NamedTuple):
    """Where a trace is cut.

    Attributes
    ----------
    window
        Bytes of text, or records of a binary trace, that are read at a time.
    piece
        Rows of a binary trace that are given at a time.
    hold
        Rows that are held back for the return of a call.
    """

    window: int
    piece: int
    hold: int


def in_windows(path: Path, target: Path, sizes: Sizes) -> Capture:
    """Read a capture in windows.

    Parameters
    ----------
    path
        As of :func:`collectors.open_capture`.
    target
        File for the table.
    sizes
        Of the windows.

    Raises
    ------
    HmtraceError
        As :func:`collectors.open_capture`.
    """
    source = open_source(path, collectors.FORMATS, None)
    if parquet.sniff(source.head) or arrow.sniff(source.head):
        with (
            mock.patch("collectors.parquet.checked.BATCH_ROWS", sizes.piece),
            mock.patch("collectors.parquet.checked.SMALL", 0),
        ):
            return collectors.open_capture(path)
    fmt = next((fmt for fmt in collectors.FORMATS if fmt.sniff(source.head)), None)
    if fmt is None:
        return collectors.open_capture(path)  # says why not
    return spool_capture(source, _cut(fmt, sizes), lambda: TableWriter(target), hold=sizes.hold)


def _cut(fmt: Format, sizes: Sizes) -> Format:
    """The format, read in windows of these sizes."""
    window, piece = sizes.window, sizes.piece
    streams: dict[str, Any] = {
        "trace.dat": partial(_stream_dat, sizes=sizes),
        "perf.data": partial(perf_data.stream, room=window, piece=piece),
        "perf-script": partial(perf_script.stream, chunk=window),
        "trace-cmd-report": partial(text.stream, chunk=window),
        "ftrace-text": partial(text.stream, chunk=window),
    }
    return replace(fmt, stream=streams[fmt.name])


def _stream_dat(source: Source, progress: Any, *, sizes: Sizes) -> Stream:
    """A trace.dat, or the text of a latency tracer in one."""
    window, piece = sizes.window, sizes.piece
    found = tracecmd_dat.stream(source, progress, piece=piece, rows=window, span=window * 16)
    if isinstance(found, Embedded):
        return found.outside(text.stream(found.source, progress, chunk=window))
    return found


def difference(one: Capture, two: Capture) -> str:
    """What differs between two readings of one capture; "" if nothing does."""
    for name in TELLING:
        if getattr(one, name) != getattr(two, name):
            return f"{name}: {str(getattr(one, name))[:500]}\n{str(getattr(two, name))[:500]}"
    facts = dict(one.facts.items()), dict(two.facts.items())
    if facts[0] != facts[1]:
        names = [n for n in facts[0].keys() | facts[1].keys() if facts[0].get(n) != facts[1].get(n)]
        told = [f"{n}: {str(facts[0].get(n))[:300]}\n{str(facts[1].get(n))[:300]}" for n in names]
        return "facts: " + "\n".join(told)
    left, right = one.events.collect(), two.events.collect()
    if left.equals(right):
        return ""
    if left.height != right.height:
        return f"rows: {left.height} and {right.height}"
    columns = [n for n in left.columns if not left[n].equals(right[n])]
    at = next(i for i in range(left.height) if left.row(i) != right.row(i))
    rows = [frame.select(columns).row(at, named=True) for frame in (left, right)]
    return f"columns {columns}, first in row {at}: {rows[0]}\n{rows[1]}"
