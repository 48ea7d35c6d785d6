"""Who serves the machines of a sweep: this process, several, or the workers of a cluster.

All of them take candidates from a queue to which more may be added while they serve, and hand them
back with what they came to in whatever order they are done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hmtrace.cli.captures import digest
from hmtrace.cli.serving import Terms
from hmtrace.cli.workloads import digest_of_workload
from replay.whatif.sweep import swept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hmtrace.cli.prepared import Prepared
    from replay.whatif.run import Server
    from replay.whatif.sweep import Candidate, SweptMachine


class Backlog:
    """Candidates that are to be served, in their order; more may come.

    Parameters
    ----------
    group
        What neighbours have in common that should not be divided.
    """

    def __init__(self, group: Callable[[Candidate], object]) -> None:
        self._group = group
        self._candidates: deque[Candidate] = deque()

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Have more wait."""
        self._candidates.extend(candidates)

    def first(self) -> Candidate:
        """Take the first."""
        return self._candidates.popleft()

    def part(self, number: int, most: int, *, last: bool = False) -> list[Candidate]:
        """Take the first or last of them, and what is left of their group, if it is not too much.

        Parameters
        ----------
        number
            How many, at least 1.
        most
            How many with the rest of the group.
        last
            Begin at the end.
        """
        take = self._candidates.pop if last else self._candidates.popleft
        next_place = -1 if last else 0
        part = [take() for _ in range(min(max(number, 1), len(self)))]
        group = self._group(part[-1])
        while self and len(part) < most and self._group(self._candidates[next_place]) == group:
            part.append(take())
        return part


class SweepWork:
    """What the candidates of a queue are served with.

    Parameters
    ----------
    ready
        A capture that is prepared.
    path
        How it was named.
    placement, timing
        As for :meth:`replay.whatif.run.Server.on`.

    Attributes
    ----------
    server
        Serves in this process.
    """

    def __init__(self, ready: Prepared, path: str, placement: str, timing: str) -> None:
        self.server: Server = ready.server()
        self.how = placement, timing
        self._ready = ready
        self._path = path

    @cached_property
    def kept(self) -> Terms | None:
        """Terms for processes that see the cache; None: the workload is not kept there."""
        folder = self._ready.folder
        if folder is None:
            return self._named if self._ready.is_file else None
        where = str(folder.resolve())
        return Terms.of(where, digest_of_workload(where), self._ready.machine, self.how)

    @cached_property
    def travelling(self) -> Terms | None:
        """Terms for other machines: of the workload file that was named, else those above."""
        return self._named if self._ready.is_file else self.kept

    @cached_property
    def _named(self) -> Terms | None:
        sha256 = digest(self._ready.capture.origin)
        where = self._path if "://" in self._path else str(Path(self._path).resolve())
        machine = self._ready.machine
        return None if sha256 is None else Terms.of(where, sha256, machine, self.how, is_file=True)

    def serve(self, candidate: Candidate) -> SweptMachine:
        """What the workload comes to on a machine."""
        placement, timing = self.how
        outcome = self.server.on(candidate.machine, placement=placement, timing=timing)
        return swept(candidate, outcome)


Served = tuple["Candidate", "SweptMachine"]
Serving = Generator[Served, None, None]
"""To be closed when it is left early, so that nothing is served for nobody."""


class Crew(Protocol):
    """Serves machines."""

    def serve(self, work: SweepWork, queue: Backlog) -> Serving:
        """Serve what is in a queue, until it is empty and nothing is under way.

        Raises
        ------
        HmtraceError
            They cannot be served; what was is handed out already.
        """

    @property
    def words(self) -> str:
        """How many serve now, for a progress bar; empty: one."""


class Alone:
    """Serves in this process."""

    words = ""

    def serve(self, work: SweepWork, queue: Backlog) -> Serving:
        """As of :class:`Crew`."""
        while queue:
            candidate = queue.first()
            yield candidate, work.serve(candidate)
