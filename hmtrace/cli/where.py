"""Conditions on figures: ``failures=0``, ``waits<=10``."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.errors import HmtraceError, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_CONDITION: Final = re.compile(
    r"([a-z_]{1,40})\s{0,9}(<=|>=|==|=|<|>)\s{0,9}(\d{1,18}(?:\.\d{1,9})?)\s{0,9}([KMG]?)", re.ASCII
)
_UNIT: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIGNS: Final[dict[str, Callable[[float, float], bool]]] = {
    "=": operator.eq, "==": operator.eq, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Condition(NamedTuple):
    """A figure, how it is compared, and with what."""

    figure: str
    sign: str
    number: float
    words: str

    def is_met(self, figures: Mapping[str, float | None]) -> bool:
        """Whether the figures of a machine meet it; one that is not known does not."""
        value = figures[self.figure]
        return value is not None and _SIGNS[self.sign](value, self.number)


def parse_figure(name: str) -> str:
    """A name of :data:`replay.whatif.figures.FIGURES`.

    Raises
    ------
    HmtraceError
        Exit code 2.
    """
    from replay.whatif.figures import FIGURES

    known = name.strip().lower().replace("-", "_")
    known = {"cost": "cost_ns", "flushes": "pool_flushes", "wait": "wait_ns"}.get(known, known)
    if known not in FIGURES:
        raise HmtraceError(f"{name!r} is no figure", hint=one_of(name, FIGURES), exit_code=2)
    return known


def parse_where(given: Iterable[str]) -> tuple[Condition, ...]:
    """Read what ``--where`` was given.

    Raises
    ------
    HmtraceError
        Exit code 2.

    Examples
    --------
    >>> parse_where(["failures=0"])[0].is_met({"failures": 0})
    True
    """
    return tuple(map(_condition, given))


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise HmtraceError(
            f"--where: {text!r} is no condition", hint="such as failures=0 or waits<=10",
            exit_code=2,
        )  # fmt: skip
    name, sign, number, unit = match.groups()
    figure = parse_figure(name)
    return Condition(figure, sign, float(number) * _UNIT[unit], text.strip())
