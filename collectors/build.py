"""From a reading and the machine's files to a capture: in memory, or through a file."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

import polars as pl

from collectors.capture import Capture, Origin
from collectors.errors import HmtraceError
from collectors.events import empty
from collectors.facts import Fact
from collectors.facts.arches import of_machine
from collectors.facts.combine import pae_by_name
from collectors.reading import AgainError
from collectors.table.buffers import BufferEnds
from collectors.table.pages import PageMap
from collectors.table.seen import Seen
from collectors.table.tabulate import HOLD, WAIT, Learnt, Tabulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.facts import Facts
    from collectors.input.source import Source
    from collectors.reading import Format, Reading
    from collectors.snapshot import FactName, Snapshot
    from collectors.symbols.table import Symbols
    from collectors.table.part import Part
    from collectors.table.writer import PartWriter

_Made = TypeVar("_Made")
_TEXTS: Final = ("ftrace-text", "trace-cmd-report", "perf-script")
"""Formats whose bytes have the kernel's own words for each event."""
_PASSES: Final = 6
"""One pass, one for lines out of order, and one each for what a pass can teach the next."""


def build_capture(source: Source, reading: Reading) -> Capture:
    """Make a capture of a trace that was read as a whole.

    Parameters
    ----------
    source
        Where the trace came from, and the machine's facts.
    reading
        What the format's reader found.

    Returns
    -------
    Capture
    """
    raw = reading.raw
    table = _tabulator(source, lambda: reading.symbols, hold=len(raw.rows) + 1)
    seen, ends = Seen(), BufferEnds(source.facts.snapshot())
    frames = []
    for part in (*table.add(raw), *table.finish()):
        seen.add(part)
        ends.add(part)
        frames.append(part.frame())
    events = pl.concat(frames or [empty()])
    return _capture(source, reading, events.lazy(), seen, table, ends)


def spool_capture(
    source: Source,
    fmt: Format,
    new_writer: Callable[[], PartWriter] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    counted: Callable[[int], None] | None = None,
    hold: int = HOLD,
) -> Capture:
    """Make a capture of a trace of any size, with its table where a writer puts it.

    Parameters
    ----------
    source
        The trace, and the machine's facts.
    fmt
        Its format.
    new_writer
        Makes what writes the table, once for each pass over the trace; without it the table is
        spooled for this process.
    progress
        Called with (bytes done, bytes in all), several times over where the trace has to be read
        more than once.
    counted
        Called with the number of raw events so far.
    hold
        Rows that are held back for returns.

    Returns
    -------
    Capture
        Its `events` read what was written.

    Raises
    ------
    HmtraceError
        If the trace is damaged, or the table cannot be written.
    """
    from collectors.table.spool import Spool

    def one_pass(known: Learnt | None) -> Capture | Learnt:
        writer = (new_writer or Spool)()
        return _spool_once(source, fmt, writer, known, progress, counted, hold)

    return _pass_by_pass(source, one_pass)


def first_rows(source: Source, fmt: Format, rows: int) -> pl.DataFrame:
    """Make the first rows of a trace's table, and read no further than they need.

    Parameters
    ----------
    source
        The trace, and the machine's facts.
    fmt
        Its format.
    rows
        How many.

    Returns
    -------
    polars.DataFrame
        At most so many rows. What only stands more than :data:`collectors.table.tabulate.HOLD` rows
        behind the last of them (the return of a call, the first pair of a page and a frame) is
        not known.

    Raises
    ------
    HmtraceError
        If the trace is damaged as far as it is read.
    """

    def one_pass(known: Learnt | None) -> pl.DataFrame | Learnt:
        stream = fmt.stream(source, None)
        table = _tabulator(source, stream.symbols, known=known, hold=HOLD)
        parts = (part for piece in stream.pieces for part in table.add(piece))
        frames, found = [empty()], 0
        for part in chain(parts, table.finish()):
            frames.append(part.frame())
            found += part.rows
            if found >= rows:
                return pl.concat(frames).head(rows)
        return table.again() or pl.concat(frames)

    return _pass_by_pass(source, one_pass)


def _pass_by_pass(source: Source, one_pass: Callable[[Learnt | None], _Made | Learnt]) -> _Made:
    """Read a trace as often as it takes, each time with what the last pass found out."""
    known: Learnt | None = None
    for _ in range(_PASSES):
        try:
            made = one_pass(known)
        except AgainError:
            known = None
            continue
        if not isinstance(made, Learnt):
            return made
        known = made
    raise HmtraceError(
        "the trace changes while it is read",
        source=source.trace,
        hint="stop the tracer, or copy the trace first",
    )


def _spool_once(
    source: Source,
    fmt: Format,
    writer: PartWriter,
    known: Learnt | None,
    progress: Callable[[int, int], None] | None,
    counted: Callable[[int], None] | None,
    hold: int,
) -> Capture | Learnt:
    """Read the trace once; return what the next pass has to know if this one was not enough."""
    stream = fmt.stream(source, progress)
    table = _tabulator(source, stream.symbols, known=known, hold=hold, wait=WAIT)
    seen, ends = Seen(), BufferEnds(source.facts.snapshot())
    done = rows = 0
    with writer:

        def take(part: Part) -> int:
            seen.add(part)
            ends.add(part)
            writer.write(part)
            return part.rows

        for piece in stream.pieces:
            for part in table.add(piece):
                rows += take(part)
            done += len(piece.rows)
            if counted is not None:
                counted(done)
        for part in table.finish():
            rows += take(part)
        again = table.again()
        if again is not None:
            return again
        capture = _capture(
            source,
            stream.ending(),
            writer.events,
            seen,
            table,
            ends,
            spooled=True,
        )
        writer.finish(capture, rows)
    return capture


def _tabulator(
    source: Source,
    own: Callable[[], Symbols | None],
    *,
    known: Learnt | None = None,
    hold: int,
    wait: int | None = None,
) -> Tabulator:
    """Tabulator with the kernel's symbols, of the trace itself or else of the folder."""
    from collectors.symbols.table import Symbols

    def symbols() -> Symbols | None:
        return own() or Symbols.from_kallsyms(source.read_meta("kallsyms") or b"") or None

    page_map = page_map_of(source.facts.snapshot())
    return Tabulator(
        symbols=symbols,
        page_map=page_map,
        known=known,
        hold=hold,
        wait=wait,
        source=source.trace,
    )


def _capture(
    source: Source,
    reading: Reading,
    events: pl.LazyFrame,
    seen: Seen,
    table: Tabulator,
    ends: BufferEnds,
    *,
    spooled: bool = False,
) -> Capture:
    """Put a reading, its table and the machine's facts together."""
    told = _told_by_header(source, reading)
    told |= seen.facts(
        source.trace,
        reading.raw.counts,
        probed=[probe.symbol for probe in source.facts.snapshot().probes],
        verdicts=table.verdicts,
    )
    lost, notes_of_losses = ends.lost(reading)
    notes = [*source.notes, *reading.notes, *notes_of_losses]
    told |= _told_by_hotplug(source, reading)
    facts = source.facts.with_facts(told)
    notes += _notes_of_hotplug(facts, reading)
    if not table.has_mappings:
        notes.append(
            "the trace holds no mapping event (kmap, kmap_local, vmap and others): record with "
            "the probes that README.md gives under 'How to capture'"
        )
    return Capture(
        origin=Origin(source.path, source.trace, reading.format, len(source.data)),
        events=events,
        raw_events=reading.raw.counts,
        clock=reading.clock or source.facts.snapshot().clock or "unknown",
        clock_is_ns=reading.clock_is_ns,
        span_ns=reading.span_ns,
        facts=facts,
        lost=lost,
        notes=tuple(notes),
        markers=tuple(table.markers),
        spooled=spooled,
    )


def _told_by_header(source: Source, reading: Reading) -> dict[FactName, Fact]:
    """What the trace's header names; what the files say of RAM and PAE is not doubted."""
    told: dict[FactName, Fact] = {}
    words = "header of the trace"
    release = Fact(reading.release, source.trace, words)
    if reading.release:
        told["release"] = release
    if reading.cpus:
        told["cpus"] = Fact(reading.cpus, source.trace, words)
    if (arch := of_machine(reading.machine)) is not None:
        told["arch"] = Fact(arch, source.trace, f"{words}: {reading.machine[:40]}")
    if "pae" not in source.facts and (pae := pae_by_name(release)) is not None:
        told["pae"] = pae
    if reading.mem_total is not None and "mem_total" not in source.facts:
        told["mem_total"] = Fact(reading.mem_total, source.trace, words)
    return told


def _hotplug_events(reading: Reading) -> int:
    """Events at the begin of steps of CPU hotplug; perf has the subsystem in front."""
    names = {name.rpartition(":")[2]: number for name, number in reading.raw.counts.items()}
    return sum(names.get(name, 0) for name in ("cpuhp_enter", "cpuhp_multi_enter"))


def _told_by_hotplug(source: Source, reading: Reading) -> dict[FactName, Fact]:
    """Which CPUs went or came, where only the trace tells it, as the text of its events."""
    from collectors.text.hotplug import cpu_changes, steps_in

    if source.facts.snapshot().cpu_changes or not _hotplug_events(reading):
        return {}
    if reading.format not in _TEXTS or not reading.clock_is_ns:
        return {}
    changes = cpu_changes(steps_in(source))
    if not changes:
        return {}
    return {"cpu_changes": Fact(changes, source.trace, "cpuhp_enter, cpuhp_exit")}


def _notes_of_hotplug(facts: Facts, reading: Reading) -> list[str]:
    """What events of CPU hotplug may mean that nothing could be read from.

    They are those of CPUs that go or come, and of drivers that are loaded (kernel/cpu.c:
    cpuhp_invoke_callback). Which CPUs are online decides who is interrupted by a flush; the log at
    the end tells it (:mod:`collectors.facts.hotplug`), and a text of these events does
    (:mod:`collectors.text.hotplug`).
    """
    number = _hotplug_events(reading)
    if facts.snapshot().cpu_changes or not number:
        return []
    told = "of which none tells that a CPU went or came"
    if reading.format not in _TEXTS:
        told = f"which are read in texts, not in a {reading.format}"
    return [
        f"{number} events of CPU hotplug, {told}: a flush interrupts only those that are online, "
        "and all are taken to be; a dmesg.end beside the trace tells"
    ]


def page_map_of(told: Snapshot) -> PageMap | None:
    """How pages and frames go together by the machine's own account (mem_map).

    A trace's own pairs go before it; kernels up to 5.10, whose kmap_atomic() shows no frame,
    have nothing else.
    """
    mem_map, size = told.mem_map, told.page_struct
    if not mem_map or not size:
        return None
    return PageMap(mem_map - (told.phys_pfn_offset or 0) * size, size)
