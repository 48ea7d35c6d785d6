"""Text of perf script as the trace of a capture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.errors import HmtraceError
from collectors.perf_script.dialect import Dialect, find_dialect
from collectors.reading import Reading
from collectors.text.addresses import Addresses
from collectors.text.header import parse_header
from collectors.text.layout import PLAIN, PLAIN_NAME, Space, Stat
from collectors.text.lost import find_lost
from collectors.text.reader import CHUNK, scan_all
from collectors.text.tables import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from collectors.raw import RawEvents
    from collectors.source import Source
    from collectors.text.heads import Meaning

_HEAD: Final = 1 << 16
_MODIFIER: Final = re.compile(rb"^([^:\s]+):[A-Za-z]{1,12}:")


class _Names(Names):
    """Names of events as perf writes them: ``kmap_high:k:`` for an event with a modifier."""

    def meaning(self, space: int, text: bytes) -> Meaning:
        """Meaning of a head, as of the same event without its modifier."""
        plain = _MODIFIER.sub(rb"\1:", text) if space == Space.HEAD else text
        found = super().meaning(space, plain)
        if plain != text and found.kind in (PLAIN, PLAIN_NAME):
            # "cycles:u", or an event that is counted only
            return type(found)(
                PLAIN, text.partition(b": ")[0].decode("utf-8", "replace").strip(":")
            )
        return found


def read_raw(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
    chunk: int = CHUNK,
) -> tuple[RawEvents, Dialect, NDArray[np.int64], Names]:
    """Scan a text; see :func:`collectors.text.reader.read_raw`.

    Raises
    ------
    HmtraceError
        If no line is a sample.
    """
    from collectors.perf_script.scan import scan  # compiled: numba is imported here

    dialect = find_dialect(source.data[:_HEAD].tobytes())
    if dialect is None:
        raise HmtraceError("not the output of perf script", source=source.trace)
    columns = np.zeros((9, 2), np.int64)
    columns[:4, 0] = dialect.time, dialect.tid, dialect.comm, dialect.cpu
    names = _Names(Addresses(source))
    raw, stats = scan_all(source, scan, names, columns, progress, threads=threads, chunk=chunk)
    if not stats[Stat.EVENTS]:
        line = int(stats[Stat.FIRST_UNREAD]) + 1 if stats[Stat.UNREAD] else None
        raise HmtraceError(
            "no line is a sample with an event's name and payload",
            source=source.trace,
            line=line,
            hint="run perf script with its default fields",
        )
    if dialect.time:
        _sort(raw)
    return raw, dialect, stats, names


def _sort(raw: RawEvents) -> None:
    """Put rows into the order of time, which some options of perf script leave to the reader.

    With --show-round-events, perf script does not sort.
    """
    ts = raw.rows["ts"]
    if len(ts) and bool(np.any(ts[1:] < ts[:-1])):
        raw.rows = raw.rows[np.argsort(ts, kind="stable")]


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read the text (:attr:`collectors.reading.Format.read`)."""
    raw, dialect, stats, names = read_raw(source, progress)
    raw.rows, lost = find_lost(raw.rows, parse_header(b""), source)
    cpus = dialect.header.get("nrcpus online", "")
    return Reading(
        raw=raw,
        format="perf-script",
        clock="perf",
        clock_is_ns=dialect.time,
        span_ns=int(stats[Stat.MAX_TS] - stats[Stat.MIN_TS]) if dialect.time else 0,
        lost=lost,
        release=dialect.header.get("os release", ""),
        cpus=int(cpus) if cpus.isascii() and cpus.isdigit() and len(cpus) < 6 else None,
        notes=(*_notes(source, dialect, stats), *names.addresses.notes),
    )


def _notes(source: Source, dialect: Dialect, stats: NDArray[np.int64]) -> list[str]:
    """Remarks on what was read."""
    notes = ["perf script does not show contexts (irqs, preemption), nor losses unless told to"]
    if not dialect.time:
        notes.append("the text has no time column: order is known, durations are not")
    if not dialect.cpu:
        notes.append("the text has no CPU column: all events are shown on CPU 0")
    if not dialect.tid:
        notes.append("the text has no task column: entries and returns cannot be told apart by it")
    if unread := int(stats[Stat.UNREAD]):
        sample = source.lines(int(stats[Stat.FIRST_UNREAD_AT]), 1)[0][:60]
        text = sample.decode("utf-8", "replace").encode("unicode_escape").decode("ascii")
        notes.append(
            f"{unread} of {int(stats[Stat.LINES])} lines could not be read; the first is line "
            f"{int(stats[Stat.FIRST_UNREAD]) + 1}: '{text}'"
        )
    if stats[Stat.BAD_VALUES]:
        notes.append(f"{int(stats[Stat.BAD_VALUES])} arguments are no numbers and were left out")
    if stats[Stat.FAULTS]:
        faults = int(stats[Stat.FAULTS])
        notes.append(f"{faults} arguments could not be fetched by the kernel: (fault)")
    return notes
