"""Boots Debian's kernels and judges what the recorder brings out; exit 1 where something is wrong.

A guest whose packages are not to be had here is skipped, and said so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict
from json import dumps
from pathlib import Path

from tests.kernel import machine, table
from tests.kernel.checks import Outcome, judge
from tests.kernel.matrix import Guest, guests
from tests.kernel.packages import UnavailableError, cache

TRIES = 2
"""Boots of a guest: software-emulated i386 with several CPUs may panic while probes are armed."""


def main() -> int:
    """Boot the guests that are asked for."""
    options = _options()
    wanted = [
        guest
        for guest in guests()
        if (guest.small or not options.small)
        and (not options.only or any(word in guest.name for word in options.only))
    ]
    if options.list:
        _tell("\n".join(guest.name for guest in wanted))
        return 0
    recorder = options.recorder.read_text() if options.recorder else _recorder()
    ends = time.monotonic() + options.seconds if options.seconds else None
    outcomes = []
    for guest in wanted:
        outcome = run(guest, recorder, options, ends)
        outcomes.append(outcome)
        for line in said(outcome):
            _tell(line)
        if options.write_docs:
            page = table.PAGE.read_text()
            table.PAGE.write_text(table.written(page, guests(), {guest.name: outcome}))
        (options.folder / "outcomes.json").write_text(
            dumps([asdict(o) for o in outcomes], indent=1)
        )
    _tell(summary(outcomes))
    return int(any(outcome.failures for outcome in outcomes))


def run(guest: Guest, recorder: str, options: argparse.Namespace, ends: float | None) -> Outcome:
    """One guest, booted again where it did not come to its end, until the time allowed ends."""
    folder = options.folder / guest.name
    settings = {
        "RECORDER": f"{guest.recorder} {options.recorder_options}".strip(),
        "TRACEFS": "mounted" if guest.mounted else "",
        "REPEAT": str(options.repeat),
    }
    troubles = []
    for _ in range(TRIES):
        left = ends - time.monotonic() if ends else options.timeout
        if left < options.least:
            return Outcome(guest.name, skipped=f"{left:.0f} s are left of {options.seconds:.0f}")
        try:
            prepared = machine.prepare(guest, recorder, folder, settings)
        except UnavailableError as why:
            return Outcome(guest.name, skipped=str(why))
        left = ends - time.monotonic() if ends else options.timeout
        booted = machine.boot(prepared, min(left, options.timeout))
        if ends and time.monotonic() >= ends:
            return Outcome(guest.name, skipped=f"not done in the {options.seconds:.0f} s allowed")
        if not booted.trouble:
            outcome = judge(booted, guest.name)
            outcome.notes += [f"booted again, for the first time {why}" for why in troubles]
            return outcome
        troubles.append(booted.trouble)
    outcome = Outcome(guest.name, booted.release, booted.package, seconds=booted.seconds)
    outcome.failures += troubles
    return outcome


def summary(outcomes: list[Outcome]) -> str:
    """The last line: how many guests were right, wrong and left out."""
    failed = sum(bool(outcome.failures) for outcome in outcomes)
    skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    if skipped == len(outcomes):
        return f"no kernel was booted: {skipped} left out"
    return f"{len(outcomes) - failed - skipped} passed, {failed} failed, {skipped} skipped"


def said(outcome: Outcome) -> list[str]:
    """An outcome in lines."""
    if outcome.skipped:
        return [f"SKIPPED {outcome.guest}: {outcome.skipped}"]
    kinds = ", ".join(f"{name} {got} of {total}" for name, (got, total) in outcome.kinds.items())
    overhead = "?" if outcome.overhead is None else f"{outcome.overhead:+.0%}"
    verdict = "FAILED" if outcome.failures else "passed"
    head = f"{verdict} {outcome.guest} ({outcome.package}), {outcome.seconds:.0f} s"
    lines = [
        head,
        f"  {outcome.events} events, {outcome.lost} lost, {outcome.missed} missed; {kinds};"
        f" {outcome.open} open; flushes {outcome.flushes[0]} of {outcome.flushes[1]};"
        f" layout {outcome.layout[0]} of {outcome.layout[1]}; overhead {overhead}",
    ]
    lines += [f"  ! {line}" for line in outcome.failures]
    return lines + [f"  . {line}" for line in outcome.notes]


def _recorder() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hmtrace", "recorder"], capture_output=True, text=True, check=True
    )
    return done.stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kernel", description=__doc__)
    parser.add_argument("--list", action="store_true", help="the guests' names, and no more")
    parser.add_argument("--only", action="append", help="guests with this in their name")
    parser.add_argument("--small", action="store_true", help="only those that CI boots")
    parser.add_argument("--seconds", type=float, help="of all boots; what is left out is said")
    parser.add_argument(
        "--least", type=float, default=60, help="seconds a guest is begun with (60)"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="renew the rows of docs/support-matrix.md"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds of one boot (600)")
    parser.add_argument("--repeat", type=int, default=1, help="size of the workloads (1)")
    parser.add_argument("--recorder", type=Path, help="script, for that of `hmtrace recorder`")
    parser.add_argument("--recorder-options", default="", help="more options of the recorder")
    parser.add_argument(
        "--folder", type=Path, default=cache() / "runs", help="keeps captures and consoles"
    )
    parsed = parser.parse_args()
    parsed.folder.mkdir(parents=True, exist_ok=True)
    return parsed


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
