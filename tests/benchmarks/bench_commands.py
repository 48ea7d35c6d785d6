"""Time of whole commands, start to end, second run: report, validate, --help and trace-cmd.

Run ``python -m tests.benchmarks.bench_commands [CAPTURE]``; without an argument the fixture
i386-minix-pae-smp2 is repeated to 300 000 events, with a marker of lost events between the
copies, so that each begins from a state that is not known. Uses hyperfine where installed.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINIX = ROOT / "fixtures" / "i386-minix-pae-smp2"
RACE = ROOT / "fixtures" / "i386-hog-h-race-pae-smp4"
COPIES = 3
_TIME = re.compile(rb"(?m)(?<=\s)(\d+)(?=\.\d{6}: )")


def repeated(folder: Path, target: Path) -> Path:
    """A capture folder whose text trace is `folder`'s, several times one after the other."""
    meta = [p for p in folder.iterdir() if not p.name.startswith(("trace", "report"))]
    target.mkdir()
    for path in meta:
        shutil.copy(path, target)
    text = gzip.decompress((folder / "trace.txt.gz").read_bytes())
    begin = text.index(b"\n", text.rindex(b"\n#") + 1) + 1
    header, body = text[:begin], text[begin:]
    span = 1 + int(_TIME.findall(body)[-1]) - int(_TIME.findall(body)[0])
    with (target / "trace.txt").open("wb") as out:
        # The counts of the header would say that most of it was overwritten.
        out.write(re.sub(rb"(?m)^# entries-in-buffer.*\n", b"", header))
        for copy in range(COPIES):
            if copy:
                out.write(b"CPU:0 [LOST 1 EVENTS]\nCPU:1 [LOST 1 EVENTS]\n")
            shift = copy * span
            out.write(_TIME.sub(lambda m, shift=shift: b"%d" % (int(m[1]) + shift), body))
    return target


def seconds(command: list[str], runs: int = 5) -> tuple[float, float]:
    """Mean and shortest wall time of a command, after one unmeasured run."""
    if hyperfine := shutil.which("hyperfine"):
        with tempfile.NamedTemporaryFile(suffix=".json") as result:
            options = ["-N", "--warmup=1", f"--runs={runs}", "--style=none"]
            options += [f"--export-json={result.name}", shlex.join(command)]
            subprocess.run([hyperfine, *options], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            found = json.load(result)["results"][0]
        return found["mean"], found["min"]
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        times.append(time.perf_counter() - start)
    return sum(times[1:]) / runs, min(times[1:])


def events_of(capture: Path) -> int:
    """Events in a capture, all kinds."""
    shown = subprocess.run(
        [sys.executable, "-m", "hmtrace", "info", "--format", "json", str(capture)],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    return sum(json.loads(shown.stdout)["raw_events"].values())


def main(argv: list[str] | None = None) -> None:
    """Measure and print a table."""
    argv = sys.argv[1:] if argv is None else argv
    say = sys.stdout.write
    program = [sys.executable, "-m", "hmtrace"]
    how = "hyperfine" if shutil.which("hyperfine") else "time"
    with tempfile.TemporaryDirectory() as scratch:
        capture = Path(argv[0]) if argv else repeated(MINIX, Path(scratch) / "long")
        say(f"whole commands, {how}, mean (shortest) of 5 after one unmeasured run\n")
        for name, command in {
            "hmtrace --help": [*program, "--help"],
            f"report, {events_of(capture)} events": [*program, "report", str(capture)],
            "validate, same": [*program, "validate", str(capture)],
        }.items():
            mean, least = seconds(command)
            say(f"  {name:34}{mean:6.2f} s ({least:.2f})\n")
        data = next((p for p in (capture / "trace.dat", RACE / "trace.dat") if p.exists()), None)
        if data is not None:
            events = events_of(data)
            ours, _ = seconds([*program, "report", str(data)])
            say(f"  {f'report, trace.dat, {events} events':34}{ours:6.2f} s\n")
            if shutil.which("trace-cmd"):
                theirs, _ = seconds(["trace-cmd", "report", "-i", str(data)])
                say(f"  {'trace-cmd report, same file':34}{theirs:6.2f} s")
                say(f" · {theirs / ours:.1f} x as long\n")


if __name__ == "__main__":
    main()
