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
WORKLOAD: Final = b"hmtrace-workload "
"""Of a distilled trace; a number and an end of line follow (:mod:`collectors.container`)."""
