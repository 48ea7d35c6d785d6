"""What a fleet's captures cost `advise` and `sweep`, alone and on workers of a local dask cluster.

Run ``python -m tests.benchmarks.bench_fleet [CAPTURES]``; without an argument 60 workload files are
asked, made of every fixture and of synthetic captures, one of them damaged. CPU and memory are what
the system says of the processes; every page has to name the damaged capture and no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.benchmarks.bench_scale import say

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
SYNTHETIC: Final = ("minix-walk", "pool-full")
AXES: Final = ("--axis", "vmalloc=128M,256M", "--axis", "ram=1G,2G")
WORKERS: Final = 2
_PATIENCE: Final = 60.0


def hmtrace(*words: object) -> None:
    """Run a command that has to succeed."""
    line = [sys.executable, "-m", "hmtrace", *map(str, words)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workloads(folder: Path) -> list[Path]:
    """A workload file of each fixture and of some synthetic captures."""
    made = []
    captures = [path for path in sorted(FIXTURES.iterdir()) if (path / "version").exists()]
    for kind in SYNTHETIC:
        for seed in (1, 2, 3):
            capture = folder / f"{kind}-{seed}"
            hmtrace("synth", kind, "--seed", seed, "--events", 20_000, "-o", capture)
            captures.append(capture)
    for capture in captures:
        made.append(folder / f"{capture.name}.workload")
        hmtrace("convert", capture, "-o", made[-1])
    return made


def fleet(folder: Path, sources: list[Path], captures: int) -> str:
    """Fill the folder with so many files; return the name of the damaged one."""
    folder.mkdir()
    for number in range(captures):
        target = folder / f"board-{number:05}.workload"
        shutil.copyfile(sources[number % len(sources)], target)
    damaged = folder / f"board-{captures // 2:05}.workload"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    return damaged.name


def ended(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of a process that is over."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def asked(name: str, line: list[object], page: Path, damaged: str) -> None:
    """Ask once and say what it took."""
    began = time.perf_counter()
    with page.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "hmtrace", *map(str, line)],
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
        cpu, peak = ended(process)
    took = time.perf_counter() - began
    text = page.read_text()
    if process.returncode != 3 or text.count(damaged) != 1 or "1 capture left out" not in text:
        raise SystemExit(f"{name}: exit code {process.returncode}, see {page}")
    say(f"{name:<24}{took:8.1f} s  {cpu:8.1f} s of CPU  peak {peak:6.0f} MB")


def main(arguments: list[str]) -> None:
    """Measure both commands on so many captures."""
    captures = int(arguments[0]) if arguments else 60
    with tempfile.TemporaryDirectory(prefix="hmtrace-fleet-") as name:
        folder = Path(name)
        boards, page, schedule = folder / "boards", folder / "page.txt", folder / "scheduler.json"
        damaged = fleet(boards, workloads(folder), captures)
        size = sum(path.stat().st_size for path in boards.iterdir())
        say(f"{captures} workload files, {size / 1e6:.0f} MB")
        asked("advise", ["advise", boards], page, damaged)
        asked("sweep of 4 machines", ["sweep", boards, *AXES], page, damaged)
        dask = [sys.executable, "-m", "distributed.cli."]
        ends = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        scheduler = subprocess.Popen(
            [*dask[:-1], f"{dask[-1]}dask_scheduler", "--host", "127.0.0.1", "--port", "0",
             "--no-dashboard", "--scheduler-file", str(schedule)], **ends,
        )  # fmt: skip
        limit = time.monotonic() + _PATIENCE
        while not schedule.exists() and time.monotonic() < limit:
            time.sleep(0.1)
        workers = [
            subprocess.Popen(
                [*dask[:-1], f"{dask[-1]}dask_worker", "--no-nanny", "--nthreads", "1",
                 "--no-dashboard", "--scheduler-file", str(schedule)], **ends,
            )
            for _ in range(WORKERS)
        ]  # fmt: skip
        try:
            cluster = ["--cluster", schedule]
            asked(f"advise, {WORKERS} workers", ["advise", boards, *cluster], page, damaged)
            asked(f"sweep, {WORKERS} workers", ["sweep", boards, *AXES, *cluster], page, damaged)
        finally:
            for worker in workers:  # before the scheduler, for which they would look
                worker.terminate()
            used = [ended(worker) for worker in workers]
            scheduler.terminate()
            scheduler.wait()
        for cpu, peak in used:
            say(f"a worker, both            {'':8}{cpu:9.1f} s of CPU  peak {peak:6.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
