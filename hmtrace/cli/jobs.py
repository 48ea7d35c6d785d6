"""Machines of a sweep, served by several processes that share the workload.

A process takes most of a second to begin, so how many are begun follows from how long the rest
would take alone, which is measured as the work goes on. What one that ends before its time had to
do is done here.
"""

from __future__ import annotations

import json
import queue as queues
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hmtrace.cli.compiling import begun
from hmtrace.cli.serving import question, served_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from hmtrace.cli.crew import Backlog, Served, Serving, SweepWork
    from replay.whatif.sweep import Candidate, SweptMachine

PAYS: Final = 2.0
"""Seconds of work that a process has to take over to be begun."""
_ENOUGH: Final = 0.5
"""Seconds of work that tell how long the rest takes: some machines share most with those before."""
_FIRST: Final = 0.5
"""Seconds that the first machine takes longer than others: loops are loaded."""
_PART: Final = 0.2
"""Seconds of work that a process is given at once."""
_MOST: Final = 64
"""Machines that it is given at once."""
_AHEAD: Final = 2
"""Parts that it has, so that it need not wait while this process is busy."""


class Processes:
    """Serves in this process and, where that pays, in others beside it.

    Parameters
    ----------
    most
        How many at most, with this one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._helpers: list[_Helper] = []
        self._said: queues.SimpleQueue[tuple[_Helper, str]] = queues.SimpleQueue()

    @property
    def words(self) -> str:
        """How many serve."""
        return f"{1 + len(self._helpers)} processes" if self._helpers else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for helper in list(self._helpers):
            self._end(helper)

    def serve(self, work: SweepWork, queue: Backlog) -> Serving:
        """As of :class:`hmtrace.cli.crew.Crew`."""
        pace = _Pace()
        try:
            while queue or any(helper.parts for helper in self._helpers):
                yield from self._heard(queue, wait=not queue)
                if work.kept is not None:
                    self._begin(pace.left(len(queue)))
                    self._give(work, queue, pace)
                if queue:
                    candidate = queue.first()
                    pace.begin()
                    served = work.serve(candidate)
                    pace.end()
                    yield candidate, served
        finally:
            for helper in [helper for helper in self._helpers if helper.parts]:
                self._end(helper)  # its answers would be to a question that nobody asks any more

    def _begin(self, left: float) -> None:
        """Begin as many processes as pay for so many seconds of work."""
        wanted = min(self._most, 1 + int(left / PAYS))
        while 1 + len(self._helpers) < wanted:
            try:
                self._helpers.append(_Helper(self._said))
            except OSError:  # it only takes longer
                self._most = 1 + len(self._helpers)
                return

    def _give(self, work: SweepWork, queue: Backlog, pace: _Pace) -> None:
        """Give the processes parts from the end, neighbours together: they have most in common."""
        for helper in [helper for helper in self._helpers if helper.is_ready]:
            while len(queue) > 1 and len(helper.parts) < _AHEAD:
                share = len(queue) // (2 * self._most)
                number = min(share, pace.number(_PART), _MOST)
                helper.give(work, queue.part(number, min(_MOST, len(queue) - 1), last=True))

    def _end(self, helper: _Helper) -> None:
        self._helpers.remove(helper)
        helper.end()

    def _heard(self, queue: Backlog, *, wait: bool) -> Iterator[Served]:
        """What the processes have served by now; what one that ended has not is in the queue."""
        with suppress(queues.Empty):
            while True:
                helper, line = self._said.get(block=wait)
                wait = False
                if helper in self._helpers:
                    yield from self._taken(helper, line, queue)

    def _taken(self, helper: _Helper, line: str, queue: Backlog) -> Iterator[Served]:
        if not helper.is_ready and line == "ready\n":
            helper.is_ready = True
            return
        part = helper.parts[0] if helper.parts else []
        served = _served(line, part)
        if served is None:  # it ended, or cannot serve them: this process tells why, if it cannot
            queue.add(candidate for part in helper.parts for candidate in part)
            self._end(helper)
            self._most = 1 + len(self._helpers)
            return
        helper.parts.popleft()
        yield from zip(part, served, strict=True)


def _served(line: str, part: list[Candidate]) -> list[SweptMachine] | None:
    """The machines that a line tells of; None: it does not."""
    try:
        return served_from(json.loads(line), part) if part else None
    except (ValueError, KeyError, TypeError):
        return None


class _Pace:
    """How long the machines that are served here take."""

    def __init__(self) -> None:
        self._number = 0
        self._first = 0.0
        self._others = 0.0
        self._began = 0.0

    def begin(self) -> None:
        """A machine is served now."""
        self._began = time.monotonic()

    def end(self) -> None:
        """It was served."""
        took = time.monotonic() - self._began
        if self._number:
            self._others += took
        else:
            self._first = took
        self._number += 1

    def _each(self) -> float:
        """Seconds that one takes; 0 while that is not known."""
        if self._others >= _ENOUGH:
            return self._others / (self._number - 1)
        return self._first - _FIRST if self._number == 1 and self._first > 2 * _FIRST else 0.0

    def left(self, number: int) -> float:
        """Seconds that so many more would take here."""
        return self._each() * number

    def number(self, seconds: float) -> int:
        """How many take so long."""
        return int(seconds / max(self._each(), 1e-6))


class _Helper:
    """A process that serves.

    Attributes
    ----------
    is_ready
        It has begun.
    parts
        What it was given and has not served yet.
    """

    def __init__(self, said: queues.SimpleQueue[tuple[_Helper, str]]) -> None:
        self.is_ready = False
        self.parts: deque[list[Candidate]] = deque()
        self._process = begun("hmtrace.cli.serving")
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def _listen(self, said: queues.SimpleQueue[tuple[_Helper, str]]) -> None:
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                said.put((self, line))
        said.put((self, ""))

    def give(self, work: SweepWork, part: list[Candidate]) -> None:
        """Have a part served; if it has ended, that is heard."""
        assert work.kept is not None
        assert self._process.stdin is not None
        self.parts.append(part)
        with suppress(OSError):
            self._process.stdin.write(question(work.kept, part) + "\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
