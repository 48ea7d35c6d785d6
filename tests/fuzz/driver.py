"""The fuzzer's loop: draws inputs, has a child run them, keeps what is new and what went wrong."""

from __future__ import annotations

import json
import os
import pickle
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hmtrace.fatal import EXIT_DAMAGED, MESSAGES
from tests.fuzz.case import IN_PROCESS, Case, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.fuzz.readers import Reader

TOO_LONG: Final = 5.0
"""Seconds of the processor after which an input counts as a hang."""
STUCK: Final = 60.0
"""Seconds by the clock after which it does, whatever the processor did."""
_COMPILING: Final = "/numba/core/"
"""Part of a stack that compiles a loop, which no seed needed; the result is kept."""
BATCH: Final = 25
"""Inputs that a child gets at once."""
INPUTS_PER_CHILD: Final = 20_000
WARM_UP: Final = 600.0
"""Seconds that a child may take for the first seeds: loops may have to be compiled."""
KEPT: Final = 400
"""Inputs of a reader that the saved corpus keeps."""
FINDINGS_PER_READER: Final = 20
SETTLED: Final = 300
"""Inputs after which a child has loaded what it needs."""
COUNTED: Final = 250
"""Inputs after which their number is written down."""


class Child:
    """A process that runs cases, restarted when it dies or has run many."""

    def __init__(self, warm: Sequence[Case]) -> None:
        self.warm = warm
        self.process: subprocess.Popen[bytes] | None = None
        self.ran = 0
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object

    def run(self, case: Case) -> Verdict:
        """Run a case; a child that dies or does not answer is a verdict too."""
        answer = self._run([case])
        return answer if isinstance(answer, Verdict) else answer[0]

    def run_all(self, cases: Sequence[Case]) -> list[Verdict]:
        """Run cases that the child gets at once, so that neither process waits for its turn often.

        Where the child died, did not answer or had words for stderr, each is run by itself, to
        find which it was.
        """
        answer = self._run(cases)
        if not isinstance(answer, Verdict):
            return answer
        verdicts = [self.run(case) for case in cases]
        if answer.trouble and not any(verdict.trouble for verdict in verdicts):
            answer.trouble = f"{answer.trouble}, only behind others"
            verdicts[-1] = answer
        return verdicts

    def _run(self, cases: Sequence[Case]) -> list[Verdict] | Verdict:
        """Verdicts of the cases, or one of the whole child."""
        if self.process is None or self.ran >= INPUTS_PER_CHILD:
            self._start()
        self.ran += len(cases)
        self.log.seek(0)
        self.log.truncate()
        answer = self._ask(cases, TOO_LONG, STUCK)
        if isinstance(answer, Verdict):
            return answer
        said = self._said()
        told = all(
            case.way in IN_PROCESS and verdict.ended != "read"  # panics become errors there
            for case, verdict in zip(cases, answer, strict=True)
        )
        if b"panicked at" in said and not told and not any(verdict.trouble for verdict in answer):
            return Verdict("polars panicked: " + said[:300].decode("utf-8", "replace"))
        return answer

    def close(self) -> None:
        """End the child."""
        if self.process is not None:
            os.close(self.requests)
            os.close(self.answers)
            self.process.kill()
            self.process.wait()
            self.process = None

    def _start(self) -> None:
        """Start a process and load what the readers need; a seed may kill it, too."""
        self.close()
        for case in self.warm:
            if self.process is None:
                self._spawn()
            self._ask([case], WARM_UP, WARM_UP)  # judged in its turn
        if self.process is None:
            self._spawn()
        self._send(None)
        self.ran = 0

    def _spawn(self) -> None:
        theirs_in, self.requests = os.pipe()
        self.answers, theirs_out = os.pipe()
        command = [sys.executable, "-m", "tests.fuzz.child", str(theirs_in), str(theirs_out)]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            cwd=Path(__file__).parents[2],
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def _send(self, cases: Sequence[Case] | None) -> None:
        message = pickle.dumps(cases)
        data = struct.pack("<I", len(message)) + message
        while data:
            data = data[os.write(self.requests, data) :]

    def _ask(
        self, cases: Sequence[Case], processor: float, clock: float
    ) -> list[Verdict] | Verdict:
        try:
            self._send(cases)
        except BrokenPipeError:
            return self._died()
        assert self.process is not None
        started, used = time.monotonic(), _processor_time(self.process.pid)
        while not select.select([self.answers], [], [], 0.5)[0]:
            spent = _processor_time(self.process.pid) - used
            if spent > processor or time.monotonic() - started > clock:
                stack = self._stack()
                if _COMPILING not in stack or spent > WARM_UP:
                    self.close()
                    return Verdict(f"no answer after {spent:.0f} s of the processor", stack)
                processor, clock = processor + TOO_LONG, clock + STUCK
        head = os.read(self.answers, 4)
        if len(head) < 4:
            return self._died()
        size, parts = struct.unpack("<I", head)[0], b""
        while len(parts) < size:
            parts += os.read(self.answers, size - len(parts))
        return [Verdict(**told) for told in json.loads(parts)]

    def _stack(self) -> str:
        """Where the child is."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)  # faulthandler tells
        time.sleep(1)
        return self._said()[-4000:].decode("utf-8", "replace")

    def _died(self) -> Verdict:
        assert self.process is not None
        code = self.process.wait()
        words = self._said()
        said = words[-4000:].decode("utf-8", "replace")
        self.close()
        if code == EXIT_DAMAGED and MESSAGES[signal.SIGABRT] in words:  # as a command ends
            return Verdict(ended=said)
        return Verdict(f"the process died with {code}", said)

    def _said(self) -> bytes:
        self.log.seek(0)
        return self.log.read()


def _processor_time(pid: int) -> float:
    """Seconds that a process used the processor; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Tally:
    """What became of a reader's inputs.

    Attributes
    ----------
    tried, read
        Inputs, and those that could be read.
    seconds
        Time by the clock.
    slowest, largest
        Seconds of the processor and bytes of memory that an input needed at most.
    settled, resident
        Bytes of the child's memory after :data:`SETTLED` inputs, and at last: what leaks shows.
    corpus
        Inputs that found lines which none before had.
    recent
        Inputs that were made last.
    lines
        Lines that ran.
    findings
        Folders of the failing inputs.
    seen
        Findings by kind, so that each is kept once.
    """

    tried: int = 0
    read: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    largest: int = 0
    settled: int = 0
    resident: int = 0
    corpus: list[Case] = field(default_factory=list)
    recent: list[Case] = field(default_factory=list)
    lines: set[str] = field(default_factory=set)
    findings: list[Path] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)


class Fuzzer:
    """Readers in turns, each with a child of its own that stays warm.

    Parameters
    ----------
    readers
        Which to fuzz.
    seed
        The same seed, corpus and number of inputs give the same inputs.
    folder
        ``corpus/`` and ``findings/`` are kept below it.
    tell
        Takes a line for the user.
    counts
        File to which a line of reader, seed, inputs and findings is added every now and then.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        seed: int,
        folder: Path,
        tell: Callable[[str], object],
        counts: Path | None = None,
    ) -> None:
        self.readers = readers
        self.seed = seed
        self.counts = counts
        self.folder = folder
        self.tell = tell
        self.random = {r.name: random.Random(f"{seed}/{r.name}") for r in readers}
        self.tallies = {r.name: Tally() for r in readers}
        self.children = {r.name: Child(self._first(r)) for r in readers}
        for reader in readers:
            self.tallies[reader.name].corpus = [*reader.seeds(), *self._saved(reader)]

    def _first(self, reader: Reader) -> list[Case]:
        """Seeds that load what the reader needs, each way once."""
        seeds = reader.seeds()
        ways = dict.fromkeys((*reader.ways, *reader.commands))
        return [seeds[n % len(seeds)].with_way(way) for n, way in enumerate(ways)]

    def _saved(self, reader: Reader) -> list[Case]:
        place = self.folder / "corpus" / reader.name
        return [Case.load(p) for p in sorted(place.iterdir())] if place.is_dir() else []

    def run(self, seconds: float, inputs: int | None = None) -> None:
        """Fuzz each reader for its share of the time, or for a number of inputs.

        The turns are short, so that a run that is broken off has seen every reader.
        """
        for reader in self.readers:
            tally = self.tallies[reader.name]
            seeds = list(tally.corpus)
            for case in seeds:
                self._take(case, self.children[reader.name].run(case), tally, keep=False)
            if inputs is not None:  # one process at a time
                self._turn(reader, 0, inputs)
                self.children[reader.name].close()
                self.tell(self.table()[1 + self.readers.index(reader)])
        if inputs is not None:
            return
        rounds = max(1, round(seconds / len(self.readers) / 20))
        share = seconds / len(self.readers) / rounds
        for _ in range(rounds):
            for reader in self.readers:
                self._turn(reader, share, None)
        self.close()

    def close(self) -> None:
        """End the children."""
        for child in self.children.values():
            child.close()

    def _turn(self, reader: Reader, seconds: float, inputs: int | None) -> None:
        tally = self.tallies[reader.name]
        started = time.monotonic()
        done, counted, found = 0, 0, len(tally.findings)
        try:
            while done < inputs if inputs is not None else time.monotonic() - started < seconds:
                number = BATCH if inputs is None else min(BATCH, inputs - done)
                random, corpus = self.random[reader.name], tally.corpus
                cases = [reader.draw(random, corpus, tally.recent) for _ in range(number)]
                verdicts = self.children[reader.name].run_all(cases)
                for case, verdict in zip(cases, verdicts, strict=True):
                    self._take(case, verdict, tally)
                done += number
                if done - counted >= COUNTED:
                    self._count(reader, done - counted, len(tally.findings) - found)
                    counted, found = done, len(tally.findings)
        finally:
            self._count(reader, done - counted, len(tally.findings) - found)
            tally.seconds += time.monotonic() - started

    def _count(self, reader: Reader, inputs: int, findings: int) -> None:
        """Write down how many inputs were drawn and run since the last time."""
        if self.counts is not None and inputs:
            with self.counts.open("a") as file:
                file.write(f"{reader.name}\t{self.seed}\t{inputs}\t{findings}\n")

    def _take(self, case: Case, verdict: Verdict, tally: Tally, *, keep: bool = True) -> None:
        tally.tried += 1
        tally.read += verdict.ended == "read" or verdict.ended.startswith("exit 0")
        tally.slowest = max(tally.slowest, verdict.seconds)
        tally.largest = max(tally.largest, verdict.grown)
        tally.resident = verdict.resident or tally.resident
        if tally.tried == SETTLED:
            tally.settled = tally.resident
        if verdict.trouble:
            self._find(case, verdict, tally, again=self.children[case.reader].run(case))
            return
        new = set(verdict.lines) - tally.lines
        if new:
            tally.lines |= new
            if keep:
                tally.corpus.append(case)
                self._keep(case)

    def _keep(self, case: Case) -> None:
        place = self.folder / "corpus" / case.reader
        if not place.is_dir() or len(list(place.iterdir())) < KEPT:
            case.save(place)

    def _find(self, case: Case, verdict: Verdict, tally: Tally, again: Verdict) -> None:
        """Keep a failing input; one that fails only once may have met a busy machine."""
        if not again.trouble:
            kept = case.save(self.folder / "once", trouble=verdict.trouble, ended=verdict.ended)
            self.tell(f"ONCE  {case.reader} ({case.way}): {verdict.trouble[:200]}, kept in {kept}")
            return
        kind = _kind(verdict)
        tally.seen[kind] += 1
        if tally.seen[kind] > 1 or len(tally.findings) >= FINDINGS_PER_READER:
            return
        kept = case.save(self.folder / "findings", trouble=verdict.trouble, ended=verdict.ended)
        tally.findings.append(kept)
        self.tell(f"FOUND {case.reader} ({case.way}): {verdict.trouble[:200]}")
        self.tell(f"      {replay_command(kept)}")

    def table(self) -> list[str]:
        """Lines of the result."""
        out = [
            f"{'reader':<18}{'inputs':>9}{'per s':>8}{'read':>8}{'lines':>8}{'corpus':>8}"
            f"{'slowest':>9}{'memory':>9}{'kept':>9}{'findings':>10}"
        ]
        for name, t in self.tallies.items():
            rate = t.tried / t.seconds if t.seconds else 0.0
            out.append(
                f"{name:<18}{t.tried:>9}{rate:>8.1f}{t.read:>8}{len(t.lines):>8}{len(t.corpus):>8}"
                f"{t.slowest:>7.1f} s{t.largest >> 20:>5} MiB"
                f"{(t.resident - (t.settled or t.resident)) >> 20:>5} MiB{len(t.findings):>10}"
            )
        tried = sum(t.tried for t in self.tallies.values())
        out.append(f"{'all':<18}{tried:>9}")
        return out

    @property
    def found(self) -> list[Path]:
        """Folders of all failing inputs."""
        return [path for t in self.tallies.values() for path in t.findings]


def _kind(verdict: Verdict) -> str:
    """What tells one finding from another: the words without numbers, and the last source line."""
    words = "".join("#" if c.isdigit() else c for c in verdict.trouble)[:60]
    places = [
        line for line in verdict.ended.splitlines() if 'File "' in line and "/tests/" not in line
    ]
    return f"{words} {places[-1].strip() if places else ''}"


def replay_command(kept: Path) -> str:
    """Command that runs a kept input again."""
    return f"{sys.executable} -m tests.fuzz --replay {kept}"
