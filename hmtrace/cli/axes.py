"""Axes of a sweep: ``split=3g,2g``, ``ram=1G,2G``, ``pkmap=64..1024*2``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError, one_of
from hmtrace.cli.sizes import human, parse_size
from hmtrace.cli.words import split_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_VALUES: Final = 4096
"""Of one axis."""
_RANGE: Final = re.compile(
    r"(?P<low>[^.,*+]{1,64}+)\.\.(?P<high>[^.,*+]{1,64}+)(?:(?P<by>[*+])(?P<step>.{1,64}))?"
)
_YES: Final = {"yes": True, "on": True, "y": True, "no": False, "off": False, "n": False}


class Kind(NamedTuple):
    """What the values of an axis are.

    Attributes
    ----------
    parse
        Makes the value that :func:`hmtrace.cli.machines.target_machine` takes of a word.
    is_number
        Whether there are ranges of them.
    word
        The word of a number.
    """

    parse: Callable[[str], Any]
    is_number: bool = False
    word: Callable[[int], str] = str


class Axis(NamedTuple):
    """An option of the machine, and the values that are tried.

    Attributes
    ----------
    name
        Of the option, without dashes before it.
    words
        The values as they were given, or as they follow from a range.
    values
        The same for :func:`hmtrace.cli.machines.target_machine`.
    ends
        First and last value of a range without a step; None: there is none.
    """

    name: str
    words: tuple[str, ...]
    values: tuple[Any, ...]
    ends: tuple[int, int] | None = None

    @property
    def option(self) -> str:
        """Name of the option as a keyword."""
        return option_of(self.name)

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return KINDS[self.name].is_number and all(isinstance(one, int) for one in self.values)


def option_of(name: str) -> str:
    """Keyword of :func:`hmtrace.cli.machines.target_machine` for the name of an axis."""
    return name.replace("-", "_")


def _size(word: str) -> int:
    return parse_size(word, "--axis", low=1, high=64 << 30)


def _zone_size(word: str) -> str | int:
    return word if word.lower() == "none" else parse_size(word, "--axis", low=0, high=64 << 30)


def _whole(word: str) -> int:
    if not re.fullmatch(r"\d{1,9}", word, re.ASCII) or not int(word):
        raise HmtraceError(f"--axis: {word!r} is no number", exit_code=2)
    return int(word)


def _flag(word: str) -> bool:
    if word.lower() not in _YES:
        raise HmtraceError(f"--axis: {word!r} is neither yes nor no", exit_code=2)
    return _YES[word.lower()]


def _conversion(word: str) -> tuple[str, ...]:
    return () if word.lower() == "none" else (word,)


_SIZES: Final = Kind(_size, is_number=True, word=human)
_COUNTS: Final = Kind(_whole, is_number=True)
KINDS: Final = {
    "split": Kind(split_name),
    "ram": _SIZES,
    "pae": Kind(_flag),
    "pkmap": _COUNTS,
    "vmalloc": _SIZES,
    "cpus": _COUNTS,
    "nr-cpus": _COUNTS,
    "highmem": Kind(_flag),
    "highmem-size": Kind(_zone_size, is_number=True, word=human),
    "highpte": Kind(_flag),
    "kernel": Kind(str),
    "page-size": _SIZES,
    "machine": Kind(Path),
    "convert": Kind(_conversion),
}
"""Options that can be axes."""


def parse_axes(given: Iterable[str]) -> tuple[Axis, ...]:
    """Read what ``--axis`` was given.

    Parameters
    ----------
    given
        ``NAME=VALUE,VALUE…``; a value may be a range: ``64..1024*2``, ``1..4+1``, or ``120M..160M``
        whose steps a search finds.

    Returns
    -------
    tuple of Axis
        In this order.

    Raises
    ------
    HmtraceError
        Exit code 2.

    Examples
    --------
    >>> [axis] = parse_axes(["pkmap=64..512*2"])
    >>> axis.words
    ('64', '128', '256', '512')
    >>> parse_axes(["ram=1G,1536M", "pae=yes,no"])[1].values
    (True, False)
    """
    axes = tuple(map(_axis, given))
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise HmtraceError(
                f"--axis: {name} is there twice", hint="give all values at once", exit_code=2
            )
    return axes


def _axis(text: str) -> Axis:
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("_", "-").lower()
    if name not in KINDS:
        msg = f"--axis: {name!r} is no option of a machine"
        raise HmtraceError(msg, hint=one_of(name, KINDS), exit_code=2)
    if not equals or not values.strip():
        raise HmtraceError(
            f"--axis: {name} has no values", hint=f"such as --axis {_example(name)}", exit_code=2
        )
    kind = KINDS[name]
    found = [pair for word in values.split(",") for pair in _values(word.strip(), kind)]
    ends = [pair for pair in found if isinstance(pair, _Ends)]
    if ends and len(found) > 1:
        raise HmtraceError(
            f"--axis: {name} has a range without steps beside other values",
            hint=f"such as {_example(name)}",
            exit_code=2,
        )
    if ends:
        return Axis(name, (), (), (ends[0].low, ends[0].high))
    pairs = dict(found)
    return Axis(name, tuple(pairs), tuple(pairs.values()))


class _Ends(NamedTuple):
    low: int
    high: int


def _example(name: str) -> str:
    return {"pkmap": "pkmap=64..1024*2", "cpus": "cpus=1,2,4", "split": "split=3g,2g"}.get(
        name, f"{name}=512M..4G*2" if KINDS[name].word is human else f"{name}=…"
    )


def _values(word: str, kind: Kind) -> Iterator[Any]:
    """The word with its value, those of a range, or the ends of one."""
    match = _RANGE.fullmatch(word) if kind.is_number else None
    if match is None:
        yield word, kind.parse(word)
        return
    low, high = kind.parse(match["low"]), kind.parse(match["high"])
    if not isinstance(low, int) or not isinstance(high, int):
        raise HmtraceError(f"--axis: {word} does not begin and end with a size", exit_code=2)
    if low > high:
        raise HmtraceError(f"--axis: {word} ends before it begins", exit_code=2)
    if match["by"] is None:
        yield _Ends(low, high)
        return
    factor = match["by"] == "*"
    step = _whole(match["step"]) if factor else kind.parse(match["step"])
    if factor and (step < 2 or not low):
        raise HmtraceError(
            f"--axis: {word} never ends", hint="a factor of 2 or more, from 1 on", exit_code=2
        )
    value, number = low, 0
    while value <= high:
        if (number := number + 1) > MOST_VALUES:
            raise HmtraceError(
                f"--axis: {word} has more than {MOST_VALUES} values",
                hint="larger steps, or --find for a search",
                exit_code=2,
            )
        yield kind.word(value), value
        value = value * step if factor else value + step
