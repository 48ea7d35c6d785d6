"""trace.dat, the file of trace-cmd: versions 6 and 7, any machine, any compression it uses."""

from __future__ import annotations

from collectors.tracecmd_dat.read import TraceDat, read_raw, sniff

__all__ = ["TraceDat", "read_raw", "sniff"]
