"""The file: from its first byte to where each CPU's pages lie, in versions 6 and 7.

Version 6 is one sequence; version 7 is sections that a chain of option lists points to.
Sources: trace-cmd.dat.v6(5), trace-cmd.dat.v7(5), trace-cmd lib/trace-cmd/trace-input.c.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from collectors.errors import TRUNCATED
from collectors.records import dataclass, field
from collectors.tracecmd_dat import clocks, layout, unpack
from collectors.tracecmd_dat.layout import OptionId
from collectors.traceevent import metadata
from collectors.traceevent.cursor import Cursor
from collectors.traceevent.metadata import MAX_PAGE, Metadata, Preamble

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class CpuData:
    """Where one CPU's pages lie in the file."""

    cpu: int
    offset: int
    size: int


@dataclass(frozen=True)
class Text:
    """Where the text of a latency tracer lies in the file."""

    offset: int
    size: int
    compressed: bool


@dataclass
class TraceBuffer:
    """One trace buffer: the top one (name "") or an instance.

    Attributes
    ----------
    name
        Of the instance.
    clock
        Trace clock of this buffer.
    page_size
        Bytes of a sub-buffer.
    compressed
        Each CPU's data is a list of compressed chunks.
    cpus
        In the order of the file; CPUs may be missing.
    text
        An ASCII latency trace instead of pages; None for pages.
    """

    name: str
    clock: str
    page_size: int
    compressed: bool = False
    cpus: list[CpuData] = field(default_factory=list)
    text: Text | None = None


@dataclass
class DatFile:
    """A trace.dat, opened; trace data not yet read.

    Attributes
    ----------
    data
        The whole file.
    name
        File name for messages.
    version
        6 or 7.
    algorithm
        ``none``, ``zstd`` or ``zlib``.
    meta
        Events, symbols, tasks.
    clock
        Corrections of time stamps, and the clock of the top buffer.
    buffers
        Top buffer first where there is one.
    cpu_count
        CPUs of the machine.
    uname, recorder
        ``uname -srvm`` of the machine, and the version of trace-cmd.
    cpu_stats
        ``per_cpu/cpuN/stats`` at the end of recording, by CPU, of the top buffer.
    skipped
        Ids of options that hmtrace does not know.
    """

    data: memoryview
    name: str
    version: int
    algorithm: str
    meta: Metadata
    clock: clocks.Clock = field(default_factory=clocks.Clock)
    buffers: list[TraceBuffer] = field(default_factory=list)
    cpu_count: int = 0
    uname: str = ""
    recorder: str = ""
    cpu_stats: dict[int, dict[str, int]] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)


@dataclass
class _Sections:
    """What the options of v7 point to, collected before it is read."""

    info: dict[int, int] = field(default_factory=dict)
    buffers: list[tuple[memoryview, bool]] = field(default_factory=list)


def open_container(data: memoryview, *, name: str) -> DatFile:
    """Read everything except the trace data.

    Parameters
    ----------
    data
        The whole file, mapped or in memory.
    name
        File name for messages.

    Returns
    -------
    Container

    Raises
    ------
    HmtraceError
        If the file is no trace.dat, is of another version, is damaged or cut off.
    """
    cursor = Cursor(data, name=name)
    preamble = metadata.read_preamble(cursor)
    meta = Metadata(order=preamble.order, word=preamble.user_word)
    if preamble.version == "6":
        return _open_v6(DatFile(data, name, 6, "none", meta), cursor, preamble)
    if preamble.version == "7":
        return _open_v7(DatFile(data, name, 7, "none", meta), cursor, preamble)
    msg = f"trace.dat version {preamble.version!r} is not known"
    raise cursor.error(msg, hint="hmtrace reads versions 6 and 7; try `trace-cmd convert`")


# Version 6 ---------------------------------------------------------------------------------


def _open_v6(file: DatFile, cursor: Cursor, preamble: Preamble) -> DatFile:
    metadata.read_linear(cursor, file.meta, preamble, comms=True)
    file.cpu_count = cursor.number(4, "number of CPUs")
    _check_cpus(cursor, file.cpu_count)
    instances: list[tuple[int, str]] = []
    tag = bytes(cursor.take(layout.TAG_BYTES, "tag after the number of CPUs"))
    clock_seen = False
    if tag == layout.TAG_OPTIONS:
        while (option := cursor.number(2, "option id")) != OptionId.DONE:
            body = cursor.sized(4, f"option {option}")
            clock_seen = clock_seen or option == OptionId.TRACECLOCK
            if option == OptionId.BUFFER:
                entry = _sub(file, body, cursor)
                instances.append((entry.number(8, "offset of a buffer"), entry.cstring("buffer")))
            else:
                _common_option(file, option, body, cursor)
        tag = bytes(cursor.take(layout.TAG_BYTES, "tag after the options"))
    page_size = file.meta.page.size
    if tag == layout.TAG_LATENCY:
        text = Text(cursor.offset, cursor.left, compressed=False)
        file.buffers.append(TraceBuffer("", file.clock.name, page_size, text=text))
        return file
    if tag != layout.TAG_FLYRECORD:
        raise cursor.error("neither trace data nor a latency trace follows", hint=TRUNCATED)
    top = TraceBuffer("", file.clock.name, page_size)
    _read_table(file, cursor, top, file.cpu_count)
    file.buffers.append(top)
    if clock_seen and cursor.left >= 8:
        _read_trailing_clock(file, cursor, top)
    for offset, name in instances:
        cursor.seek(offset, f"buffer {name!r}")
        if bytes(cursor.take(layout.TAG_BYTES, f"buffer {name!r}")) != layout.TAG_FLYRECORD:
            raise cursor.error(f"buffer {name!r} has no trace data", hint=TRUNCATED)
        buffer = TraceBuffer(name, file.clock.name, page_size)
        _read_table(file, cursor, buffer, file.cpu_count)
        file.buffers.append(buffer)
    _check_extents(file, cursor)
    return file


def _read_table(file: DatFile, cursor: Cursor, buffer: TraceBuffer, cpus: int) -> None:
    """Read {u64 offset, u64 size} per CPU; in version 6 all CPUs are there, some empty."""
    if cpus * 16 > cursor.left:
        raise cursor.error(f"a table of {cpus} CPUs does not fit", hint=TRUNCATED)
    for cpu in range(cpus):
        offset = cursor.number(8, "offset of a CPU's data")
        size = cursor.number(8, "size of a CPU's data")
        if size:
            buffer.cpus.append(_cpu_data(file, cursor, cpu, offset, size))


def _read_trailing_clock(file: DatFile, cursor: Cursor, top: TraceBuffer) -> None:
    """Read the clock's text, which stands after the table where option TRACECLOCK was given.

    The man page does not mention it (trace-cmd trace-input.c: init_data_v6); a file without it
    has padding there, or, where option CPUCOUNT enlarged the table, an empty entry of it. It is
    of use only where the option's own text names no clock.
    """
    size = cursor.number(8, "size of trace_clock")
    if 0 < size <= min(cursor.left, 4096):
        name = clocks.chosen_clock(
            bytes(cursor.take(size, "trace_clock")).decode("ascii", "replace")
        )
        if name != "unknown" and file.clock.name == "unknown":
            file.clock.name = top.clock = name


# Version 7 ---------------------------------------------------------------------------------


def _open_v7(file: DatFile, cursor: Cursor, preamble: Preamble) -> DatFile:
    file.algorithm = cursor.cstring("compression algorithm", 64) or "none"
    cursor.cstring("compression version", 64)
    if file.algorithm not in unpack.ALGORITHMS:
        msg = f"compression {file.algorithm!r} is not known"
        raise cursor.error(msg, hint="hmtrace knows none, zstd and zlib; try `trace-cmd convert`")
    sections = _Sections()
    offset = cursor.number(8, "offset of the options")
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise cursor.error("the lists of options run in a circle")
        seen.add(offset)
        offset = _read_options(file, cursor, offset, sections)
    readers: tuple[tuple[OptionId, Callable[[Cursor], None]], ...] = (
        # header_page first: the formats are read with the kernel's word size
        (OptionId.HEADER_INFO, lambda c: metadata.read_header_info(c, file.meta, preamble)),
        (OptionId.FTRACE_EVENTS, lambda c: metadata.read_ftrace_events(c, file.meta)),
        (OptionId.EVENT_FORMATS, lambda c: metadata.read_event_formats(c, file.meta)),
        (OptionId.KALLSYMS, lambda c: metadata.read_kallsyms(c, file.meta)),
        (OptionId.PRINTK, lambda c: metadata.read_printk(c, file.meta)),
        (OptionId.CMDLINES, lambda c: metadata.read_comms(c, file.meta)),
    )
    for option, read in readers:
        if option in sections.info:
            read(_section(file, cursor, sections.info[option], option))
    if OptionId.HEADER_INFO not in sections.info:
        raise cursor.error("the file does not describe its ring buffer pages", hint=TRUNCATED)
    for body, is_text in sections.buffers:
        file.buffers.append(_read_buffer(file, cursor, body, is_text=is_text))
    file.buffers.sort(key=lambda b: b.name != "")
    if file.buffers and file.clock.name == "unknown":
        file.clock.name = file.buffers[0].clock
    _check_extents(file, cursor)
    return file


def _header(cursor: Cursor, offset: int, option: int) -> tuple[int, int]:
    """Read a section header; give its flags and its size on disk."""
    what = layout.SECTION_NAMES[OptionId(option)]
    cursor.seek(offset, what)
    found = cursor.number(2, "section id")
    flags = cursor.number(2, "section flags")
    cursor.number(4, "section name")
    size = cursor.number(8, "section size")
    if found != option:
        cursor.offset = offset
        msg = f"expected {what} (section {option}), found section {found}"
        raise cursor.error(msg, hint=TRUNCATED)
    return flags, size


def _section(file: DatFile, cursor: Cursor, offset: int, option: int) -> Cursor:
    """Open a section; where it is compressed, decompress it."""
    flags, size = _header(cursor, offset, option)
    if flags & layout.SECTION_COMPRESSED:
        if file.algorithm == "none":
            raise cursor.error("a section is compressed in a file that has no compression")
        return unpack.section(cursor, size, file.algorithm)
    start = cursor.offset
    body = cursor.take(size, layout.SECTION_NAMES[OptionId(option)])
    return Cursor(body, name=cursor.name, order=cursor.order, base=start)


def _read_options(file: DatFile, cursor: Cursor, offset: int, sections: _Sections) -> int:
    """Read one list of options; give the offset of the next, 0 at the end."""
    options = _section(file, cursor, offset, OptionId.DONE)
    while True:
        option = options.number(2, "option id")
        body = options.sized(4, f"option {option}")
        if option == OptionId.DONE:
            return _sub(file, body, options).number(8, "offset of more options")
        if OptionId.HEADER_INFO <= option <= OptionId.CMDLINES:
            where = _sub(file, body, options).number(8, f"offset of section {option}")
            sections.info.setdefault(option, where)
        elif option in (OptionId.BUFFER, OptionId.BUFFER_TEXT):
            sections.buffers.append((body, option == OptionId.BUFFER_TEXT))
        else:
            _common_option(file, option, body, options)


def _read_buffer(file: DatFile, cursor: Cursor, body: memoryview, *, is_text: bool) -> TraceBuffer:
    """Read the option BUFFER or BUFFER_TEXT and its section's header."""
    entry = _sub(file, body, cursor)
    offset = entry.number(8, "offset of a buffer")
    name = entry.cstring("name of a buffer")
    clock = entry.cstring("clock of a buffer")
    if is_text:
        flags, size = _header(cursor, offset, OptionId.BUFFER_TEXT)
        text = Text(cursor.offset, size, bool(flags & layout.SECTION_COMPRESSED))
        cursor.take(size, layout.SECTION_NAMES[OptionId.BUFFER_TEXT])
        return TraceBuffer(name, clock, file.meta.page.size, text=text)
    page_size = entry.number(4, "page size of a buffer")
    if not file.meta.page.data < page_size <= MAX_PAGE:
        raise entry.error(f"buffer {name!r} has pages of {page_size} bytes")
    flags, _ = _header(cursor, offset, OptionId.BUFFER)
    buffer = TraceBuffer(name, clock, page_size, bool(flags & layout.SECTION_COMPRESSED))
    if buffer.compressed and file.algorithm == "none":
        raise cursor.error("a buffer is compressed in a file that has no compression")
    for _ in range(entry.count(4, 20, f"CPUs of buffer {name!r}")):
        cpu = entry.number(4, "CPU")
        start = entry.number(8, "offset of a CPU's data")
        size = entry.number(8, "size of a CPU's data")
        _check_cpus(entry, cpu)
        if size:
            buffer.cpus.append(_cpu_data(file, cursor, cpu, start, size))
    return buffer


# Both --------------------------------------------------------------------------------------


def _sub(file: DatFile, body: memoryview, parent: Cursor) -> Cursor:
    return Cursor(body, name=file.name, order=parent.order, base=None)


def _common_option(file: DatFile, option: int, body: memoryview, cursor: Cursor) -> None:
    """Read an option that versions 6 and 7 share; skip one that is not known."""
    entry = _sub(file, body, cursor)
    if option == OptionId.DATE:
        file.clock.offset += clocks.read_ascii(body) * 1000  # given in microseconds
    elif option == OptionId.OFFSET:
        file.clock.offset += clocks.read_ascii(body)
    elif option == OptionId.TRACECLOCK:
        file.clock.name = clocks.chosen_clock(_text(body))
    elif option == OptionId.TSC2NSEC and len(body) >= 16:
        clocks.read_tsc(entry, file.clock)
    elif option == OptionId.TIME_SHIFT and len(body) >= 16:
        clocks.read_shift(entry, file.clock)
    elif option == OptionId.UNAME:
        file.uname = _text(body)
    elif option == OptionId.VERSION:
        file.recorder = _text(body)
    elif option == OptionId.CPUCOUNT:
        file.cpu_count = entry.number(4, "number of CPUs")
        _check_cpus(cursor, file.cpu_count)
    elif option == OptionId.CPUSTAT:
        _read_stats(file, _text(body))
    elif option >= layout.KNOWN_OPTIONS:
        file.skipped.add(option)


def release_of(uname: str) -> str:
    """Kernel release in ``uname -s -n -r -m`` as trace-cmd puts it together; "" if not there."""
    told = uname.split()
    return told[2] if len(told) > 3 else ""


def machine_of(uname: str) -> str:
    """``uname -m`` in the same; "" if not there."""
    told = uname.split()
    return told[-1] if len(told) > 3 else ""


def _text(body: memoryview) -> str:
    return bytes(body).decode("utf-8", "replace").strip("\0 \n")


def _read_stats(file: DatFile, text: str) -> None:
    """Read one CPU's ``per_cpu/cpuN/stats`` (kernel/trace/trace.c: tracing_stats_read).

    Several buffers give each their own; the top one comes first and counts.
    """
    cpu = None
    stats: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            continue
        if key == "CPU":
            cpu = int(value)
        else:
            stats[key] = int(value)
    if cpu is not None and cpu < layout.MAX_CPUS:
        file.cpu_stats.setdefault(cpu, stats)


def _check_cpus(cursor: Cursor, number: int) -> None:
    if number > layout.MAX_CPUS:
        raise cursor.error(f"{number} CPUs are more than any machine has")


def _cpu_data(file: DatFile, cursor: Cursor, cpu: int, offset: int, size: int) -> CpuData:
    if cpu >= layout.MAX_CPUS:
        raise cursor.error(f"CPU number {cpu} is more than any machine has")
    if offset + size > len(file.data):
        msg = f"the trace data of CPU {cpu} would end at {offset + size:#x}, beyond the file's end"
        raise cursor.error(msg, hint=TRUNCATED)
    return CpuData(cpu, offset, size)


def _check_extents(file: DatFile, cursor: Cursor) -> None:
    """Refuse data that would be read twice: a small file must not become a large trace."""
    extents = sorted((c.offset, c.size) for b in file.buffers for c in b.cpus)
    for (start, size), (after, _) in pairwise(extents):
        if start + size > after:
            cursor.offset = after
            raise cursor.error("the trace data of two CPUs overlap", hint=TRUNCATED)
