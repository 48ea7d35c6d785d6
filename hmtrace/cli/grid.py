"""The machines of a sweep, and the workload on them."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any

from collectors.errors import HmtraceError
from collectors.records import dataclass
from hmtrace.cli.axes import option_of
from hmtrace.cli.finding import Quest
from hmtrace.cli.machines import target_machine
from hmtrace.cli.prepared import asked
from hmtrace.cli.progress import ProgressBar
from hmtrace.cli.service import Service
from replay.whatif.sweep import Likeness, combinations, combine, is_alike, ranked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hmtrace.cli.axes import Axis
    from hmtrace.cli.crew import Crew
    from hmtrace.cli.finding import Goal
    from hmtrace.cli.prepared import Prepared
    from hmtrace.cli.where import Condition
    from hmtrace.report.searching import Search
    from hmtrace.report.sweep import Sweep
    from replay.machine.model import Machine
    from replay.whatif.sweep import Candidate, SweptMachine


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
    crew
        Who serves.
    """

    axes: tuple[Axis, ...]
    machine: Path | None
    costs: Path | None
    placement: str
    timing: str
    by: str
    conditions: tuple[Condition, ...]
    crew: Crew

    def sweep(self, path: str) -> Sweep:
        """Every machine of the grid for a capture."""
        return asked(path, self.costs, lambda ready: self._sweep(path, ready), self._check)

    def find(self, path: str, goal: Goal) -> Search:
        """The value that is searched, for every combination of the other axes."""
        return asked(path, self.costs, lambda ready: self._find(path, ready, goal), self._check)

    def _check(self, captured: Machine) -> bool:
        """Refuse a ``--machine`` that is none before the slow work; tell if calls are converted."""
        if target_machine(captured, self.machine).converted:
            return True
        values = {axis.name: axis.values for axis in self.axes}
        machines = values.get("machine", ())
        return any(values.get("convert", ())) or any(_converts(captured, one) for one in machines)

    def made(self, captured: Machine, values: Mapping[str, Any]) -> Machine:
        """The machine of these values, by axis."""
        given: dict[str, Any] = {option_of(name): value for name, value in values.items()}
        for name in ("ram", "vmalloc", "page_size"):
            if name in given:
                given[name] = str(given[name])
        return target_machine(captured, given.pop("machine", self.machine), **given)

    def meets(self, machine: SweptMachine) -> bool:
        """Whether a machine meets the conditions."""
        return all(condition.is_met(machine.figures) for condition in self.conditions)

    def _sweep(self, path: str, ready: Prepared) -> Sweep:
        from hmtrace.report.sweep import Sweep

        captured, service = ready.machine, self._service(path, ready)
        tried = {axis.name: list(zip(axis.words, axis.values, strict=True)) for axis in self.axes}
        candidates, left_out = combine(tried, lambda values: self.made(captured, values))
        machines = self._all(service, candidates)
        good = [machine for machine in machines if self.meets(machine)]
        return Sweep(
            source=ready.source(),
            assumptions=ready.assumptions,
            baseline=service.baseline,
            axes={axis.name: axis.words for axis in self.axes},
            machines=tuple(ranked(good, self.by)),
            left_out=tuple(left_out),
            by=self.by,
            captured=tuple(
                one.words
                for one in candidates
                if one.machine.pae == captured.pae and is_alike(one.machine, captured)
            ),
            without=len(machines) - len(good),
            numbers={axis.name: axis.values for axis in self.axes if axis.is_number},
            conditions=tuple(condition.words for condition in self.conditions),
        )

    def _service(self, path: str, ready: Prepared) -> Service:
        return Service(ready, path, self.crew, self.placement, self.timing)

    @staticmethod
    def _all(service: Service, candidates: list[Candidate]) -> list[SweptMachine]:
        """What the workload comes to on each machine, in this order."""
        found: dict[int, SweptMachine] = {}
        numbers = {id(candidate): number for number, candidate in enumerate(candidates)}
        likeness = Likeness(candidates, service.baseline)
        queue = deque(likeness.ordered(candidates))
        with (
            ProgressBar("sweeping", unit="machines") as progress,
            closing(service.serve(queue, likeness.group)) as served,
        ):
            for candidate, machine in served:
                found[numbers[id(candidate)]] = machine
                progress(len(found), len(candidates), service.words)
        return [found[number] for number in range(len(candidates))]

    def _find(self, path: str, ready: Prepared, goal: Goal) -> Search:
        from hmtrace.report.searching import AskedFigure, Search, Searched

        service = self._service(path, ready)
        others = [axis for axis in self.axes if axis.name != goal.name]
        chosen = {axis.name: list(zip(axis.words, axis.values, strict=True)) for axis in others}
        quests = [
            Quest(words, values, goal, lambda values: self.made(ready.machine, values), self.meets)
            for words, values in combinations(chosen)
        ]
        self._search(service, quests)
        return Search(
            source=ready.source(),
            assumptions=ready.assumptions,
            baseline=service.baseline,
            goal=goal.words,
            name=goal.name,
            word=goal.word,
            conditions=tuple(
                AskedFigure(c.figure, c.sign, c.number, c.words) for c in self.conditions
            ),
            searched=tuple(Searched(one.words, one.result, one.tried) for one in quests),
        )

    @staticmethod
    def _search(service: Service, quests: list[Quest]) -> None:
        """Search for each combination of the other axes, side by side."""
        queue = deque(candidate for one in quests for candidate in one.wanted())
        asking = {id(candidate): one for one in quests for candidate in one.waiting}
        done = 0
        with (
            ProgressBar("searching", unit="machines") as progress,
            closing(service.serve(queue, id)) as served,
        ):
            for candidate, machine in served:
                one = asking.pop(id(candidate))
                for more in one.take(candidate, machine):
                    asking[id(more)] = one
                    queue.append(more)
                done += 1
                progress(done, done + sum(one.most_left() for one in quests), service.words)


def _converts(captured: Machine, machine: Path) -> bool:
    """Whether a described machine converts calls; one that is none alone may do so with others."""
    try:
        return bool(target_machine(captured, machine).converted)
    except HmtraceError:
        return True
