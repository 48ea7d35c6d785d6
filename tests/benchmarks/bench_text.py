"""Speed of the text scanner: lines/s beside a polars regex extraction and trace-cmd report.

Run ``python -m tests.benchmarks.bench_text [TRACE]``; without an argument a fixture is repeated
to a million lines. All run on the same machine with the same CPUs; best of several runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
LINES = 1_000_000
_LEFT = r"^\s*(?P<comm>.*?)-(?P<pid>\d+)\s+(?:\(\s*(?:\d+|-+)\)\s+)?\[(?P<cpu>\d{3,})\]"
_RIGHT = (
    r"\s*(?:(?P<flags>[^\s\d]\S{3,7})\s+)?(?P<sec>\d+)\.(?P<frac>\d{6,9}):"
    r"\s+(?P<event>[^:\s]+):\s+(?P<body>.*)$"
)
PATTERN = _LEFT + _RIGHT
"""What a regex reader has to take out of a line before it can even look at the arguments."""


def best(work: Callable[[], object], runs: int = 5) -> float:
    """Shortest of several runs, in seconds; one unmeasured run goes before."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def repeated(folder: Path, target: Path, lines: int = LINES) -> int:
    """Write the text trace of a capture folder, repeated to at least `lines` lines."""
    from collectors import FORMATS
    from collectors.source import open_source

    trace = next(p for p in sorted(folder.iterdir()) if p.name.startswith("trace.txt"))
    data = open_source(trace, FORMATS).data.tobytes()
    per_copy = data.count(b"\n")
    copies = -(-lines // per_copy)
    with target.open("wb") as out:
        for _ in range(copies):
            out.write(data)
    return copies * per_copy


def scanner(path: Path) -> Callable[[], object]:
    """Raw events of a text, mapping included."""
    from collectors import FORMATS
    from collectors.source import open_source
    from collectors.text.reader import read_raw

    return lambda: read_raw(open_source(path, FORMATS))


def polars_regex(path: Path) -> Callable[[], object]:
    """The same left half, by polars' regex engine on all CPUs (lines as rows)."""
    import polars as pl

    def work() -> object:
        lines = pl.read_csv(
            path, has_header=False, separator="\x01", quote_char=None, new_columns=["line"]
        )
        return lines.select(pl.col("line").str.extract_groups(PATTERN)).unnest("line")

    return work


def trace_cmd(path: Path) -> Callable[[], object]:
    """``trace-cmd report`` on a trace.dat, output thrown away."""
    command = ["trace-cmd", "report", "-i", str(path)]
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def richest_fixture() -> Path:
    """Fixture folder with the largest text trace."""
    folders = [p for p in FIXTURES.iterdir() if p.is_dir() and list(p.glob("trace.txt*"))]
    if not folders:
        raise SystemExit("no fixture holds a text trace")
    return max(folders, key=lambda p: max(t.stat().st_size for t in p.glob("trace.txt*")))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    folder = Path(arguments[0]) if arguments else richest_fixture()
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "trace.txt"
        lines = repeated(folder, text)
        megabytes = text.stat().st_size / 1e6
        ours = lines / best(scanner(text))
        regex = lines / best(polars_regex(text), 2)
        rows = [
            ("hmtrace scanner", ours, ours * megabytes / lines),
            ("polars regex, left half only", regex, regex * megabytes / lines),
        ]
        data = next(iter(folder.glob("trace.dat")), None)
        if data is not None and shutil.which("trace-cmd"):
            shown = subprocess.run(
                ["trace-cmd", "report", "-i", str(data)], capture_output=True, check=True
            ).stdout
            speed = shown.count(b"\n") / best(trace_cmd(data), 3)
            rows.append(("trace-cmd report (trace.dat)", speed, 0.0))
    sys.stdout.write(f"text scanner: {folder.name}, {lines} lines, {megabytes:.0f} MB\n")
    for name, speed, volume in rows:
        shown_volume = f"{volume:8.0f} MB/s" if volume else " " * 13
        ratio = f"hmtrace is {ours / speed:5.1f} x" if speed != ours else ""
        line = f"  {name:32}{speed / 1e6:8.3f} M lines/s {shown_volume}  {ratio}"
        sys.stdout.write(line.rstrip() + "\n")


if __name__ == "__main__":
    main()
