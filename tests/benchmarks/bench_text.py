"""Speed of the text scanner: lines/s beside a polars regex extraction and trace-cmd report.

Run ``python -m tests.benchmarks.bench_text [TRACE]``; without an argument a fixture is repeated
to a million lines. All run on the same machine with the same CPUs; best of several runs.
"""

from __future__ import annotations

import resource
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
    r"\s+(?P<event>[^:\s]+):\s+(?:\((?P<where>[^)]*)\))?"
    r"(?:\s*(?P<n1>\w+)=(?P<v1>\S+))?(?:\s+(?P<n2>\w+)=(?P<v2>\S+))?"
)
PATTERN = _LEFT + _RIGHT
"""Task, CPU, context, time, event, probed function and two arguments, all left as text."""


def cpu_time() -> float:
    """Seconds that this process and its ended children took, in finer steps than os.times()."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def best_of(
    works: dict[str, Callable[[], object]], rounds: int = 4
) -> dict[str, tuple[float, float]]:
    """Shortest run of each, in seconds of wall and of CPU time (all threads, children).

    They run in turns, so that what else the machine does hits all alike; the CPU time says
    more where other work competes for the CPUs.
    """
    shortest = dict.fromkeys(works, (float("inf"), float("inf")))
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            before, start = cpu_time(), time.perf_counter()
            work()
            wall, cpu = time.perf_counter() - start, cpu_time() - before
            shortest[name] = min(shortest[name][0], wall), min(shortest[name][1], cpu)
    return shortest


def repeated(folder: Path, target: Path, lines: int = LINES) -> int:
    """Write the text trace of a capture folder, repeated to at least `lines` lines."""
    from collectors import FORMATS
    from collectors.input.opening import open_source

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
    from collectors.input.opening import open_source
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
    """Fixture folder with the largest text trace, one that trace-cmd can read too if there is."""
    folders = [p for p in FIXTURES.iterdir() if p.is_dir() and list(p.glob("trace.txt*"))]
    if not folders:
        raise SystemExit("no fixture holds a text trace")

    def worth(folder: Path) -> tuple[bool, int]:
        sizes = [t.stat().st_size for t in folder.glob("trace.txt*")]
        return (folder / "trace.dat").exists(), max(sizes)

    return max(folders, key=worth)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    folder = Path(arguments[0]) if arguments else richest_fixture()
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "trace.txt"
        lines = repeated(folder, text)
        megabytes = text.stat().st_size / 1e6
        works = {"hmtrace scanner": scanner(text), "polars regex": polars_regex(text)}
        counts = dict.fromkeys(works, lines)
        data = next(iter(folder.glob("trace.dat")), None)
        if data is not None and shutil.which("trace-cmd"):
            name = "trace-cmd report (trace.dat)"
            shown = subprocess.run(
                ["trace-cmd", "report", "-i", str(data)], capture_output=True, check=True
            ).stdout
            works[name], counts[name] = trace_cmd(data), shown.count(b"\n")
        seconds = best_of(works)
    sys.stdout.write(f"text scanner: {folder.name}, {lines} lines, {megabytes:.0f} MB\n")
    wall, cpu = ({name: seconds[name][k] / counts[name] for name in works} for k in (0, 1))
    ours = "hmtrace scanner"
    for name in works:
        volume = f"{megabytes / lines / wall[name]:6.0f} MB/s" if counts[name] == lines else ""
        line = f"  {name:30}{1e-6 / wall[name]:7.3f} M lines/s {volume:11}"
        line += f" {cpu[name] * 1e6:6.2f} CPU s/M"
        if name != ours:
            line += (
                f"; {wall[name] / wall[ours]:.1f} x slower, {cpu[name] / cpu[ours]:.1f} x the CPU"
            )
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
