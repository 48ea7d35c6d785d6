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

_WEIGHTY: Final = (
    "machine", "pae", "page-size", "split", "ram", "highmem", "kernel", "pkmap", "vmalloc",
    "nr-cpus", "cpus",
)  # fmt: skip
"""Axes, those first that everything is replayed anew for: which pages are highmem."""


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


def neighbours(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates, those side by side that have most in common to be replayed."""

    def key(candidate: Candidate) -> tuple[str, ...]:
        return tuple(candidate.words.get(name, "") for name in _WEIGHTY)

    return sorted(candidates, key=key)


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

    Of those that are alike, the ones with fewer failures and waits, with less cost, and with more
    user space.
    """
    order = (by, "failures", "waits", "cost_ns", "user")

    def key(machine: SweptMachine) -> tuple[float, ...]:
        return tuple(_rank(name, machine.figures[name]) for name in order)

    return sorted(machines, key=key)


def _rank(name: str, value: float | None) -> float:
    if value is None:
        return inf
    return -value if FIGURES[name].more_is_better else value
