"""Numbers of the perf.data format.

Sources: tools/perf/Documentation/perf.data-file-format.txt, perf.data-directory-format.txt;
tools/perf/util/header.h (``enum``s of features), tools/lib/perf/include/perf/event.h (user
records); include/uapi/linux/perf_event.h (``struct perf_event_attr``, ``enum
perf_event_sample_format``, ``enum perf_event_type``).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

HEADER_BYTES: Final = 104
"""struct perf_file_header; a header of 16 bytes begins a stream (pipe mode)."""
PIPE_HEADER_BYTES: Final = 16
RECORD_HEADER: Final = 8
"""struct perf_event_header: u32 type, u16 misc, u16 size."""


class Sample(IntFlag):
    """Bits of ``sample_type`` up to RAW; what comes after it is not read."""

    IP = 1 << 0
    TID = 1 << 1
    TIME = 1 << 2
    ADDR = 1 << 3
    READ = 1 << 4
    CALLCHAIN = 1 << 5
    ID = 1 << 6
    CPU = 1 << 7
    PERIOD = 1 << 8
    STREAM_ID = 1 << 9
    RAW = 1 << 10
    IDENTIFIER = 1 << 16


class Read(IntFlag):
    """Bits of ``read_format``."""

    TIME_ENABLED = 1
    TIME_RUNNING = 2
    ID = 4
    GROUP = 8
    LOST = 16


class RecordType(IntEnum):
    """Types of records that mean something here; all others are skipped by their size."""

    LOST = 2
    COMM = 3
    THROTTLE = 5
    FORK = 7
    SAMPLE = 9
    LOST_SAMPLES = 13
    # From here on perf's own.
    HEADER_ATTR = 64
    TRACING_DATA = 66
    FINISHED_ROUND = 68
    AUXTRACE = 71
    EVENT_UPDATE = 78
    HEADER_FEATURE = 80
    COMPRESSED = 81
    COMPRESSED2 = 83


class Feature(IntEnum):
    """Feature sections that are read."""

    TRACING_DATA = 1
    HOSTNAME = 3
    OSRELEASE = 4
    ARCH = 6
    NRCPUS = 7
    TOTAL_MEM = 10
    CMDLINE = 11
    EVENT_DESC = 12
    DIR_FORMAT = 24
    COMPRESSED = 27


FEATURE_BITS: Final = 256

ATTR_MIN: Final = 64
"""PERF_ATTR_SIZE_VER0; versions up to 8 have 136 bytes."""
ATTR_MAX: Final = 1 << 12
"""Larger than any attribute that a kernel takes (one page: kernel/events/core.c)."""
TYPE_TRACEPOINT: Final = 2
FLAG_FREQ: Final = 10
FLAG_SAMPLE_ID_ALL: Final = 18
FLAG_USE_CLOCKID: Final = 25
"""Positions of bits in perf_event_attr's flags, counted as a little-endian machine does."""

MISC_LOST_BPF: Final = 1 << 15
"""LOST_SAMPLES of what a filter dropped on purpose (PERF_RECORD_MISC_LOST_SAMPLES_BPF)."""

CLOCKS: Final = {0: "realtime", 1: "mono", 4: "mono_raw", 7: "boot", 11: "tai"}
"""Names of ``clockid`` (include/uapi/linux/time.h), as the trace clocks are called."""

MAX_ATTRS: Final = 1 << 13
"""Events that a file may have."""
EXPANSION: Final = 256
"""Times its size that the records of a file may expand to, above `EXPANSION_FREE`."""
EXPANSION_FREE: Final = 1 << 26
