"""Numbers of the trace.dat format and of the kernel's ring buffer pages.

Sources: trace-cmd.dat.v6(5), trace-cmd.dat.v7(5); kernel include/linux/ring_buffer.h
(``enum ring_buffer_type``) and kernel/trace/ring_buffer.c (``struct buffer_data_page``,
``RB_MISSED_EVENTS``, ``RB_MISSED_STORED``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class OptionId(IntEnum):
    """Ids of options that hmtrace reads; all others are skipped by their size."""

    DONE = 0
    DATE = 1
    CPUSTAT = 2
    BUFFER = 3
    TRACECLOCK = 4
    UNAME = 5
    OFFSET = 7
    CPUCOUNT = 8
    VERSION = 9
    TRACEID = 11
    TIME_SHIFT = 12
    GUEST = 13
    TSC2NSEC = 14
    STRINGS = 15
    HEADER_INFO = 16
    FTRACE_EVENTS = 17
    EVENT_FORMATS = 18
    KALLSYMS = 19
    PRINTK = 20
    CMDLINES = 21
    BUFFER_TEXT = 22


SECTION_NAMES: Final = {
    OptionId.DONE: "the list of options",
    OptionId.BUFFER: "a trace buffer",
    OptionId.HEADER_INFO: "the description of pages",
    OptionId.FTRACE_EVENTS: "the tracers' event formats",
    OptionId.EVENT_FORMATS: "the event formats",
    OptionId.KALLSYMS: "the kernel's symbols",
    OptionId.PRINTK: "the printk formats",
    OptionId.CMDLINES: "the task names",
    OptionId.BUFFER_TEXT: "a latency trace",
}
"""Sections of version 7, for messages."""

KNOWN_OPTIONS: Final = 26
"""Ids below are known: read, or of no use here (6 HOOK, 10 PROCMAPS, 23 BTF_FILE, 24
LAST_BOOT_INFO, 25 MODULES_FILE)."""

SECTION_COMPRESSED: Final = 1
"""Bit of a v7 section's flags."""

TAG_BYTES: Final = 10
TAG_OPTIONS: Final = b"options  \0"
TAG_LATENCY: Final = b"latency  \0"
TAG_FLYRECORD: Final = b"flyrecord\0"

TSYNC_INTERPOLATE: Final = 1
"""Bit of the TIME_SHIFT option's flags (``TRACECMD_TSYNC_FLAG_INTERPOLATE``)."""

RAW_CLOCKS: Final = frozenset({"counter", "uptime", "x86-tsc", "ppc-tb"})
"""Trace clocks that count events, jiffies or cycles, not nanoseconds (kernel/trace/trace.c:
``trace_clocks``, ``in_ns``)."""

# Ring buffer pages.
COMMIT_BYTES: Final = 0x07FF_FFFF
"""Bits of a page's commit word that hold the number of bytes used."""
COMMIT_MISSED: Final = 1 << 31
"""Events were lost before this page."""
COMMIT_MISSED_STORED: Final = 1 << 30
"""The number of lost events stands as a long after the used bytes."""
TYPE_DATA_MAX: Final = 28
"""Up to it, a record's type is its length in words; 0: the length follows as a word."""
TYPE_PADDING: Final = 29
TYPE_TIME_EXTEND: Final = 30
TYPE_TIME_STAMP: Final = 31
TIME_SHIFT_BITS: Final = 27
"""A record's own delta has 27 bits; extends and stamps carry the bits above."""
STAMP_KEPT: Final = -(1 << 59)
"""The upper five bits of a signed 64-bit number: an absolute stamp has 59 bits, these come from
the stamp before (``TS_MSB``)."""

# Limits that a file has to keep before its numbers are believed.
MAX_CPUS: Final = 1 << 13
"""NR_CPUS of any architecture is 8192 at most."""
MAX_TEXT: Final = 1 << 28
"""Bytes that one compressed section may expand to (kallsyms takes a few MiB)."""
FREE: Final = 1 << 26
"""Bytes that anything may expand to."""
EXPANSION: Final = 256
"""Times its size on disk that a section may expand to above `FREE`, and trace data without
events: pages of events are expanded without limit, a few megabytes at a time."""
