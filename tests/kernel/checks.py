"""What a real kernel's capture has to be: the machine as before, exact, counted like the kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from collectors.probes import FUNCTION_OF, FUNCTIONS, base_name

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.machine import Booted

ARMED = 400, 0.03
"""Hits of a probe, and their share, that may lie before recording begins or after it ends: the
recorder's own processes map pages while the counts are read."""


@dataclass
class Outcome:
    """What a guest proved.

    Attributes
    ----------
    failures
        One line each; none if all is right.
    notes
        What a reader should know beside them.
    """

    guest: str
    release: str = ""
    package: str = ""
    events: int = 0
    lost: int = 0
    missed: int = 0
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    inferred: int = 0
    open: int = 0
    flushes: tuple[int, int] = (0, 0)
    layout: tuple[int, int] = (0, 0)
    alone_s: float = 0.0
    recorded_s: float = 0.0
    seconds: float = 0.0
    absent: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def overhead(self) -> float | None:
        """CPU time of the workload while recorded, as a share of that without, less 1."""
        return self.recorded_s / self.alone_s - 1 if self.alone_s and self.recorded_s else None


def judge(booted: Booted, name: str) -> Outcome:
    """Compare what a guest brought out with what it has to be."""
    outcome = Outcome(name, booted.release, booted.package, seconds=booted.seconds)
    status = booted.result("recorder-status").strip()
    if status != "0":
        lines = booted.result("recorder").splitlines()
        said = [line for line in lines if line.startswith("hmrecord: ")] or lines or ["nothing"]
        outcome.failures.append(f"the recorder ended with {status or 'nothing'}: {said[-1]}")
    outcome.failures += restored(booted.result("state-before"), booted.result("state-after"))
    outcome.alone_s, outcome.recorded_s = (_span(booted, name) for name in ("alone", "recorded"))
    trouble = re.compile(r"WARNING:|BUG:|Oops|soft lockup|blocked for more|rcu.*stall")
    outcome.failures += [
        f"the kernel said: {line}"
        for line in booted.result("complaints").splitlines()
        if trouble.search(line)
    ]
    outcome.notes += [
        line
        for log in ("work-recorded", "console")
        for line in booted.result(log).splitlines()
        if "failed" in line
    ]
    if not booted.capture.exists() or not booted.capture.stat().st_size:
        outcome.failures.append("there is no capture")
        return outcome
    validated, said = _hmtrace("validate", booted.capture)
    if validated is None:
        outcome.failures.append(f"hmtrace validate: {said}")
    else:
        _exact(validated["captures"][0], outcome)
    info, said = _hmtrace("info", booted.capture)
    if info is None:
        outcome.failures.append(f"hmtrace info: {said}")
    else:
        _counted(info, booted.capture, outcome)
    return outcome


def restored(before: str, after: str) -> list[str]:
    """Settings that differ, one line each."""
    one, other = before.splitlines(), after.splitlines()
    gone = [f"not restored, missing: {line}" for line in one if line not in other]
    return gone + [f"not restored, new: {line}" for line in other if line not in one]


def _span(booted: Booted, mark: str) -> float:
    """CPU time of the emulator between the two marks of a name, 0 where they are not both there."""
    at = booted.cpu_s.get(mark, [])
    return at[1] - at[0] if len(at) == 2 else 0.0


def profile(text: str) -> dict[str, tuple[int, int]]:
    """Hits and misses of each event of ``kprobe_profile``."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3}


def functions(events: str) -> dict[str, tuple[str, bool]]:
    """Function of each event of ``kprobe_events``, and whether its return is probed."""
    found = {}
    for line in events.splitlines():
        told = re.match(r"([pr])\d*:(?:\w+/)?(\w+) (?:\w+:)?([\w.]+)(\S*)", line)
        if told and told[4] in {"", "+0"}:
            found[told[2]] = (base_name(told[3]), told[1] == "r")
    return found


def _exact(told: dict[str, Any], outcome: Outcome) -> None:
    """Every certain address is right, nothing contradicts the model."""
    if told.get("error"):
        outcome.failures.append(f"validate: {told['error']}")
        return
    arena, flushes, inferred = told["arena"], told["pool_flushes"], told["inferred"]
    layout = told["layout"]
    outcome.kinds = {
        "kmap": (told["kmap"]["exact"], told["kmap"]["total"]),
        "kmap_local": (told["kmap_local"]["exact"], told["kmap_local"]["total"]),
        "arena": (arena["certain_right"], arena["certain"] + arena["ambiguous"]),
    }
    outcome.inferred = inferred["initial_state"]
    outcome.open = arena["ambiguous"]
    outcome.flushes = flushes["matched"], flushes["observed"]
    outcome.layout = sum(row["ok"] for row in layout), len(layout)
    if not any(total for _, total in outcome.kinds.values()):
        outcome.failures.append("no address was recorded")
    for name in ("kmap", "kmap_local"):
        exact, total = outcome.kinds[name]
        allowed = inferred["initial_state"] if name == "kmap" else 0
        if exact + allowed < total:
            outcome.failures.append(f"{name}: {exact} of {total} exact, {allowed} told the start")
    # what the first flush of all slots found stale, only a snapshot of the pool at the start tells
    unknown = int(inferred["assumed_free"] > 0 and flushes["observed"] > flushes["matched"])
    for what, wrong in (
        ("certain and wrong in the arena", arena["certain"] - arena["certain_right"]),
        ("contradictions", arena["contradictions"]),
        ("unusable arena calls", arena["unusable"]),
        ("pool flushes that differ", flushes["observed"] - flushes["matched"] - unknown),
        ("figures of the layout that differ", len(layout) - outcome.layout[0]),
        (
            "overflow purges that differ",
            arena["overflow_purges"]["observed"] - arena["overflow_purges"]["matched"],
        ),
    ):
        if wrong:
            outcome.failures.append(f"{what}: {wrong}")
    if told["first_divergence"]:
        outcome.failures.append(f"first divergence: {json.dumps(told['first_divergence'])}")


def _counted(info: dict[str, Any], capture: Path, outcome: Outcome) -> None:
    """The trace has as many events as the kernel counted hits, and none was missed."""
    files = _texts(capture)
    raw = info["raw_events"]
    outcome.events = sum(raw.values())
    outcome.lost = info["lost"]["events"]
    if outcome.lost or info["lost"]["unknown"]:
        outcome.notes.append(f"events lost: {outcome.lost}")
    after = profile(files.get("kprobe_profile", ""))
    before = profile(files.get("kprobe_profile.start", ""))
    named = functions(files.get("kprobe_events", ""))
    if not after or not named:
        outcome.failures.append("the capture has no kprobe_profile or kprobe_events")
        return
    buffered = in_buffers(files.get("stats", ""))
    if buffered != outcome.events:
        outcome.failures.append(f"{outcome.events} events in the trace, {buffered} in the buffers")
    notes = [line.split() for line in files.get("recorder", "").splitlines()]
    outcome.absent = absent(notes)
    filtered = {note[1] for note in notes if note[:1] == ["filter"]}
    for event, (hits, misses) in after.items():
        function, returns = named.get(event, ("", False))
        code = FUNCTION_OF.get(function)
        if code is None:
            continue
        outcome.missed += misses
        if misses:
            outcome.notes.append(f"missed by {event}: {misses}")
        traced = raw.get(FUNCTIONS[code].name + " (return)" * returns, 0)
        counted = hits - before.get(event, (0, 0))[0]
        least = counted - max(ARMED[0], ARMED[1] * counted)
        if event in filtered or outcome.lost:
            least = 0
        if not least <= traced <= counted:
            outcome.failures.append(f"{event}: {traced} in the trace, {counted} by the kernel")


def absent(notes: list[list[str]]) -> list[str]:
    """What could not be probed, from the recorder's notes in words."""
    found = [name for note in notes if note[:1] == ["missing"] for name in note[1:]]
    refused = (note for note in notes if note[:1] == ["refused"] and len(note) > 2)
    found += [f"{note[2]} (refused)" for note in refused]
    return list(dict.fromkeys(found))


def in_buffers(stats: str) -> int:
    """Events that all CPUs' buffers held, by their own counts: read already, and not yet read."""
    return sum(int(n) for n in re.findall(r"(?m)^(?:entries|read events): (\d+)$", stats))


def _texts(capture: Path) -> dict[str, str]:
    """The recorder's notes and the kernel's counts in a capture."""
    names = {"kprobe_profile", "kprobe_profile.start", "kprobe_events", "recorder", "stats"}
    found = {}
    with tarfile.open(capture) as packed:
        for member in packed:
            name = member.name.rpartition("/")[2]
            content = packed.extractfile(member) if name in names else None
            if content:
                found[name] = content.read().decode(errors="replace")
    return found


def _hmtrace(command: str, capture: Path) -> tuple[dict[str, Any] | None, str]:
    done = subprocess.run(
        [sys.executable, "-m", "hmtrace", command, "--format", "json", str(capture)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        return None, done.stderr.strip() or f"exit {done.returncode}"
    return json.loads(done.stdout), ""
