"""Memory and time of `convert` and `report` on text as large as is asked for.

Run ``python -m tests.benchmarks.bench_scale [GIB] [COMMAND…]``; without arguments 0.3 GiB are
converted and looked at with `info`. The trace is a fixture's, repeated with later times; the
folder of temporary files (TMPDIR) needs room for it. Peak memory is what the system says of the
process.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "fixtures" / "i386-minix-pae-smp2" / "trace.txt.gz"
_STAMP = re.compile(rb"(?m)(?<=\s)(\d+)\.(\d{6}): ")


def write_trace(path: Path, size: int) -> int:
    """Write a text trace of at least `size` bytes; return its number of lines."""
    body = b"".join(
        line
        for line in gzip.decompress(TRACE.read_bytes()).splitlines(keepends=True)
        if not line.startswith(b"#")
    )
    first, *_, last = (int(s) * 10**6 + int(u) for s, u in _STAMP.findall(body))
    span = last - first + 1000
    # Time stamps apart from what is between them: a copy is a join.
    parts = _STAMP.split(body)
    texts = parts[0::3]
    times = [int(s) * 10**6 + int(u) for s, u in zip(parts[1::3], parts[2::3], strict=True)]
    written = copies = 0
    with path.open("wb", buffering=1 << 22) as file:
        written += file.write(b"# tracer: nop\n#\n")
        while written < size:
            shift = copies * span
            piece = [texts[0]]
            for at, text in zip(times, texts[1:], strict=True):
                seconds, rest = divmod(at + shift, 10**6)
                piece += (b"%d.%06d: " % (seconds, rest), text)
            written += file.write(b"".join(piece))
            copies += 1
    return copies * body.count(b"\n")


def measured(command: list[str], temporary: Path) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and peak memory in bytes of a command."""
    began = time.perf_counter()
    environment = os.environ | {"TMPDIR": str(temporary)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Measure the commands on a trace of the size that is asked for."""
    gib = float(arguments[0]) if arguments else 0.3
    commands = arguments[1:] or ["convert", "info"]
    with tempfile.TemporaryDirectory(prefix="hmtrace-scale-") as folder:
        temporary = Path(folder)
        trace = temporary / "trace.txt"
        lines = write_trace(trace, int(gib * (1 << 30)))
        say(f"text of {trace.stat().st_size / 1e9:.2f} GB, {lines / 1e6:.1f} M events")
        for command in commands:
            line = [sys.executable, "-m", "hmtrace", command, str(trace)]
            if command == "convert":
                line += ["-o", str(temporary / "out.parquet"), "--force"]
            took, cpu, peak = measured(line, temporary)
            say(
                f"{command:<10}{took:8.1f} s  {cpu:8.1f} s of CPU  {lines / took / 1e6:6.2f} M "
                f"events/s  peak {peak / 1e6:6.0f} MB"
            )
        out = temporary / "out.parquet"
        if out.exists():
            rows = pl.scan_parquet(out, glob=False).select(pl.len()).collect().item()
            say(f"parquet: {out.stat().st_size / 1e6:.0f} MB, {rows / 1e6:.1f} M rows")


if __name__ == "__main__":
    main(sys.argv[1:])
