"""From a trace.dat's bytes to raw events and what is known about the recording."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from collectors.errors import TRUNCATED, HmtraceError
from collectors.raw import RawEvents, join
from collectors.records import dataclass, field
from collectors.symbols.table import Symbols
from collectors.tracecmd_dat import layout
from collectors.tracecmd_dat.container import open_container
from collectors.tracecmd_dat.rows import RowMaker
from collectors.traceevent.meaning import Interpreter

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator, Mapping

    from collectors.capture import LostInterval
    from collectors.tracecmd_dat.container import DatFile, TraceBuffer


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
    symbols
        Of the traced kernel: embedded in the file, or as given.
    printk
        ``printk_formats`` as embedded in the file, empty where absent.
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
    symbols: Symbols = field(repr=False)
    printk: bytes = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """Name of the format for :class:`collectors.capture.Origin`."""
        return f"trace.dat-v{self.version}"


def read_raw(
    data: memoryview | mmap.mmap | bytes,
    *,
    name: str,
    symbols: bytes | Callable[[], bytes | None] | None = None,
    probe_functions: Mapping[str, str] | None = None,
    buffer: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TraceDat:
    """Read one buffer of a trace.dat into raw events.

    Parameters
    ----------
    data
        The whole file. Uncompressed trace data is read where it lies.
    name
        File name for messages.
    symbols
        Text of ``/proc/kallsyms``, or a function that gives it, for a file that has none, or
        only zeroes, in itself.
    probe_functions
        Probed symbol by ``group/event`` or ``event`` (:func:`meaning.probe_functions`), for a
        kernel that hides its addresses.
    buffer
        Name of the instance to read, "" for the top buffer. None: the top buffer, or the first
        instance with data where the top buffer is empty.
    progress
        Called with (bytes done, bytes in all).

    Returns
    -------
    TraceDat

    Raises
    ------
    HmtraceError
        If the file is no trace.dat, is damaged or cut off, or has no such buffer.
    """
    stream = open_stream(
        data,
        name=name,
        symbols=symbols,
        probe_functions=probe_functions,
        buffer=buffer,
        progress=progress,
    )
    rows = join([piece.rows for piece in stream.pieces])
    end = stream.ending()
    return replace(end, raw=replace(end.raw, rows=rows))


@dataclass(frozen=True)
class DatStream:
    """One buffer of a trace.dat, read piece by piece with bounded memory.

    Attributes
    ----------
    pieces
        Raw events in the order of time; a piece's tables only grow in later ones.
    ending
        To be called behind the last piece: what :func:`read_raw` gives, but without rows.
    symbols
        Of the traced kernel.
    """

    pieces: Iterator[RawEvents]
    ending: Callable[[], TraceDat]
    symbols: Symbols


def open_stream(
    data: memoryview | mmap.mmap | bytes,
    *,
    name: str,
    symbols: bytes | Callable[[], bytes | None] | None = None,
    probe_functions: Mapping[str, str] | None = None,
    buffer: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **sizes: int,
) -> DatStream:
    """Open one buffer of a trace.dat to be read piece by piece.

    Parameters
    ----------
    data, name, symbols, probe_functions, buffer, progress
        As :func:`read_raw`. Of a mapped file, pages that are used up are given back.
    **sizes
        ``piece``, ``rows``, ``span`` of :class:`rows.RowMaker`, for tests.

    Returns
    -------
    DatStream

    Raises
    ------
    HmtraceError
        As :func:`read_raw`; damage of trace data by the pieces.
    """
    file = open_container(memoryview(data), name=name)
    chosen, notes = choose(file, buffer)
    return stream_buffer(file, chosen, notes, symbols, probe_functions, progress, **sizes)


def stream_buffer(
    file: DatFile,
    chosen: TraceBuffer,
    notes: list[str],
    symbols: bytes | Callable[[], bytes | None] | None = None,
    probe_functions: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **sizes: int,
) -> DatStream:
    """As :func:`open_stream`, for a buffer of a file that is open (:func:`choose`).

    Raises
    ------
    HmtraceError
        If the buffer holds text instead of pages.
    """
    if chosen.text is not None:
        raise HmtraceError(
            "the file holds a latency trace as text instead of events",
            source=file.name,
            offset=chosen.text.offset,
            hint="`hmtrace` reads it; or give the text: `trace-cmd report FILE > trace.txt`",
        )
    table = Symbols.from_kallsyms(file.meta.kallsyms, file.name)
    if not len(table) and symbols is not None:
        beside = symbols if isinstance(symbols, bytes) else symbols()
        table = Symbols.from_kallsyms(beside or b"")
    meaning = Interpreter(file.meta.events, table, probe_functions or {})
    rows = RowMaker(file, chosen, meaning, progress, **sizes)

    def ending() -> TraceDat:
        return _ending(file, chosen, rows, meaning, table, notes)

    return DatStream(rows.pieces(), ending, table)


def _ending(
    file: DatFile,
    chosen: TraceBuffer,
    rows: RowMaker,
    meaning: Interpreter,
    table: Symbols,
    notes: list[str],
) -> TraceDat:
    """Say what is known about a recording when all its rows were made."""
    walks = rows.merger.walks
    ends = [e for e in (walk.ends() for walk in walks) if e is not None]
    clock = chosen.clock if chosen.clock not in ("", "unknown") else file.clock.name
    return TraceDat(
        raw=rows.ending(),
        version=file.version,
        buffer=chosen.name,
        buffers=tuple(b.name for b in file.buffers),
        clock=clock,
        clock_is_ns=bool(file.clock.mult) or clock not in layout.RAW_CLOCKS,
        cpus=max(file.cpu_count, len(walks), max((w.cpu.cpu for w in walks), default=0) + 1),
        first_ts=min((min(e) for e in ends), default=None),
        last_ts=max((max(e) for e in ends), default=None),
        events=sum(walk.records for walk in walks),
        lost=rows.losses.found,
        cpu_stats=file.cpu_stats,
        uname=file.uname,
        recorder=file.recorder,
        word=file.meta.word,
        order=file.meta.order,
        symbols=table,
        printk=file.meta.printk,
        notes=(*notes, *meaning.notes, *rows.notes, *_file_notes(file, chosen)),
    )


def choose(file: DatFile, wanted: str | None) -> tuple[TraceBuffer, list[str]]:
    """Choose the buffer to read, and say what is left aside.

    Raises
    ------
    HmtraceError
        If there is no such buffer.
    """
    by_name = {b.name: b for b in reversed(file.buffers)}
    if wanted is not None:
        if wanted not in by_name:
            names = [f"':{b.name}'" for b in file.buffers if b.name]
            have = f"append one of {', '.join(names)}" if names else "it holds only the top buffer"
            msg = f"there is no buffer {wanted!r} in the file"
            raise HmtraceError(msg, source=file.name, hint=have, exit_code=2)
        chosen = by_name[wanted]
    else:
        filled = [b for b in file.buffers if b.cpus or b.text]
        chosen = filled[0] if filled else next(iter(file.buffers), None)  # type: ignore[assignment]
        if chosen is None:
            raise HmtraceError("the file holds no trace data", source=file.name, hint=TRUNCATED)
    notes = []
    others = [
        b.name or "the top buffer" for b in file.buffers if b is not chosen and (b.cpus or b.text)
    ]
    if others or chosen.name:
        read = f"instance {chosen.name!r}" if chosen.name else "the top buffer"
        left = ", the only one with events"
        if others:
            left = f"; not read: {', '.join(others)} (append `:NAME` to the file's name)"
        notes.append(f"the file holds several trace buffers: {read} was read{left}")
    return chosen, notes


def _file_notes(file: DatFile, chosen: TraceBuffer) -> list[str]:
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
