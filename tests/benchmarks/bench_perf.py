"""Speed of the perf readers: samples/s, and whole processes beside ``perf script > /dev/null``.

Run ``python -m tests.benchmarks.bench_perf [PERF.DATA]``: the file (else the fixture's) is
repeated, with later time stamps, to two million samples. All run on the same machine; best of
several runs, in turns.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.bench_text import best_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "fixtures" / "i386-minix-pae-smp2-perf"
SAMPLES = 2_000_000
_SAMPLE, _FINISHED_ROUND = 9, 68
_TIME_AT = 32
"""Offset of TIME in a sample with IDENTIFIER, IP and TID (what perf record chooses)."""


def repeat(source: bytes, target: Path, samples: int) -> int:
    """Write a little-endian perf.data with its records repeated; give the number of samples."""
    words = np.frombuffer(source[:104], np.uint64)
    begin, size = int(words[5]), int(words[6])
    data = np.frombuffer(source, np.uint8)[begin : begin + size].copy()
    kept = []
    at = 0
    while at < size:
        kind = int.from_bytes(data[at : at + 4].tobytes(), "little")
        length = int.from_bytes(data[at + 6 : at + 8].tobytes(), "little")
        if kind in (_SAMPLE, _FINISHED_ROUND):
            kept.append((kind, at, length))
        at += length
    is_sample = np.array([kind == _SAMPLE for kind, _, _ in kept])
    places = np.array([p for kind, p, _ in kept if kind == _SAMPLE]) + _TIME_AT
    index = (places[:, None] + np.arange(8)).ravel()
    first = np.ascontiguousarray(data[index]).view(np.uint64).copy()
    span = int(first.max() - first.min()) + 1000
    copies = -(-samples // len(places))
    # Only the first copy keeps the records about tasks: their times would go back.
    head = data.tobytes()
    lone = np.concatenate([data[p : p + n] for _, p, n in kept])
    lengths = np.array([n for _, _, n in kept])
    lone_at = np.concatenate([[0], np.cumsum(lengths)[:-1]])[is_sample] + _TIME_AT
    lone_index = (lone_at[:, None] + np.arange(8)).ravel()
    total = len(head) + (copies - 1) * len(lone)
    shift = total - size
    features = bytearray(source[begin + size :])
    bits = int.from_bytes(source[72:104], "little").bit_count()
    for entry in range(bits):
        place = slice(16 * entry, 16 * entry + 8)
        moved = int.from_bytes(features[place], "little") + shift
        features[place] = moved.to_bytes(8, "little")
    prefix = bytearray(source[:begin])
    prefix[48:56] = total.to_bytes(8, "little")
    with target.open("wb") as out:
        out.write(prefix)
        out.write(head)
        for copy in range(1, copies):
            lone[lone_index] = (first + np.uint64(copy * span)).view(np.uint8)
            out.write(lone.tobytes())
        out.write(features)
    return copies * len(places)


def reader(path: Path) -> Callable[[], object]:
    """Raw events of a file, mapping included."""
    from collectors import FORMATS
    from collectors.input.opening import open_source

    def work() -> object:
        source = open_source(path, FORMATS)
        return next(f for f in FORMATS if f.sniff(source.head)).read(source, None)

    return work


def walk_only(path: Path) -> Callable[[], object]:
    """The compiled walk over all records, without sorting and without rows."""
    from collectors.perf_data.container import open_container
    from collectors.perf_data.records import Walk
    from collectors.symbols.table import Symbols

    data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    file = open_container(data.data, name=str(path))

    def work() -> None:
        walk = Walk(file, data, file.begin, file.end, Symbols.empty, {})
        while walk.fill():
            walk.keep(np.zeros(0, np.int64), None)

    return work


def process(*command: str) -> Callable[[], object]:
    """A whole process, output thrown away."""
    return lambda: subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    import gzip

    arguments = sys.argv[1:] if arguments is None else arguments
    given = Path(arguments[0]) if arguments else FIXTURE / "perf.data.gz"
    source = given.read_bytes()
    source = gzip.decompress(source) if source[:2] == b"\x1f\x8b" else source
    perf = shutil.which("perf")
    python = sys.executable
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "perf.data"
        samples = repeat(source, path, SAMPLES)
        beside = FIXTURE / "kprobe_events"
        (folder / "kprobe_events").write_bytes(beside.read_bytes())
        megabytes = path.stat().st_size / 1e6
        target = str(folder / "made.parquet")
        works = {
            "walk over records (kernel)": walk_only(path),
            "perf.data to rows": reader(path),
            "hmtrace convert (process)": process(
                python, "-m", "hmtrace", "convert", str(path), "-o", target, "--force"
            ),
        }
        if perf:
            works["perf script (process)"] = process(perf, "script", "-f", "-i", str(path))
            text = folder / "perf-script.txt"
            with text.open("wb") as out:
                command = [perf, "script", "-f", "-i", str(path)]
                subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, check=True)
            works["perf script text to rows"] = reader(text)
        start = time.perf_counter()
        seconds = best_of(works, 3)
        took = time.perf_counter() - start
    sys.stdout.write(f"perf: {samples} samples, {megabytes:.0f} MB ({took:.0f} s)\n")
    base, base_cpu = seconds.get("perf script (process)", (float("nan"), float("nan")))
    for name, (wall, cpu) in seconds.items():
        sys.stdout.write(
            f"  {name:30} {wall:7.3f} s wall {cpu:7.3f} s CPU {samples / wall / 1e6:7.2f} M/s "
            f"{base / wall:6.1f}x perf script, {base_cpu / cpu:.1f}x its CPU\n"
        )


if __name__ == "__main__":
    main()
