"""The machines of a sweep, and the workload on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from collectors.errors import HmtraceError
from hmtrace.cli.axes import option_of
from hmtrace.cli.captures import describe
from hmtrace.cli.jobs import serve, serve_in_processes
from hmtrace.cli.journal import Journal
from hmtrace.cli.machines import target_machine
from hmtrace.cli.prepared import asked
from hmtrace.cli.progress import ProgressBar
from replay.whatif.sweep import Candidate, combinations, combine, is_alike, ranked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hmtrace.cli.axes import Axis
    from hmtrace.cli.finding import Goal
    from hmtrace.cli.prepared import Prepared
    from hmtrace.cli.where import Condition
    from hmtrace.report.searching import Search
    from hmtrace.report.sweep import Sweep
    from replay.machine.model import Machine
    from replay.whatif.run import Server
    from replay.whatif.sweep import SweptMachine


@dataclass(frozen=True)
class Grid:
    """Which machines are asked about, and how.

    Attributes
    ----------
    axes
        What varies.
    machine, costs
        ``--machine``, ``--costs``.
    placement, timing
        As for :meth:`replay.whatif.run.Server.on`.
    by
        The figure that machines are ranked by.
    conditions
        What they have to meet.
    jobs
        Processes that serve.
    """

    axes: tuple[Axis, ...]
    machine: Path | None
    costs: Path | None
    placement: str
    timing: str
    by: str
    conditions: tuple[Condition, ...]
    jobs: int = 1

    def sweep(self, path: str) -> Sweep:
        """Every machine of the grid for a capture."""
        return asked(path, self.costs, lambda ready: self._sweep(path, ready), self._check)

    def find(self, path: str, goal: Goal) -> Search:
        """The value that is searched, for every combination of the other axes."""
        return asked(path, self.costs, lambda ready: self._find(ready, goal), self._check)

    def _check(self, captured: Machine) -> None:
        """Refuse a ``--machine`` that is none before the slow work."""
        target_machine(captured, self.machine)

    def made(self, captured: Machine, values: Mapping[str, Any]) -> Machine:
        """The machine of these values, by axis."""
        given: dict[str, Any] = {option_of(name): value for name, value in values.items()}
        for name in ("ram", "vmalloc", "page_size"):
            if name in given:
                given[name] = str(given[name])
        return target_machine(captured, given.pop("machine", self.machine), **given)

    def served(self, server: Server, candidate: Candidate) -> SweptMachine:
        """What the workload comes to on a machine."""
        return next(serve(server, [candidate], self.placement, self.timing))

    def meets(self, machine: SweptMachine) -> bool:
        """Whether a machine meets the conditions."""
        return all(condition.is_met(machine.figures) for condition in self.conditions)

    def _sweep(self, path: str, ready: Prepared) -> Sweep:
        from hmtrace.report.sweep import Sweep

        captured, server = ready.machine, ready.server()
        tried = {axis.name: list(zip(axis.words, axis.values, strict=True)) for axis in self.axes}
        candidates, left_out = combine(tried, lambda values: self.made(captured, values))
        machines = self._all(path, ready, server, candidates)
        good = [machine for machine in machines if self.meets(machine)]
        return Sweep(
            source=describe(ready.capture, ready.sha256),
            assumptions=ready.assumptions,
            baseline=server.baseline,
            axes={axis.name: axis.words for axis in self.axes},
            machines=tuple(ranked(good, self.by)),
            left_out=tuple(left_out),
            by=self.by,
            captured=tuple(c.words for c in candidates if is_alike(c.machine, captured)),
            without=len(machines) - len(good),
        )

    def _all(
        self, path: str, ready: Prepared, server: Server, candidates: list[Candidate]
    ) -> list[SweptMachine]:
        """What the workload comes to on each machine, in this order."""
        how = self.placement, self.timing
        journal = Journal(ready.folder, how)
        known = [journal.get(candidate) for candidate in candidates]
        new = [c for c, machine in zip(candidates, known, strict=True) if machine is None]
        jobs = min(self.jobs, len(new)) if ready.folder is not None else 1
        made = (
            serve_in_processes(jobs, path, self.costs, new, how)
            if jobs > 1
            else serve(server, new, *how)
        )
        served = []
        with ProgressBar("sweeping") as progress:
            for number, (candidate, machine) in enumerate(zip(new, made, strict=True)):
                journal.add(candidate, machine)
                served.append(machine)
                progress(number, len(new))
        fresh = iter(served)
        return [next(fresh) if machine is None else machine for machine in known]

    def _find(self, ready: Prepared, goal: Goal) -> Search:
        from hmtrace.report.searching import Search, Searched
        from replay.whatif.search import search

        captured, server = ready.machine, ready.server()
        others = [axis for axis in self.axes if axis.name != goal.name]
        chosen = {axis.name: list(zip(axis.words, axis.values, strict=True)) for axis in others}
        searched = []
        with ProgressBar("searching") as progress:
            for number, (words, values) in enumerate(combinations(chosen)):
                progress(number, prod(map(len, chosen.values())))
                one = _One(self, server, captured, goal, words, values)
                found = search(goal.values, one.holds, least=goal.is_least)
                searched.append(Searched(words, found, one.tried))
        return Search(
            source=describe(ready.capture, ready.sha256),
            assumptions=ready.assumptions,
            baseline=server.baseline,
            goal=goal.words,
            name=goal.name,
            word=goal.word,
            conditions=tuple((c.figure, c.words) for c in self.conditions),
            searched=tuple(searched),
        )


@dataclass
class _One:
    """A search with one combination of the other axes; `tried` tells what came of each value."""

    grid: Grid
    server: Server
    captured: Machine
    goal: Goal
    words: dict[str, str]
    values: dict[str, Any]
    tried: dict[int, SweptMachine | str] = field(default_factory=dict)

    def holds(self, value: int) -> bool | None:
        """Whether the machine with this value meets the conditions; None: there is none."""
        name = self.goal.name
        try:
            machine = self.grid.made(self.captured, {**self.values, name: value})
        except HmtraceError as error:
            if error.exit_code != 2:
                raise
            self.tried[value] = str(error)
            return None
        candidate = Candidate(self.words | {name: self.goal.word(value)}, machine)
        found = self.grid.served(self.server, candidate)
        self.tried[value] = found
        return self.grid.meets(found)
