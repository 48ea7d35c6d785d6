"""Machines that are served for a capture: what is written down already, and what a crew serves."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from hmtrace.cli.crew import Backlog, SweepWork
from hmtrace.cli.journal import Journal

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from hmtrace.cli.crew import Crew, Serving
    from hmtrace.cli.prepared import Prepared
    from replay.outcome import Outcome
    from replay.whatif.sweep import Candidate


class Service:
    """Serves candidates once: each is written down as soon as it is served.

    Parameters
    ----------
    ready, path
        The capture, and how it was named.
    crew
        Who serves.
    placement, timing
        As for :meth:`replay.whatif.run.Server.on`.
    """

    def __init__(self, ready: Prepared, path: str, crew: Crew, placement: str, timing: str) -> None:
        self._work = SweepWork(ready, path, placement, timing)
        self._crew = crew
        self._journal = Journal(ready.folder, (placement, timing))

    @property
    def baseline(self) -> Outcome:
        """The outcome on the captured machine."""
        return self._work.server.baseline

    @property
    def words(self) -> str:
        """Who serves, for a progress bar."""
        return self._crew.words

    def serve(self, queue: deque[Candidate], group: Callable[[Candidate], object]) -> Serving:
        """Serve what is in a queue, to which more may be added; in any order.

        Parameters
        ----------
        queue
            Candidates.
        group
            What neighbours have in common that should not be divided among processes.

        Raises
        ------
        HmtraceError
            They cannot be served; what was is handed out, and written down.
        """
        fresh = Backlog(group)
        yield from self._known(queue, fresh)
        while fresh:
            with closing(self._crew.serve(self._work, fresh)) as made:
                for candidate, machine in made:
                    self._journal.add(candidate, machine)
                    yield candidate, machine
                    yield from self._known(queue, fresh)

    def _known(self, queue: deque[Candidate], fresh: Backlog) -> Serving:
        """Those of the queue that were served before; the others are put aside."""
        while queue:
            candidate = queue.popleft()
            known = self._journal.get(candidate)
            if known is None:
                fresh.add([candidate])
            else:
                yield candidate, known
