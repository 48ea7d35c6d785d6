"""Speed of the trace.dat reader: kernels alone, read_raw, and beside `trace-cmd report`.

Run ``python -m tests.benchmarks.bench_tracedat [TRACE.DAT]``; without an argument a file of two
million events is made by tests/writers. All in one run on one machine.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
EVENTS = 2_000_000
CPUS = 2
_WORKER = (
    "import mmap,sys;from pathlib import Path;from collectors.tracecmd_dat import read_raw;"
    "f=Path(sys.argv[1]).open('rb');m=mmap.mmap(f.fileno(),0,access=mmap.ACCESS_READ);"
    "print(len(read_raw(m,name=sys.argv[1]).raw.rows))"
)


def best(work: Callable[[], object], runs: int = 5) -> float:
    """Shortest of several runs, in seconds; one unmeasured run goes before."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def make(path: Path, events: int = EVENTS) -> None:
    """Write a zstd-compressed file of a 32-bit machine with probes and task switches."""
    from tests.writers import tracedat
    from tests.writers.tracedat import BufferSpec, FileSpec, Item

    draw = random.Random(1)
    specs = tracedat.kernel_events(4)
    spec = FileSpec([], list(specs.values()), compression="zstd", comms={7: "bash", 9: "perl"})
    spec.kallsyms = "c126e000 T kunmap_high\nc126f820 T kmap_high\n"
    cpus: dict[int, list[Item]] = {}
    for cpu in range(CPUS):
        now = 10**9
        items = []
        for number in range(events // CPUS):
            now += draw.randrange(100, 3000)
            name, values = "mapper", [0xC126F820, 0xF6000000 + 40 * draw.randrange(30000)]
            if number % 2:
                name, values = "mapper_back", [0xC126F820, 0xC1234567, 0xFF000000]
            if number % 50 == 49:
                name = "sched_switch"
                values = [b"bash", 7, 120, 2, b"perl", 9, 120]  # type: ignore[list-item]
            payload = specs[name].payload("little", 7, values)  # type: ignore[arg-type]
            items.append(Item("event", now, payload))
        cpus[cpu] = items
    spec.buffers = [BufferSpec(cpus)]
    path.write_bytes(tracedat.write(spec))


def measure(path: Path, say: Callable[[str], object]) -> None:
    """Measure one file and say the figures."""
    from collectors.tracecmd_dat import kernels, pages, read_raw
    from collectors.tracecmd_dat.container import open_container
    from collectors.tracecmd_dat.read import choose

    data = memoryview(path.read_bytes())
    container = open_container(data, name=path.name)
    buffer, _ = choose(container, None)
    loaded = pages.load(container, buffer)
    events = int(loaded.bounds[:, 1].sum())
    size = int((loaded.extents[:, 1] - loaded.extents[:, 0]).sum())
    say(f"{path.name}: {len(data) / 1e6:.1f} MB, {size / 1e6:.1f} MB of pages, {events} events")

    none, none32 = np.zeros(0, np.int64), np.zeros(0, np.int32)
    nothing = np.full(len(loaded.count), -1, np.int32)
    head = container.meta.page
    page = [buffer.page_size, head.stamp, head.commit, head.data, head.word, loaded.type_at]
    args = np.array([*page, container.meta.word, 0], np.int64)
    types, ips, count = loaded.slot_type.copy(), loaded.slot_ip.copy(), loaded.count.copy()

    def walk() -> None:
        kernels.walk(
            loaded.data,
            loaded.extents,
            args,
            loaded.big,
            loaded.ip_at,
            loaded.need,
            types,
            ips,
            count,
            nothing,
            none,
            none,
            none32,
            none32,
            none,
            np.zeros_like(loaded.bounds),
        )

    took = best(walk, 20)
    say(
        f"  counting walk      {events / took / 1e6:8.1f} M events/s  {size / took / 1e9:6.2f} GB/s"
    )
    copy = np.empty_like(loaded.data)
    took = best(lambda: np.copyto(copy, loaded.data), 20)
    say(f"  memory copy        {'':8}             {size / took / 1e9:6.2f} GB/s")
    every = np.append(np.where(types >= 0, 0, -1), -1).astype(np.int32)
    took = best(lambda: pages.list_records(loaded, every), 10)
    say(f"  list and merge     {events / took / 1e6:8.1f} M events/s")
    took = best(lambda: pages.load(container, buffer), 5)
    say(f"  decompress, count  {events / took / 1e6:8.1f} M events/s")
    took = best(lambda: read_raw(data, name=path.name), 5)
    say(f"  read_raw           {events / took / 1e6:8.1f} M events/s  {took:.3f} s")
    python = [sys.executable, "-c", _WORKER, str(path)]
    ours = best(lambda: subprocess.run(python, check=True, stdout=subprocess.DEVNULL, cwd=ROOT), 3)
    say(f"  whole process      {events / ours / 1e6:8.1f} M events/s  {ours:.3f} s")
    if shutil.which("trace-cmd"):
        report = ["trace-cmd", "report", str(path)]
        theirs = best(lambda: subprocess.run(report, check=True, stdout=subprocess.DEVNULL), 2)
        say(f"  trace-cmd report   {events / theirs / 1e6:8.1f} M events/s  {theirs:.3f} s")
        say(f"  ratio              {theirs / ours:8.1f} x")


def main(argv: list[str]) -> None:
    """Measure the files named, or one that is made."""

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")

    if argv:
        for name in argv:
            measure(Path(name), say)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.dat"
        make(path)
        measure(path, say)


if __name__ == "__main__":
    main(sys.argv[1:])
