"""Many captures: each is asked for itself, here, by processes or by the workers of a cluster.

What travels is text. A question names a capture and what is asked of it; the answer is what the
JSON document of the command says of that capture, or why it cannot be asked. So the memory of who
asks does not grow with what a capture holds, and one capture that is damaged, that ends the process
which reads it, or that shows a bug is named and left out, while the others go on.
"""

from __future__ import annotations

import json
import queue as queues
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError
from hmtrace.cli import progress
from hmtrace.cli.compiling import begun
from hmtrace.cli.progress import ProgressBar
from hmtrace.cli.several import CrewError, check_who_serves
from hmtrace.report.text import clean

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

FEW: Final = 8
"""Captures up to which each has a page of its own."""
BUG: Final = 70
_FORM: Final = "hmtrace/fleet/1"
_TRIES: Final = 2
"""How often a capture is asked whose process ended."""
_AHEAD: Final = 2
"""Captures under way for each thread of a cluster's workers."""
_LOOK: Final = 2.0
"""Seconds of silence after which somebody looks whether the scheduler is there."""


class FleetQuestion(NamedTuple):
    """What is asked of every capture.

    Attributes
    ----------
    command
        ``advise`` or ``sweep``.
    options
        As JSON has them.
    """

    command: str
    options: dict[str, Any]

    def of(self, path: str) -> str:
        """The text that asks it of one."""
        return json.dumps({"form": _FORM, "path": path, **self._asdict()})


class CaptureAnswer(NamedTuple):
    """What came of a capture.

    Attributes
    ----------
    number
        Its place among those that were named.
    path
        Its name, without what must not be shown.
    entry
        What was found; None where it could not be asked.
    error, hint
        Why not.
    code
        The exit code that this stands for.
    """

    number: int
    path: str
    entry: dict[str, Any] | None
    error: str = ""
    hint: str | None = None
    code: int = 0


def answer(text: str) -> str:
    """What came of a question; see :class:`FleetQuestion` and :class:`CaptureAnswer`."""
    told = json.loads(text)
    try:
        if told.get("form") != _FORM:
            raise HmtraceError("asked by another version of hmtrace", exit_code=2)
        entry = _ASKED[told["command"]](told["path"], told["options"])
        return json.dumps({"entry": entry})
    except HmtraceError as error:
        return json.dumps({"error": str(error), "hint": error.hint, "code": error.exit_code})
    except OSError as error:
        return json.dumps({"error": error.strerror or str(error), "hint": None, "code": 3})
    except MemoryError:
        return json.dumps({"error": "not enough memory for this capture", "hint": None, "code": 3})
    except Exception as error:
        words = f"{type(error).__name__}: {error}; this is a bug in hmtrace, not in the capture"
        hint = "ask this one alone, with HMTRACE_DEBUG=1, and please report it"
        return json.dumps({"error": words, "hint": hint, "code": BUG})


def _advise(path: str, options: dict[str, Any]) -> dict[str, Any]:
    from hmtrace.cli.advise import advised_entry

    return advised_entry(path, _path(options.get("machine")), _path(options.get("costs")))


def _sweep(path: str, options: dict[str, Any]) -> dict[str, Any]:
    from hmtrace.cli.sweep import swept_entry

    return swept_entry(path, options)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


_ASKED: Final[dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]]] = {
    "advise": _advise,
    "sweep": _sweep,
}


class Asking(NamedTuple):
    """Who asks: processes, or the workers of a scheduler (``--jobs``, ``--cluster``)."""

    jobs: int = 1
    cluster: str | None = None


def words_of(path: Path | None) -> str | None:
    """A path as it travels."""
    return None if path is None else str(path)


def without_record(entry: dict[str, Any]) -> dict[str, Any]:
    """What a document says of a capture, without what its page needs."""
    del entry["fleet"]
    return entry


class Gathered:
    """What came of the captures, in their order, on the disk.

    Attributes
    ----------
    unreadable
        Those that could not be asked.
    count
        Those that could.
    """

    def __init__(self) -> None:
        self.unreadable: list[CaptureAnswer] = []
        self.count = 0
        import tempfile  # costs 10 ms at every start

        self._file = tempfile.TemporaryFile(prefix="hmtrace-")  # noqa: SIM115
        self._places: list[tuple[int, int, int]] = []

    def add(self, found: CaptureAnswer) -> None:
        """Keep an answer."""
        if found.entry is None:
            self.unreadable.append(found)
            return
        text = json.dumps(found.entry).encode()
        self._places.append((found.number, self._file.seek(0, 2), len(text)))
        self._file.write(text)
        self.count += 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The entries, in the order of the captures."""
        for _, at, size in sorted(self._places):
            self._file.seek(at)
            yield json.loads(self._file.read(size))

    @property
    def code(self) -> int:
        """Exit code: 0, 3 where a capture could not be read, 70 where a bug showed."""
        return max((one.code for one in self.unreadable), default=0)

    def left_out(self) -> list[dict[str, Any]]:
        """Those that could not be asked, for a JSON document."""
        self.unreadable.sort()
        return [{"path": one.path, "error": one.error} for one in self.unreadable]


def gather(
    captures: Sequence[str],
    question: FleetQuestion,
    asking: Asking,
    each: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Gathered:
    """Ask every capture.

    Parameters
    ----------
    captures
        Their names.
    question
        What is asked.
    asking
        Who asks; workers have to see the captures under the same names.
    each
        Called with what was found of each, in whatever order they are done.

    Raises
    ------
    HmtraceError
        What was asked is wrong for any capture (exit code 2), no capture could be read, or those
        who ask cannot go on.
    """
    check_who_serves(*asking)
    gathered = Gathered()
    with ExitStack() as stack:
        bar = stack.enter_context(ProgressBar(question.command, unit="captures"))
        if asking.cluster is not None:
            ask = stack.enter_context(_on_cluster(asking.cluster))
        elif asking.jobs > 1:
            ask = stack.enter_context(_in_processes(asking.jobs))
        else:
            ask = _here
        texts = [question.of(path) for path in captures]
        for done, (number, text) in enumerate(ask(texts), 1):
            found = _read(number, captures[number], text)
            gathered.add(found)
            if found.entry is not None:
                each(found.entry)
            else:
                _tell(found)
            bar(done, len(captures))
    if not gathered.count:
        raise HmtraceError(
            "none of the captures could be read", exit_code=gathered.code or 3,
            hint="what is wrong with each is said above",
        )  # fmt: skip
    return gathered


def _read(number: int, path: str, text: str) -> CaptureAnswer:
    from collectors.input import remote

    name = remote.shown(path) if remote.is_url(path) else path
    told = json.loads(text)
    if "entry" in told:
        return CaptureAnswer(number, name, told["entry"])
    if told["code"] == 2:
        raise HmtraceError(told["error"], hint=told["hint"], exit_code=2)
    return CaptureAnswer(number, name, None, told["error"], told["hint"], told["code"])


def _tell(found: CaptureAnswer) -> None:
    where = "" if found.error.startswith(found.path) else f"{clean(found.path, 500)}: "
    progress.line(f"hmtrace: {where}{clean(found.error, 2000)}\n")


def _here(texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(texts):
        yield number, answer(text)


@contextmanager
def _in_processes(jobs: int) -> Iterator[Callable[[Sequence[str]], Iterator[tuple[int, str]]]]:
    """Ask by processes, each one capture at a time."""
    crew = _Processes(jobs)
    try:
        yield crew.ask
    finally:
        crew.end()


class _Processes:
    """Processes that are each given a question, and the next when they have answered.

    Parameters
    ----------
    number
        How many.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._questions: queues.SimpleQueue[tuple[int, str, int] | None] = queues.SimpleQueue()
        self._answers: queues.SimpleQueue[tuple[int, str]] = queues.SimpleQueue()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def ask(self, texts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Ask."""
        for number, text in enumerate(texts):
            self._questions.put((number, text, 1))
        for _ in range(min(self._number, len(texts))):
            threading.Thread(target=self._follow, daemon=True).start()
        for _ in texts:
            yield self._answers.get()

    def _follow(self) -> None:
        """Keep a process busy, and begin another where it ended."""
        process = self._begun()
        while (asked := self._questions.get()) is not None and not self._is_over():
            number, text, tries = asked
            line = _asked(process, text)
            if line:
                self._answers.put((number, line))
                continue
            self._stop(process)
            if self._is_over():
                return
            if tries < _TRIES:
                self._questions.put((number, text, tries + 1))
            else:
                words = f"the process that read it ended, {tries} times ({process.returncode})"
                self._answers.put((number, json.dumps({"error": words, "hint": None, "code": 3})))
            process = self._begun()

    def _is_over(self) -> bool:
        return self._ended

    def _begun(self) -> subprocess.Popen[str]:
        process = begun("hmtrace.cli.fleet")
        self._running.add(process)
        return process

    def _stop(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        self._running.discard(process)

    def end(self) -> None:
        """End them."""
        self._ended = True
        for process in list(self._running):
            self._stop(process)


def _asked(process: subprocess.Popen[str], text: str) -> str:
    """The answer of a process; empty where it ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(text + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except (OSError, ValueError):
        return ""


@contextmanager
def _on_cluster(address: str) -> Iterator[Callable[[Sequence[str]], Iterator[tuple[int, str]]]]:
    """Ask by the workers of a scheduler; see :mod:`hmtrace.cli.cluster`."""
    from hmtrace.cli.cluster import connected

    with connected(address) as client:
        yield partial(_ask_workers, client, clean(address))


def _ask_workers(client: Any, address: str, texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    from hmtrace.cli.cluster import GONE

    done: queues.SimpleQueue[Any] = queues.SimpleQueue()
    under_way: dict[Any, tuple[int, Any]] = {}
    run, next_one, threads = _by_value(), 0, 1
    try:
        while next_one < len(texts) or under_way:
            threads = max(1, sum(client.nthreads().values())) if not under_way else threads
            while next_one < len(texts) and len(under_way) < _AHEAD * threads:
                future = client.submit(run, texts[next_one], pure=False)
                under_way[future.key] = (next_one, future)
                future.add_done_callback(done.put)
                next_one += 1
            with suppress(queues.Empty):
                future = done.get(timeout=_LOOK)
                number, _ = under_way.pop(future.key)
                yield number, _of_worker(future)
                continue
            threads = max(1, sum(client.nthreads().values()))
    except GONE as error:
        raise CrewError(
            f"the scheduler {address} does not answer any more",
            hint="what was distilled is kept: the same command is faster",
        ) from error
    finally:
        with suppress(*GONE):
            client.cancel([future for _, future in under_way.values()])


def _of_worker(future: Any) -> str:
    from hmtrace.cli.cluster import PATIENCE

    if future.status == "finished":
        return str(future.result(timeout=PATIENCE))
    if future.status != "error":
        raise TimeoutError
    error = future.exception(timeout=PATIENCE)
    if type(error).__name__ != "KilledWorker":
        raise error
    words = "workers ended again and again while they read it"
    return json.dumps({"error": words, "hint": None, "code": 3})


def _by_value() -> Callable[[str], str]:
    """What a worker runs; made here, so that it travels as code and not as a name."""

    def ask_one(text: str) -> str:
        import json

        try:
            from hmtrace.cli.fleet import answer as asked
        except ImportError as error:
            words = f"a worker has no hmtrace that can be asked ({error})"
            hint = "install the same hmtrace on all machines"
            return json.dumps({"error": words, "hint": hint, "code": 2})
        return str(asked(text))

    return ask_one


def main() -> None:
    """Answer a question a line, until there is none."""
    from hmtrace.memory import keep_freed_memory

    keep_freed_memory()
    lines = sys.stdout
    sys.stdout = sys.stderr  # nobody else's words get between the answers
    for text in sys.stdin:
        lines.write(answer(text) + "\n")
        lines.flush()


if __name__ == "__main__":
    main()
