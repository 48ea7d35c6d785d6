"""Ways of an input that touch no disk: a millisecond each, so that most inputs go these ways.

Each raises, or says what is wrong; :class:`HmtraceError` is how a reader says no.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

import numpy as np

from tests.fuzz.case import SCAN, WALK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collectors.errors import HmtraceError
    from collectors.facts import Facts
    from collectors.input.source import Source
    from collectors.raw import RawEvents
    from collectors.reading import Reading, Stream
    from replay.machine.model import Machine
    from tests.fuzz.case import Case, Verdict

_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[^\s\w.,:;()'-]\S*")
TRACE: Final = "trace"
"""File of a case that is walked; the others say what its machine is."""


def in_memory(case: Case) -> bool:
    """Whether a case is run from its bytes alone."""
    return case.way in WAYS and (case.way != SCAN or len(case.files) == 1)


def scan(case: Case, verdict: Verdict) -> None:
    """One file through its reader, from bytes to raw events."""
    from collectors.input.source import Source

    for content in case.files.values():
        if content:  # what opens files knows empty ones
            judge(lambda content=content: Source.from_bytes(content, "input"), verdict)


def scan_files(path: Path, verdict: Verdict) -> None:
    """A trace with the files beside it through its reader."""
    from collectors import FORMATS
    from collectors.input.opening import open_source

    judge(lambda: open_source(path, FORMATS), verdict)


def judge(opened: Callable[[], Source], verdict: Verdict) -> None:
    """Read a source; its rows make sense, or the error says what is wrong."""
    from collectors import HmtraceError, _format_of
    from collectors.reading import AgainError

    try:
        source = opened()
        fmt = _format_of(source)
        try:
            verdict.trouble = _drain(fmt.stream(source, None), verdict)
        except AgainError:  # not in order: the second time it is
            verdict.trouble = _drain(fmt.stream(source, None), verdict)
    except HmtraceError as error:
        refused(error, verdict)


def refused(error: HmtraceError, verdict: Verdict) -> None:
    """Judge how a reader says no to damaged input."""
    verdict.ended = f"{type(error).__name__}: {error} ({error.hint})"
    verdict.lines.append(words(error.message))
    if error.exit_code != 3:
        verdict.trouble = f"exit code {error.exit_code} for damaged input"
    elif not error.message or error.source is None:
        verdict.trouble = "the error does not say which file it is about"
    elif not error.hint:
        verdict.trouble = f"no hint: {error.message}"


def words(said: str) -> str:
    """The first words of what was said, without what is the input's own."""
    return "said: " + " ".join(re.findall(r"[a-z]{2,}", _QUOTED.sub("", said))[:6])


def _drain(stream: Stream, verdict: Verdict) -> str:
    """Read to the end; say what is wrong with it."""
    last: RawEvents | None = None
    kinds: set[int] = set()
    most = [0, 0]
    for piece in stream.pieces:
        last = piece
        if len(piece.rows):
            kinds |= set(np.unique(piece.rows["kind"]).tolist())
            for n, name in enumerate(("comm", "site")):
                most[n] = max(most[n], int(piece.rows[name].max()))
    end = stream.ending()
    verdict.lines += map(words, end.notes)
    return _wrong_rows(last, kinds, most) or _wrong_end(end)


def _wrong_rows(last: RawEvents | None, kinds: set[int], most: list[int]) -> str:
    from collectors.probes import KIND_OTHER, KIND_TASK

    if last is None:
        return ""
    if odd := kinds - {*range(KIND_TASK + 1), KIND_OTHER}:
        return f"rows of kinds {sorted(odd)}"
    if most[0] >= len(last.comms) or most[1] >= len(last.sites):
        return f"names {most} of {len(last.comms)} tasks and {len(last.sites)} sites"
    return ""


def _wrong_end(end: Reading) -> str:
    if any(type(n) is not int or n < 0 for n in end.raw.counts.values()):
        return f"counts of raw events: {end.raw.counts}"
    if end.span_ns < 0:
        return f"span_ns is {end.span_ns}"
    if any(lost.count is not None and lost.count < 0 for lost in end.lost.intervals):
        return "a negative number of events was lost"
    if not all(isinstance(note, str) for note in end.notes):
        return "a note is no string"
    return ""


def walk(case: Case, verdict: Verdict) -> None:
    """Events of a text on the machine of the files beside it, replayed."""
    from collectors import FTRACE_TEXT, HmtraceError
    from collectors.build import build_capture
    from collectors.input.source import Source
    from replay.walk import replay

    source = Source.from_bytes(case.files[TRACE] or b"\n", "input")
    beside = sorted((name, data) for name, data in case.files.items() if name != TRACE)
    source.facts, machine = _machine_of(tuple(beside))
    try:
        capture = build_capture(source, FTRACE_TEXT.read(source, None))
        outcome = replay(
            capture.events, machine, values=capture.facts.snapshot(), lost=capture.lost,
            clock_is_ns=capture.clock_is_ns, span_ns=capture.span_ns,
        )  # fmt: skip
    except HmtraceError as error:
        refused(error, verdict)
        return
    repr(outcome)


@functools.lru_cache(maxsize=64)
def _machine_of(files: tuple[tuple[str, bytes], ...]) -> tuple[Facts, Machine]:
    """Facts and machine of some files."""
    from collectors.facts import read_facts
    from replay.machine.from_facts import machine_from

    facts = read_facts(dict(files))
    return facts, machine_from(facts.snapshot())[0]


WAYS: Final[dict[str, Callable[[Case, Verdict], None]]] = {SCAN: scan, WALK: walk}
"""Ways by name."""
