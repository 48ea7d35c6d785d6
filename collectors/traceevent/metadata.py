"""What trace.dat v6, trace.dat v7 and perf.data's tracing data say about events and tasks.

The blocks are the same in all three; v6 and perf have them one after the other, v7 has each in
a section of its own. Source: trace-cmd.dat.v6(5), tools/perf/util/trace-event-read.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.input.magic import TRACE_DAT
from collectors.records import dataclass, field
from collectors.traceevent.cursor import Cursor, Order
from collectors.traceevent.formats import EventFormat, parse_event, struct_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PAGE: Final = 1 << 26
"""A sub-buffer's used bytes have 27 bits in the commit word, two of them for flags of old."""


@dataclass(frozen=True)
class PageLayout:
    """Head of a ring buffer page (``events/header_page``, struct buffer_data_page).

    Attributes
    ----------
    stamp
        Offset of the u64 time stamp.
    commit, word
        Offset and size of the commit word; its size is the kernel's word size.
    data
        Offset of the first record.
    size
        Bytes of a whole page, head included.
    """

    stamp: int = 0
    commit: int = 8
    word: int = 8
    data: int = 16
    size: int = 4096


@dataclass
class Metadata:
    """Events, symbols and tasks of a trace.

    Attributes
    ----------
    order
        Endianness of the traced machine.
    word
        Bytes of the traced kernel's long.
    page
        Layout of its ring buffer pages.
    events
        By ``common_type``.
    kallsyms, printk
        Text as the kernel gave it (``/proc/kallsyms``, ``printk_formats``); empty where absent.
    comms
        Task names by pid.
    """

    order: Order = "little"
    word: int = 8
    page: PageLayout = field(default_factory=PageLayout)
    events: dict[int, EventFormat] = field(default_factory=dict)
    kallsyms: bytes = b""
    printk: bytes = b""
    comms: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preamble:
    """The first bytes of a file: version, endianness, sizes of the recording machine."""

    version: str
    order: Order
    user_word: int
    page_size: int


def read_preamble(cursor: Cursor) -> Preamble:
    """Read magic, version, endianness and sizes; the cursor takes the file's endianness.

    Raises
    ------
    HmtraceError
        If it is no trace.dat.
    """
    if bytes(cursor.take(min(len(TRACE_DAT), cursor.left), "magic number")) != TRACE_DAT:
        cursor.offset = 0
        raise cursor.error("not a trace.dat file: the magic number is missing")
    version = cursor.cstring("file version", 16)
    endian = cursor.number(1, "endianness")
    if endian > 1:
        raise cursor.error(f"endianness is {endian}, expected 0 or 1")
    cursor.order = "big" if endian else "little"
    user_word = cursor.number(1, "word size")
    page_size = cursor.number(4, "page size")
    if user_word not in (4, 8):
        raise cursor.error(f"word size is {user_word} bytes, expected 4 or 8")
    if not 64 <= page_size <= MAX_PAGE:
        raise cursor.error(f"page size is {page_size} bytes, which no machine has")
    return Preamble(version, cursor.order, user_word, page_size)


def read_tracing_data(data: memoryview, *, name: str) -> Metadata:
    """Read perf.data's TRACING_DATA: the start of a trace.dat of version 0.5 or 0.6.

    Parameters
    ----------
    data
        The feature section's bytes.
    name
        File name for messages.

    Returns
    -------
    Metadata
        Events by id, symbols, task names.

    Raises
    ------
    HmtraceError
        If it is damaged.
    """
    cursor = Cursor(data, name=name, base=None)
    preamble = read_preamble(cursor)
    meta = Metadata(order=preamble.order, word=preamble.user_word)
    read_linear(cursor, meta, preamble, comms=preamble.version not in ("0.5", "0.4"))
    return meta


def read_linear(cursor: Cursor, meta: Metadata, preamble: Preamble, *, comms: bool) -> None:
    """Read the blocks that v6 and perf have one after the other."""
    read_header_info(cursor, meta, preamble)
    read_ftrace_events(cursor, meta)
    read_event_formats(cursor, meta)
    read_kallsyms(cursor, meta)
    read_printk(cursor, meta)
    if comms:
        read_comms(cursor, meta)


def read_header_info(cursor: Cursor, meta: Metadata, preamble: Preamble) -> None:
    """Read ``header_page`` and ``header_event``; the former says the kernel's word size.

    The word size in the file's first bytes is that of the recording program, which may be a
    32-bit one on a 64-bit kernel.
    """
    _expect(cursor, b"header_page\0")
    page = bytes(cursor.sized(8, "header_page")).decode("utf-8", "replace")
    _expect(cursor, b"header_event\0")
    cursor.sized(8, "header_event")
    fields = {f.name: f for f in struct_fields(page, preamble.user_word)}
    if not page.strip():  # very old kernels have no such file
        word = preamble.user_word
        meta.page = PageLayout(0, 8, word, 8 + word, preamble.page_size)
        meta.word = word
        return
    try:
        stamp, commit, data = fields["timestamp"], fields["commit"], fields["data"]
    except KeyError as error:
        raise cursor.error(f"header_page has no field {error.args[0]!r}") from error
    size = max(preamble.page_size, data.offset + data.size)
    if stamp.size != 8 or commit.size not in (4, 8) or not 0 < data.offset < size:
        raise cursor.error("header_page describes no ring buffer page")
    if max(stamp.offset + 8, commit.offset + commit.size) > data.offset or size > MAX_PAGE:
        raise cursor.error("header_page describes no ring buffer page")
    meta.page = PageLayout(stamp.offset, commit.offset, commit.size, data.offset, size)
    meta.word = commit.size


def read_ftrace_events(cursor: Cursor, meta: Metadata) -> None:
    """Read the descriptions of the tracers' own events (function, print, kernel_stack, …)."""
    count = cursor.count(4, 8, "ftrace event formats")
    _add(meta, (("ftrace", cursor.sized(8, "ftrace event format")) for _ in range(count)))


def read_event_formats(cursor: Cursor, meta: Metadata) -> None:
    """Read the descriptions of tracepoints and probes, system by system."""
    for _ in range(cursor.count(4, 5, "event systems")):
        system = cursor.cstring("name of an event system")
        count = cursor.count(4, 8, f"event formats of {system}")
        _add(meta, ((system, cursor.sized(8, f"event format of {system}")) for _ in range(count)))


def read_kallsyms(cursor: Cursor, meta: Metadata) -> None:
    """Read the kernel's symbols."""
    meta.kallsyms = bytes(cursor.sized(4, "kallsyms"))


def read_printk(cursor: Cursor, meta: Metadata) -> None:
    """Read the format strings of trace_printk()."""
    meta.printk = bytes(cursor.sized(4, "printk formats"))


def read_comms(cursor: Cursor, meta: Metadata) -> None:
    """Read task names (``saved_cmdlines``: ``PID COMM`` lines; COMM may hold spaces)."""
    text = bytes(cursor.sized(8, "saved command lines")).decode("utf-8", "replace")
    for line in text.split("\n"):
        pid, _, comm = line.strip("\0").partition(" ")
        if pid.isascii() and pid.isdigit() and len(pid) < 10 and comm:
            meta.comms.setdefault(int(pid), comm)


def _add(meta: Metadata, texts: Iterable[tuple[str, memoryview]]) -> None:
    for system, text in texts:
        event = parse_event(system, text, meta.word)
        if event is not None:
            meta.events.setdefault(event.id, event)


def _expect(cursor: Cursor, tag: bytes) -> None:
    if bytes(cursor.take(len(tag), "section name")) != tag:
        cursor.offset -= len(tag)
        raise cursor.error(f"expected the section {tag[:-1].decode()!r}")
