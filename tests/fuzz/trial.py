"""Running one case in this process, and what must not happen then.

Only :class:`HmtraceError` is allowed, with an exit code that fits and words that say where; a
command ends with a code of its own and prints nothing that a terminal acts on but colours; JSON
is ASCII and valid; a capture that could be read makes sense in itself.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz import direct, light
from tests.fuzz.case import CONVERTED, CUT, OPEN, SCAN, SPOOLED, WAYS, WINDOWS, Case, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.capture import Capture
    from tests.fuzz.lines import Lines

MAX_GROWN: Final = 1 << 28
"""Bytes of resident memory that an input may need beside the program itself, and for each of its
own bytes :data:`GROWN_PER_BYTE`: bombs are packed a thousandfold."""
GROWN_PER_BYTE: Final = 256
MAX_OPEN: Final = 200
"""Descriptors that a process may have open after an input."""

CODES: Final = {
    "validate": (0, 1, 3),
    "validate-json": (0, 1, 3),
    "replay": (0, 2, 3),
    "replay-json": (0, 2, 3),
    "replay-fixed": (0, 2, 3),
    "replay-calibrate": (0, 2, 3),
    "replay-machine": (0, 2, 3),
    "report-costs": (0, 2, 3),
    "report-calibrate": (0, 2, 3),
    "layout": (0, 2, 3),
    "layout-json": (0, 2, 3),
    "buffer": (0, 2, 3),
}
"""Exit codes that a way may end with; others: 0 or 3."""

WRITING: Final = ("kept", "loop", "options", CUT)
"""Ways that may write where the input lies: caches, ``-o``, and the fuzzer itself."""

_WINDOWS: Final = 300
"""Windows that an input is cut into at most, by its bytes."""

TABLES: Final = ("csv", "lines")
"""Ways that print the event table."""

COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def run(case: Case, folder: Path | None, lines: Lines | None = None) -> Verdict:
    """Run a case and judge it.

    Parameters
    ----------
    case
        What to run.
    folder
        Folder for its files, in which no other lies; None: it is run from memory
        (:mod:`tests.fuzz.light`).
    lines
        Counts the lines that run, if given.

    Returns
    -------
    Verdict
    """
    if folder is None:
        return _measured(case, lambda verdict: light.WAYS[case.way](case, verdict), lines)
    place = folder / "input"
    place.mkdir(exist_ok=True)
    path = case.lay_out(place)
    from collectors.input import spool

    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    try:
        verdict = _measured(case, lambda verdict: _run(case, path, verdict), lines)
    finally:
        tempfile.tempdir = None
        spool._folder.cache_clear()  # that of a process: removed with the last that names it
    if not verdict.trouble:
        verdict.trouble = _left_behind(case, place, temporary)
    return verdict


def _measured(case: Case, take: Callable[[Verdict], None], lines: Lines | None) -> Verdict:
    """What becomes of a case, with the time and the memory that it takes."""
    verdict = Verdict()
    before = _fresh_peak()
    started = time.process_time()
    try:
        if lines is None:
            take(verdict)
        else:
            with lines:
                take(verdict)
            verdict.lines += lines.new
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # polars' panics are no Exceptions
        verdict.trouble = f"{type(error).__name__}: {str(error)[:300]}"
        verdict.ended = "".join(traceback.format_exception(error))[-6000:]
    verdict.seconds = time.process_time() - started
    peak, verdict.resident = _memory()
    verdict.grown = max(0, peak - before)
    if verdict.grown > MAX_GROWN + GROWN_PER_BYTE * case.size and not verdict.trouble:
        verdict.trouble = f"memory grew by {verdict.grown >> 20} MiB"
    return verdict


def _left_behind(case: Case, place: Path, temporary: Path) -> str:
    """What a case left that was not there before; "" if nothing."""
    if left := sorted(path.name for path in temporary.iterdir()):
        return f"temporary files are left: {left[:5]}"
    if case.way not in WRITING:
        found = {str(p.relative_to(place)): p for p in place.rglob("*") if p.is_file()}
        if found.keys() != case.files.keys():
            return f"files appeared or vanished: {sorted(found.keys() ^ case.files.keys())[:5]}"
        if changed := [name for name, p in found.items() if p.read_bytes() != case.files[name]]:
            return f"the input was changed: {changed[:5]}"
    listed = Path("/proc/self/fd")
    number = sum(1 for _ in listed.iterdir()) if listed.is_dir() else 0
    return f"{number} descriptors are open" if number > MAX_OPEN else ""


def _run(case: Case, path: Path, verdict: Verdict) -> None:
    if case.way == OPEN:
        _open(path, verdict)
    elif case.way == SPOOLED:
        _open_twice(path, verdict)
    elif case.way == WINDOWS:
        _open_in_windows(path, verdict, random.Random(case.digest))
    elif case.way == CONVERTED:
        _convert(path, verdict)
    elif case.way == CUT:
        _open_cut(path, verdict, random.Random(case.digest))
    elif case.way in direct.WAYS:
        direct.WAYS[case.way](path, verdict)
    elif case.way == SCAN:
        light.scan_files(path, verdict)
    else:
        verdict.trouble, verdict.ended = command(case, path)


def _open(path: Path, verdict: Verdict) -> Capture | None:
    from collectors import HmtraceError, open_capture

    capture = None
    try:
        capture = open_capture(path)
        verdict.trouble = contradiction(capture)
        verdict.lines += map(light.words, capture.notes)
    except HmtraceError as error:
        light.refused(error, verdict)
    return capture


def _open_twice(path: Path, verdict: Verdict) -> None:
    """Read as a small and as a large trace: both give the same table, or an error."""
    import collectors

    whole = _open(path, verdict)
    if verdict.trouble:
        return
    large, collectors.LARGE = collectors.LARGE, 0
    try:
        pieces = _open(path, verdict)
    finally:
        collectors.LARGE = large
    if verdict.trouble:
        return
    _compare(whole, pieces, verdict)


def _open_in_windows(path: Path, verdict: Verdict, rng: random.Random) -> None:
    """Read whole and in windows of drawn sizes: both give the same capture, or the same words."""
    from collectors import HmtraceError
    from tests.windows import Sizes, in_windows

    whole = _open(path, verdict)
    if verdict.trouble:
        return
    # Windows that are small beside the trace: each costs a millisecond.
    least = sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file()) // _WINDOWS
    sizes = Sizes(*(max(least, rng.choice((1, 7, 64, 1000, 5000))) for _ in range(3)))
    with tempfile.TemporaryDirectory(prefix="hmtrace-fuzz-") as folder:
        try:
            pieces = in_windows(path, Path(folder) / "table", sizes)
            verdict.trouble = contradiction(pieces)
            if not verdict.trouble:
                _compare(whole, pieces, verdict)
        except HmtraceError as error:
            if whole is not None:
                verdict.trouble = f"readable as a whole, not in windows of {sizes}: {error}"


def _open_cut(path: Path, verdict: Verdict, rng: random.Random) -> None:
    """Read, cut the trace off somewhere, and read again: what is missing now is told.

    A text that ends with a whole line is a shorter text; nothing shows that it was longer.
    """
    whole = _open(path, verdict)
    if verdict.trouble or whole is None:
        return
    trace = path / "trace" if path.is_dir() else path
    if not trace.is_file():  # packed
        return
    data = trace.read_bytes()
    at = rng.randrange(1, max(len(data), 2))
    trace.write_bytes(data[:at])
    if b"\n" in data[at - 1 : at + 1]:
        return
    short = _open(path, verdict)
    if verdict.trouble or short is None:
        return
    told = set(short.notes) - set(whole.notes) or short.lost.as_json() != whole.lost.as_json()
    if told or any("ends within a line" in note for note in short.notes):
        return
    rows = [capture.events.collect() for capture in (whole, short)]
    if not rows[0].equals(rows[1]):
        verdict.trouble = "an end that is missing is not told"
        verdict.ended = f"cut at {at} of {len(data)}: {rows[0].height} rows, {rows[1].height} left"


def _convert(path: Path, verdict: Verdict) -> None:
    """Convert to Parquet as the command does; the file is the same capture."""
    from collectors import HmtraceError, open_capture, write_parquet

    whole = _open(path, verdict)
    if verdict.trouble or whole is None:
        return
    with tempfile.TemporaryDirectory(prefix="hmtrace-fuzz-") as folder:
        target = Path(folder) / "table.parquet"
        try:
            write_parquet(path, target)
            _compare(whole, open_capture(target), verdict)
        except HmtraceError as error:
            verdict.trouble = f"readable, but not when it was converted: {error}"


def _compare(one: Capture | None, two: Capture | None, verdict: Verdict) -> None:
    from tests.windows import difference

    if one is None or two is None:
        if one is not two:
            verdict.trouble = "readable in one way only"
        return
    differs = difference(one, two)
    if differs:
        verdict.trouble, _, verdict.ended = differs.partition(": ")
        verdict.trouble += " differs when read another way"


def contradiction(capture: Capture) -> str:
    """What is wrong with a capture that could be read; "" if nothing is."""
    from collectors.events import require_events

    require_events(capture.events)
    events = capture.events.collect()
    seq = events["seq"]
    if not seq.is_sorted() or seq.n_unique() != len(seq):
        return "seq is not ascending"
    if any(type(n) is not int or n < 0 for n in capture.raw_events.values()):
        return f"counts of raw events: {capture.raw_events}"
    if sum(capture.raw_events.values()) < events.height // 2:
        return f"{events.height} rows of {sum(capture.raw_events.values())} events"
    if capture.span_ns < 0:
        return f"span_ns is {capture.span_ns}"
    for lost in capture.lost.intervals:
        if lost.count is not None and lost.count < 0:
            return f"lost {lost.count} events"
    json.dumps(capture.lost.as_json())
    if not all(isinstance(note, str) for note in capture.notes):
        return "a note is no string"
    return ""


def command(case: Case, path: Path) -> tuple[str, str]:
    """Run a command line in this process.

    Returns
    -------
    trouble, ended
        What was wrong ("" nothing), and what it said on stderr.
    """
    from hmtrace.__main__ import run as main

    os.environ["HMTRACE_DEBUG"] = "1"  # a bug shows its traceback
    arguments = case.arguments(path)
    with _streams(arguments, path if case.way == "stdin" else None) as (out, err):
        code = main()
    shown, said = _text(out), _text(err)
    ended = f"exit {code}: {said[-4000:]}"
    return judge(case.way, code, shown, said), ended


def judge(way: str, code: int, shown: str, said: str) -> str:
    """Say what is wrong with a command's end and output; "" if nothing is."""
    if code not in CODES.get(way, (0, 3)):
        return f"exit code {code}: {said[:300]}"
    if "not enough memory" in said:
        return "memory ran out within the bound"
    if "Warning: " in said:
        return f"a warning of Python's: {said[:300]}"
    if code == 3 and "  hint: " not in said:
        return f"no hint: {said[:300]}"
    if way in TABLES:  # of any number of rows; names are as they are
        return unprintable(said) or (_not_json_lines(shown) if way == "lines" else "")
    if code == 0 and not shown:
        return "no output"
    if "json" in WAYS[way] and code in (0, 1) and shown:
        return unprintable(said) or _not_json(shown)
    return unprintable(said) or unprintable(shown, colours="always" in WAYS[way])


def unprintable(text: str, *, colours: bool = False) -> str:
    """Name the first character that a terminal might act on, other than colours where wanted."""
    shown = (COLOUR.sub("", text) if colours else text).replace("\n", "")
    if shown.isprintable():
        return ""
    odd = next(char for char in shown if not char.isprintable())
    return f"character U+{ord(odd):04X} in the output"


def _not_json(text: str) -> str:
    if not text.isascii():
        return "JSON is not ASCII"
    if unprintable(text):
        return "control characters in JSON"
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        return f"invalid JSON: {error}"
    return ""


def _not_json_lines(text: str) -> str:
    try:
        for line in text.split("\n")[:-1]:
            json.loads(line, parse_constant=_refuse)
    except ValueError as error:
        return f"invalid JSON: {error}"
    return "" if text.endswith("\n") or not text else "the last line does not end"


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@contextmanager
def _streams(
    arguments: list[str], given: Path | None
) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Put other streams in place of the process's, as a pipe would be, and the arguments."""
    kept = sys.argv, sys.stdin, sys.stdout, sys.stderr
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace", write_through=True)
        for _ in range(2)
    )
    sys.argv, sys.stdout, sys.stderr = ["hmtrace", *arguments], out, err
    content = b"" if given is None else given.read_bytes()
    sys.stdin = io.TextIOWrapper(io.BytesIO(content))
    try:
        yield out, err
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = kept


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    content = stream.buffer.getvalue()  # type: ignore[attr-defined]
    return content.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def _fresh_peak() -> int:
    """Forget the highest resident size (Linux: clear_refs 5); give the present one, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _memory()[0]
    return _memory()[1]


def _memory() -> tuple[int, int]:
    """Highest and present resident size, in bytes."""
    told = Path("/proc/self/status").read_text()
    found = [re.search(rf"^{name}:\s*(\d+)", told, re.M) for name in ("VmHWM", "VmRSS")]
    peak, now = (int(m[1]) << 10 if m else 0 for m in found)
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, now


def address_space() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
