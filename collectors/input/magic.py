"""First bytes of the files that hmtrace reads."""

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
ATRACE: Final = b"TRACE:\n"
"""First line of what Android's atrace gives; with -z a zlib stream follows."""
PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    ATRACE + b"\x78": "atrace",
}
"""Compressed files, with the name of the compression."""
