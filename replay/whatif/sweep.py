"""Many machines: every combination of what is tried, each with its figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import inf, prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.layout import layout_of
from replay.machine.options import has_highpte
from replay.whatif.figures import FIGURES, figures_of
from replay.whatif.written import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from replay.machine.model import Machine
    from replay.outcome import Outcome

MOST_MACHINES: Final = 100_000
"""Combinations of a sweep."""

_ON_POOL: Final = ("machine", "page-size", "highmem", "pkmap")
_ON_ARENA: Final = ("machine", "page-size", "pae", "split", "ram", "kernel", "vmalloc")
"""Axes that the pool's and the arena's calls are replayed anew for, as a rule."""
_POOL_CALL: Final = 1e-7
_ARENA_CALL: Final = 1e-5
_ARENA: Final = 0.02
"""Seconds that a call of each takes to be replayed, and an arena in any case (measured)."""


class Candidate(NamedTuple):
    """A combination that a kernel can have: the values' words by axis, and the machine."""

    words: dict[str, str]
    machine: Machine


class LeftOut(NamedTuple):
    """A combination that no kernel can have, and why."""

    words: dict[str, str]
    reason: str


class SweptMachine(NamedTuple):
    """What the workload comes to on one machine.

    Attributes
    ----------
    words
        As of :class:`Candidate`.
    figures
        By the names of :data:`replay.whatif.figures.FIGURES`.
    bound
        As of :class:`replay.outcome.Outcome`.
    caveats
        What limits the figures.
    """

    words: dict[str, str]
    figures: dict[str, float | None]
    bound: str | None
    caveats: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """All but the words, as JSON has it."""
        figures = {name: encode(value) for name, value in self.figures.items()}
        return {"figures": figures, "bound": self.bound, "caveats": list(self.caveats)}

    @classmethod
    def of(cls, candidate: Candidate, told: Mapping[str, Any]) -> SweptMachine | None:
        """What :meth:`told` told of a candidate; None: it tells of other figures."""
        if told["figures"].keys() != FIGURES.keys():
            return None
        return cls(candidate.words, told["figures"], told["bound"], tuple(told["caveats"]))


def combinations(
    axes: Mapping[str, Sequence[tuple[str, Any]]],
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Words and values by axis, of every combination."""
    for chosen in product(*axes.values()):
        words = {name: word for name, (word, _) in zip(axes, chosen, strict=True)}
        yield words, {name: value for name, (_, value) in zip(axes, chosen, strict=True)}


def combine(
    axes: Mapping[str, Sequence[tuple[str, Any]]], make: Callable[[Mapping[str, Any]], Machine]
) -> tuple[list[Candidate], list[LeftOut]]:
    """Every combination of the axes' values.

    Parameters
    ----------
    axes
        Words and values by axis.
    make
        Makes the machine of values by axis; its HmtraceError with exit code 2 says that there is no
        such kernel.

    Raises
    ------
    HmtraceError
        Exit code 2: there are more than :data:`MOST_MACHINES`.
    """
    number = prod(len(values) for values in axes.values())
    if number > MOST_MACHINES:
        raise HmtraceError(
            f"{number} machines are more than {MOST_MACHINES}",
            hint="fewer values, or --find for a search",
            exit_code=2,
        )
    candidates, left_out = [], []
    for words, values in combinations(axes):
        try:
            machine = make(values)
        except HmtraceError as error:
            if error.exit_code != 2:
                raise
            left_out.append(LeftOut(words, str(error)))
        else:
            candidates.append(Candidate(words, machine))
    return candidates, left_out


class Likeness:
    """Which candidates have most in common to be replayed: they belong to one process.

    Parameters
    ----------
    candidates
        All of them.
    captured
        The outcome on the captured machine: whether the pool or the arena has more to do.
    """

    def __init__(self, candidates: Sequence[Candidate], captured: Outcome) -> None:
        pool, arena = (
            len({_chosen(candidate, axes) for candidate in candidates})
            for axes in (_ON_POOL, _ON_ARENA)
        )
        pool_seconds = (captured.pool.maps + captured.pool.unmaps) * _POOL_CALL
        arena_seconds = _ARENA + captured.arena.allocs * _ARENA_CALL
        both = _ON_POOL, _ON_ARENA
        self._axes = both if pool * pool_seconds > arena * arena_seconds else both[::-1]

    def group(self, candidate: Candidate) -> tuple[str, ...]:
        """What those that should not be divided have in common."""
        return _chosen(candidate, self._axes[0])

    def ordered(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates, group by group."""
        return sorted(candidates, key=lambda one: [_chosen(one, axes) for axes in self._axes])


def _chosen(candidate: Candidate, axes: Iterable[str]) -> tuple[str, ...]:
    return tuple(candidate.words.get(name, "") for name in axes)


def swept(candidate: Candidate, outcome: Outcome) -> SweptMachine:
    """The figures of a machine."""
    return SweptMachine(candidate.words, figures_of(outcome), outcome.bound, outcome.caveats)


def is_alike(one: Machine, other: Machine) -> bool:
    """Whether two machines have the same kernel, CPUs and address map, however they are told."""
    kernels = [
        (machine.arch, machine.generation, machine.cpus, machine.converted, has_highpte(machine))
        for machine in (one, other)
    ]
    return kernels[0] == kernels[1] and (
        replace(layout_of(one), notes=()) == replace(layout_of(other), notes=())
    )


def ranked(machines: Iterable[SweptMachine], by: str) -> list[SweptMachine]:
    """The machines, the best by a figure first, unknown ones last.

    Where more tasks sleep for ever, work is missing, and where local mappings are wrong, the kernel
    stops: those come last. Of those that are alike, the ones with fewer failures and waits, with
    less cost, with less RAM that is not used, and with more user space come first.
    """
    order = ("local_wrong", "asleep", by, "failures", "waits", "cost_ns", "unused", "user")

    def key(machine: SweptMachine) -> tuple[float, ...]:
        return tuple(_rank(name, machine.figures[name]) for name in order)

    return sorted(machines, key=key)


def _rank(name: str, value: float | None) -> float:
    if value is None:
        return inf
    return -value if FIGURES[name].more_is_better else value
