"""What a search looks for: ``min:vmalloc``, ``max:ram``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError, one_of
from collectors.records import dataclass, field
from hmtrace.cli.axes import KINDS
from replay.whatif.search import PROBES, searching
from replay.whatif.sweep import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hmtrace.cli.axes import Axis
    from replay.machine.model import Machine
    from replay.whatif.search import Found
    from replay.whatif.sweep import SweptMachine

_MIB: Final = 1 << 20
_RANGES: Final = {
    "vmalloc": (16 * _MIB, 2048 * _MIB),
    "ram": (64 * _MIB, 16384 * _MIB),
    "pkmap": (16, 4096),
    "cpus": (1, 64),
}
"""What is searched where ``--axis`` does not say it."""


class Goal(NamedTuple):
    """The value that is searched.

    Attributes
    ----------
    name
        Of the axis.
    is_least
        The least value is searched; else the greatest.
    values
        What may be tried, ascending.
    word
        The word of a value.
    words
        As it was given.
    """

    name: str
    is_least: bool
    values: Sequence[int]
    word: Callable[[int], str]
    words: str


@dataclass
class Quest:
    """A search with one combination of the other axes, beside others.

    Attributes
    ----------
    words, values
        Of the other axes.
    goal
        What is searched.
    make
        Makes the machine of values by axis; its HmtraceError with exit code 2 says that there is no
        such kernel.
    meets
        Whether a machine meets the conditions.
    tried
        What came of each value: a machine, or why there is none.
    waiting
        Candidates that are to be served, and their values by their identity.
    """

    words: dict[str, str]
    values: dict[str, Any]
    goal: Goal
    make: Callable[[dict[str, Any]], Machine]
    meets: Callable[[SweptMachine], bool]
    tried: dict[int, SweptMachine | str] = field(default_factory=dict)
    waiting: list[Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._steps = searching(self.goal.values, least=self.goal.is_least)
        self._found: Found | None = None
        self._asked: dict[int, int] = {}
        self._told: dict[int, bool | None] = {}

    @property
    def result(self) -> Found:
        """What was found, at the end."""
        assert self._found is not None
        return self._found

    def wanted(self) -> list[Candidate]:
        """Candidates that are to be served first."""
        return self._go_on(next(self._steps))

    def take(self, candidate: Candidate, machine: SweptMachine) -> list[Candidate]:
        """Note what came of a candidate; those that are to be served now."""
        value = self._asked.pop(id(candidate))
        self.waiting.remove(candidate)
        self.tried[value] = machine
        self._told[value] = self.meets(machine)
        return [] if self.waiting else self._go_on(self._next())

    def most_left(self) -> int:
        """How many candidates there may still be: probes, then halves of what is between two."""
        if self._found is not None:
            return 0
        number = min(PROBES, len(self.goal.values))
        number += (len(self.goal.values) // PROBES).bit_length()
        return max(len(self.waiting), number - len(self.tried))

    def _go_on(self, values: Iterable[int] | None) -> list[Candidate]:
        """Make the machines of these values and, where no kernel can have any, of the next ones."""
        while values is not None:
            for value in values:
                self._propose(value)
            if self.waiting:
                return list(self.waiting)
            values = self._next()
        return []

    def _propose(self, value: int) -> None:
        """Make the machine of a value; that no kernel can have it is told at once."""
        name = self.goal.name
        try:
            machine = self.make({**self.values, name: value})
        except HmtraceError as error:
            if error.exit_code != 2:
                raise
            self.tried[value] = str(error)
            self._told[value] = None
            return
        candidate = Candidate(self.words | {name: self.goal.word(value)}, machine)
        self._asked[id(candidate)] = value
        self.waiting.append(candidate)

    def _next(self) -> Iterable[int] | None:
        """Values to try next, by what came of the last ones; None: the search is over."""
        told, self._told = self._told, {}
        try:
            return self._steps.send(told)
        except StopIteration as end:
            self._found = end.value
            return None


def parse_goal(text: str, axes: Iterable[Axis]) -> Goal:
    """Read what ``--find`` was given.

    Raises
    ------
    HmtraceError
        Exit code 2.

    Examples
    --------
    >>> goal = parse_goal("min:pkmap", [])
    >>> goal.values[:3], goal.is_least
    ((16, 32, 64), True)
    """
    which, colon, name = text.partition(":")
    name = name.strip().replace("_", "-")
    numbers = [known for known, kind in KINDS.items() if kind.is_number]
    if not colon or which not in ("min", "max"):
        raise HmtraceError(
            f"--find: {text!r} is neither min:NAME nor max:NAME", hint="such as min:vmalloc",
            exit_code=2,
        )  # fmt: skip
    if name not in numbers:
        msg = f"--find: {name!r} is no number of a machine"
        raise HmtraceError(msg, hint=one_of(name, numbers), exit_code=2)
    axis = next((axis for axis in axes if axis.name == name), None)
    kind = KINDS[name]
    if axis is not None and axis.values:
        values: Sequence[int] = sorted(axis.values)
    elif axis is None and name not in _RANGES:
        raise HmtraceError(
            f"--find: where to look for {name} is not known", hint=f"--axis {name}=LOW..HIGH",
            exit_code=2,
        )  # fmt: skip
    else:
        low, high = axis.ends if axis is not None and axis.ends else _RANGES[name]
        values = _between(name, low, high)
    if not values:
        raise HmtraceError(f"--find: the range of {name} is empty", exit_code=2)
    return Goal(name, which == "min", values, kind.word, text)


def _between(name: str, low: int, high: int) -> Sequence[int]:
    """Values in between: powers of two for the pool, MiB for sizes, else every number."""
    if name == "pkmap":
        return tuple(1 << n for n in range(64) if low <= 1 << n <= high)
    if KINDS[name].word is str:
        return range(low, high + 1)
    step = _MIB if name != "page-size" else low
    return range(low, high + 1, step)
