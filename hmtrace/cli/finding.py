"""What a search looks for: ``min:vmalloc``, ``max:ram``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError
from hmtrace.cli.axes import KINDS
from hmtrace.cli.words import meant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hmtrace.cli.axes import Axis

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
        hint = f"{meant(name, numbers)} one of {', '.join(numbers)}".strip()
        raise HmtraceError(f"--find: {name!r} is no number of a machine", hint=hint, exit_code=2)
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
