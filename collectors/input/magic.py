"""First bytes of the files that hmtrace reads, and of some that it is given all the same."""

from __future__ import annotations

from typing import Final

TRACE_DAT: Final = b"\x17\x08\x44tracing"
"""First ten bytes of every trace.dat."""
PERF_DATA: Final = b"PERFILE2"
"""Of a perf.data; in the other order where the machine is of the other endianness."""
PERF_DATA_OLD: Final = b"PERFFILE"
"""Of version 1, which perf stopped to write in 2012."""
PARQUET: Final = b"PAR1"
"""Also the last bytes of a Parquet file."""
ARROW: Final = b"ARROW1\0\0"
"""Without its two zeros also the last bytes of an Arrow IPC file."""
WORKLOAD: Final = b"hmtrace-workload "
"""Of a distilled trace; a number and an end of line follow (:mod:`collectors.container`)."""

_PACKED: Final = (
    "unpack it, and give hmtrace what is in it; gz, xz, zst and tar are read as they are"
)
_RECORD: Final = "hmtrace reads what ftrace or perf record: README.md, 'How to capture'"
_SCRIPT: Final = "give the perf.data itself, or the output of perf script"
STRANGERS: Final = (
    (b"PK\x03\x04", "a zip archive", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACKED),
    (b"Rar!\x1a\x07", "a RAR archive", _PACKED),
    (b"BZh", "bzip2 data", _PACKED),
    (b"\x04\x22\x4d\x18", "lz4 data", _PACKED),
    (b"LZIP", "lzip data", _PACKED),
    (b"\xc1\x1f\xfc\xc1", "a CTF trace, as LTTng writes it", _RECORD),
    (b"\xc1\xfc\x1f\xc1", "a CTF trace, as LTTng writes it", _RECORD),
    (b"\x75\xd1\x1d\x57", "metadata of a CTF trace, as LTTng writes it", _RECORD),
    (b"\x57\x1d\xd1\x75", "metadata of a CTF trace, as LTTng writes it", _RECORD),
    (b"\x7fELF", "an ELF file: a program, a module or a core", _RECORD),
    (
        b'{"linux-perf-json-version"',
        "JSON of perf data convert, which has no values of probes",
        _SCRIPT,
    ),
    (b'{"traceEvents"', "a trace in Chrome's JSON", _RECORD),
    (b"# To display the perf.data header", "output of perf report: shares, no events", _SCRIPT),
    (b"# Overhead", "output of perf report: shares, no events", _SCRIPT),
    (b"\n Performance counter stats for", "output of perf stat: counts, no events", _SCRIPT),
)
"""What a file begins with that is no trace, what it is, and what would help."""


def stranger(head: bytes) -> tuple[str, str] | None:
    r"""What a file of another kind is, and what would help; None where it is not known.

    Examples
    --------
    >>> stranger(b"PK\x03\x04...")[0]
    'this is a zip archive'
    """
    head = head.removeprefix(b"\xef\xbb\xbf")
    for magic, what, hint in STRANGERS:
        if head.startswith(magic):
            return f"this is {what}", hint
    return None
