"""Who serves the machines of a sweep: this process, several, or the workers of a cluster.

All of them take candidates from a queue to which more may be added while they serve, and hand them
back with what they came to in whatever order they are done.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hmtrace.cli.serving import Terms
from hmtrace.cli.workloads import digest_of_workload
from replay.whatif.sweep import swept

if TYPE_CHECKING:
    from collections import deque

    from hmtrace.cli.prepared import Prepared
    from replay.whatif.run import Server
    from replay.whatif.sweep import Candidate, SweptMachine


class SweepWork(NamedTuple):
    """What the candidates of a queue are served with.

    Attributes
    ----------
    server
        Serves in this process.
    placement, timing
        As for :meth:`replay.whatif.run.Server.on`.
    terms
        The same for other processes; None: they cannot see the workload, which is kept nowhere.
    """

    server: Server
    placement: str
    timing: str
    terms: Terms | None

    @classmethod
    def of(cls, ready: Prepared, placement: str, timing: str) -> SweepWork:
        """The work of a capture that is prepared."""
        server = ready.server()
        terms = None
        if ready.folder is not None:
            folder = str(ready.folder.resolve())
            digest = digest_of_workload(folder)
            terms = Terms.of(folder, digest, ready.machine, (placement, timing))
        return cls(server, placement, timing, terms)

    def serve(self, candidate: Candidate) -> SweptMachine:
        """What the workload comes to on a machine."""
        outcome = self.server.on(candidate.machine, placement=self.placement, timing=self.timing)
        return swept(candidate, outcome)


Served = tuple["Candidate", "SweptMachine"]
Serving = Generator[Served, None, None]
"""To be closed when it is left early, so that nothing is served for nobody."""


class Crew(Protocol):
    """Serves machines."""

    def serve(self, work: SweepWork, queue: deque[Candidate]) -> Serving:
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

    def serve(self, work: SweepWork, queue: deque[Candidate]) -> Serving:
        """As of :class:`Crew`."""
        while queue:
            candidate = queue.popleft()
            yield candidate, work.serve(candidate)
