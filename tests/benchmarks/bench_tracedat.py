"""Speed of the trace.dat reader: compiled loops alone, rows, and beside `trace-cmd report`.

Run ``python -m tests.benchmarks.bench_tracedat [TRACE.DAT [EVENTS…]]``: the file (else that of a
fixture) is repeated, with later stamps, to 2 and to 20 million events. All in one run on one
machine; best of several runs, in turns.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.bench_perf import process
from tests.benchmarks.bench_text import best_of
from tests.writers.longer import lengthen

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.tracecmd_dat.container import DatFile

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "fixtures" / "i386-hog-h-race-pae-smp4" / "trace.dat"
EVENTS = (2_000_000, 20_000_000)


def list_all(file: DatFile) -> Callable[[], object]:
    """The compiled walk over all pages, every record listed, CPU after CPU in one thread."""
    from collectors.tracecmd_dat.decode import CpuWalk, RecordPool, Shape

    buffer = file.buffers[0]
    shape = Shape(file, buffer)

    def work() -> object:
        pool = RecordPool([c.cpu for c in buffer.cpus], 16)
        for index, cpu in enumerate(buffer.cpus):
            walk = CpuWalk(file, buffer, cpu, index, shape, pool, 1 << 22, lambda *_: (1, 0, 0))
            while walk.next_block().more:
                pass
        return None

    return work


def rows_of(data: memoryview) -> Callable[[], object]:
    """Raw events, piece by piece: what the rest of hmtrace gets."""
    from collectors.tracecmd_dat.read import open_stream

    return lambda: sum(len(p.rows) for p in open_stream(data, name="made.dat").pieces)


def measure(source: Path, folder: Path, events: int, say: Callable[[str], object]) -> None:
    """Measure a file of so many events, made of a short one, and say the figures."""
    from collectors.tracecmd_dat.container import open_container

    path, plain = folder / "made.dat", folder / "plain.dat"
    events = lengthen(source, path, events)
    lengthen(source, plain, events, "none")
    packed = memoryview(np.memmap(path, np.uint8, "r"))
    data = np.memmap(plain, np.uint8, "r")
    file = open_container(memoryview(data), name="plain.dat")
    size = sum(c.size for c in file.buffers[0].cpus)
    copy = np.empty(size, np.uint8)
    first = file.buffers[0].cpus[0].offset
    target = str(folder / "made.parquet")
    works = {
        "copy of the pages": lambda: np.copyto(copy, data[first : first + size]),
        "walk, every record listed": list_all(file),
        "rows (uncompressed file)": rows_of(memoryview(data)),
        "rows (zstd file)": rows_of(packed),
        "hmtrace convert (process)": process(
            sys.executable, "-m", "hmtrace", "convert", str(path), "-o", target, "--force"
        ),
    }
    if shutil.which("trace-cmd"):
        works["trace-cmd report (process)"] = process("trace-cmd", "report", str(path))
    start = time.perf_counter()
    seconds = best_of(works, 3)
    took = time.perf_counter() - start
    say(
        f"{events} events, {size / 1e6:.0f} MB of pages, {path.stat().st_size / 1e6:.0f} MB "
        f"compressed ({took:.0f} s)"
    )
    base, base_cpu = seconds.get("trace-cmd report (process)", (float("nan"), float("nan")))
    bandwidth = size / seconds["copy of the pages"][0]
    for name, (wall, cpu) in seconds.items():
        say(
            f"  {name:30} {wall:7.3f} s wall {cpu:7.3f} s CPU {events / wall / 1e6:7.2f} M/s "
            f"{size / wall / bandwidth * 100:6.1f} % of a copy "
            f"{base / wall:6.1f}x trace-cmd report, {base_cpu / cpu:.1f}x its CPU"
        )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    source = Path(arguments[0]) if arguments else FIXTURE
    for events in [int(a) for a in arguments[1:]] or EVENTS:
        with tempfile.TemporaryDirectory() as scratch:
            measure(source, Path(scratch), events, lambda text: sys.stdout.write(text + "\n"))


if __name__ == "__main__":
    main()
