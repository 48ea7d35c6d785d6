"""From a trace.dat's bytes to raw events and what is known about the recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from collectors.capture import LostInterval
from collectors.errors import HmtraceError
from collectors.probes import KIND_LOST
from collectors.tracecmd_dat import layout
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.meaning import Meaning, make_raw
from collectors.tracecmd_dat.pages import Pages, Records, load
from collectors.tracecmd_dat.symbols import KernelSymbols

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

    from collectors.raw import RawEvents
    from collectors.tracecmd_dat.container import Buffer, Container


@dataclass(frozen=True)
class TraceDat:
    """One buffer of a trace.dat, read.

    Attributes
    ----------
    raw
        Raw events in the order of time, with a KIND_LOST row where events were lost.
    version
        6 or 7.
    buffer
        Name of the buffer that was read; "" is the top one.
    buffers
        Names of all buffers in the file.
    clock, clock_is_ns
        Trace clock; whether `ts` are nanoseconds.
    cpus
        CPUs of the traced machine.
    first_ts, last_ts
        Of any event, kept as a row or not; None without events.
    events
        Number of events of any kind.
    lost
        Every loss with its CPU; `after_seq` counts rows of `raw`.
    cpu_stats
        Per CPU what the kernel counted: ``overrun``, ``dropped events``, ``read events``.
    uname, recorder
        Of the traced machine; version of trace-cmd.
    word, order
        Bytes of the traced kernel's long; ``little`` or ``big``.
    kallsyms, printk
        Texts embedded in the file, empty where absent.
    notes
        Remarks for the user.
    """

    raw: RawEvents
    version: int
    buffer: str
    buffers: tuple[str, ...]
    clock: str
    clock_is_ns: bool
    cpus: int
    first_ts: int | None
    last_ts: int | None
    events: int
    lost: tuple[LostInterval, ...]
    cpu_stats: dict[int, dict[str, int]]
    uname: str
    recorder: str
    word: int
    order: str
    kallsyms: bytes = field(repr=False)
    printk: bytes = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """Name of the format for :class:`collectors.capture.Origin`."""
        return f"trace.dat-v{self.version}"


def sniff(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is a trace.dat."""
    return head.startswith(layout.MAGIC)


def read_raw(
    data: memoryview | mmap.mmap | bytes,
    *,
    name: str,
    symbols: bytes | None = None,
    probe_functions: Mapping[str, str] | None = None,
    buffer: str | None = None,
) -> TraceDat:
    """Read one buffer of a trace.dat into raw events.

    Parameters
    ----------
    data
        The whole file. Uncompressed trace data is read where it lies.
    name
        File name for messages.
    symbols
        Text of ``/proc/kallsyms`` for a file that has none, or only zeroes, in itself.
    probe_functions
        Probed symbol by ``group/event`` or ``event`` (:func:`meaning.probe_functions`), for a
        kernel that hides its addresses.
    buffer
        Name of the instance to read, "" for the top buffer. None: the top buffer, or the first
        instance with data where the top buffer is empty.

    Returns
    -------
    TraceDat

    Raises
    ------
    HmtraceError
        If the file is no trace.dat, is damaged or cut off, or has no such buffer.
    """
    file = open_container(memoryview(data), name=name)
    chosen, notes = choose(file, buffer)
    pages = load(file, chosen)
    table = KernelSymbols(file.meta.kallsyms)
    if not table and symbols:
        table = KernelSymbols(symbols)
    meaning = Meaning(file.meta.events, table, probe_functions or {})
    raw, records = make_raw(pages, meaning)
    notes += meaning.notes
    notes += _file_notes(file, chosen)
    lost = _lost(pages, raw, records)
    first, last, events = _span(pages)
    clock = chosen.clock if chosen.clock not in ("", "unknown") else file.clock.name
    return TraceDat(
        raw=raw,
        version=file.version,
        buffer=chosen.name,
        buffers=tuple(b.name for b in file.buffers),
        clock=clock,
        clock_is_ns=bool(file.clock.mult) or clock not in layout.RAW_CLOCKS,
        cpus=max(file.cpu_count, len(chosen.cpus), max(pages.cpus, default=0) + 1),
        first_ts=first,
        last_ts=last,
        events=events,
        lost=lost,
        cpu_stats=file.cpu_stats,
        uname=file.uname,
        recorder=file.recorder,
        word=file.meta.word,
        order=file.meta.order,
        kallsyms=file.meta.kallsyms,
        printk=file.meta.printk,
        notes=tuple(notes),
    )


def choose(file: Container, wanted: str | None) -> tuple[Buffer, list[str]]:
    """Choose the buffer to read, and say what is left aside.

    Raises
    ------
    HmtraceError
        If there is no such buffer, or it holds text instead of pages.
    """
    by_name = {b.name: b for b in reversed(file.buffers)}
    if wanted is not None:
        if wanted not in by_name:
            have = ", ".join(repr(b.name) for b in file.buffers) or "none"
            msg = f"there is no buffer {wanted!r} in the file"
            raise HmtraceError(msg, source=file.name, hint=f"buffers: {have}", exit_code=2)
        chosen = by_name[wanted]
    else:
        filled = [b for b in file.buffers if b.cpus]
        chosen = filled[0] if filled else next(iter(file.buffers), None)  # type: ignore[assignment]
        if chosen is None:
            raise HmtraceError("the file holds no trace data", source=file.name)
    if chosen.text is not None:
        raise HmtraceError(
            "the file holds a latency trace as text instead of events",
            source=file.name,
            offset=chosen.text,
            hint="give hmtrace the text: `trace-cmd report FILE > trace.txt`",
        )
    notes = []
    others = [b.name or "the top buffer" for b in file.buffers if b is not chosen and b.cpus]
    if others or chosen.name:
        read = f"instance {chosen.name!r}" if chosen.name else "the top buffer"
        left = f"; not read: {', '.join(others)}" if others else ", the only one with events"
        notes.append(f"the file holds several trace buffers: {read} was read{left}")
    return chosen, notes


def _file_notes(file: Container, chosen: Buffer) -> list[str]:
    notes = []
    if file.skipped:
        listed = ", ".join(str(o) for o in sorted(file.skipped)[:8])
        notes.append(f"options that hmtrace does not know were skipped: {listed}")
    if file.clock.guest:
        notes.append("a guest's trace: times were moved to the host's clock, as recorded")
    if file.clock.mult:
        notes.append("cycles of the time stamp counter were turned into nanoseconds")
    if file.clock.name not in ("unknown", chosen.clock) and chosen.clock:
        notes.append(f"the buffer's clock is {chosen.clock}, the machine's was {file.clock.name}")
    return notes


def _span(pages: Pages) -> tuple[int | None, int | None, int]:
    """First and last stamp, and number of all events."""
    bounds = pages.bounds
    filled = np.flatnonzero(bounds[:, 1])
    if not len(filled):
        return None, None, 0
    clock = pages.file.clock
    ends = [clock.apply(bounds[i, 2:4].copy(), int(i)) for i in filled]
    low = min(int(e.min()) for e in ends)
    high = max(int(e.max()) for e in ends)
    return low, high, int(bounds[:, 1].sum())


def _lost(pages: Pages, raw: RawEvents, records: Records) -> tuple[LostInterval, ...]:
    """List what was lost: marked in the pages, and else counted by the kernel."""
    from collectors.tracecmd_dat.kernels import NO_STAMP

    rows = raw.rows
    marks = np.flatnonzero(rows["kind"] == KIND_LOST)
    # The n-th marker as listed, CPU after CPU, has the n-th stamp before it.
    number = np.argsort(np.argsort(records.order[marks], kind="stable"), kind="stable")
    clock = pages.file.clock
    found = []
    for row, nth in zip(marks, number, strict=True):
        cpu = int(rows["cpu"][row])
        before = records.mark_before[nth : nth + 1]
        start = None
        if int(before[0]) != NO_STAMP:
            start = int(clock.apply(before, pages.cpus.index(cpu))[0])
        known = bool(rows["present"][row] & 1)
        count = int(rows["values"][row, 0]) if known else None
        ts = int(rows["ts"][row])
        why = "ring buffer overwritten" if start is None else "lost-events mark of a page"
        found.append(LostInterval(cpu, count, int(row), start, ts, why))
    marked = {i.cpu for i in found}
    for index, cpu in enumerate(pages.cpus):
        stats = pages.file.cpu_stats.get(cpu, {}) if pages.buffer.name == "" else {}
        ends = clock.apply(pages.bounds[index, 2:4].copy(), index)
        first, last = (int(e) for e in ends)
        if stats.get("overrun") and cpu not in marked:
            why = "ring buffer overwritten (the kernel's statistics)"
            found.append(LostInterval(cpu, stats["overrun"], 0, None, first, why))
        if stats.get("dropped events"):
            why = "buffer full (the kernel's statistics)"
            found.append(LostInterval(cpu, stats["dropped events"], len(rows), last, None, why))
    return tuple(sorted(found, key=lambda i: (i.after_seq, i.cpu or 0)))
