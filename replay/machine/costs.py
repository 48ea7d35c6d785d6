"""What elementary operations of a machine cost: the figures, with where each comes from.

All times are nanoseconds of CPU time. The figures and their sources are in ``costs.toml``;
most are assumptions, so each has a range that it lies in. What is worked out of them is in
:mod:`replay.cost.formulas`, what two machines come to over the ranges in
:mod:`replay.cost.verdict`.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

from collectors.errors import HmtraceError, one_of
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST: Final = 1e15
"""Nanoseconds that nothing takes."""


@dataclass(frozen=True)
class CostNote:
    """Where one figure comes from: `trust` is explained at the top of costs.toml.

    `short` names the operation in a sentence, `spread` says where the range is from.
    """

    unit: str
    short: str
    what: str
    source: str
    spread: str
    trust: str


class Spread(NamedTuple):
    """A figure with what it lies between."""

    low: float
    likely: float
    high: float


class CostRange(NamedTuple):
    """The range of the figure `name`."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Costs:
    """Cost parameters; what each means stands in ``costs.toml``. Nanoseconds unless said.

    Attributes
    ----------
    tlb_entries
        Number of entries.
    tlb_live
        Share, 0 to 1.
    ranges
        What figures lie between, by name; a figure without a range is certain.
    """

    invlpg: float
    full_flush: float
    full_flush_invpcid: float
    full_flush_cr3: float
    walk: float
    tlb_entries: float
    tlb_live: float
    ipi_base: float
    ipi_cpu: float
    ipi_receive: float
    tlbi_broadcast: float
    tlbi_local: float
    dsb: float
    isb: float
    scan: float
    set_pte: float
    clear_pte: float
    hash: float
    lock: float
    migrate: float
    low_map: float
    sleep: float
    tree_step: float
    area: float
    ranges: tuple[CostRange, ...] = ()

    @classmethod
    @cache
    def default(cls) -> Costs:
        """The figures of ``costs.toml``, with their ranges: the same for each machine."""
        spreads = {name: spread for name, (spread, _) in _defaults().items()}
        return cls.certain({}).with_spreads(spreads)

    @classmethod
    def certain(cls, values: Mapping[str, float]) -> Costs:
        """Figures without ranges; what is not named costs nothing."""
        figures: dict[str, Any] = dict.fromkeys(FIGURE_NAMES, 0.0)
        return cls(**figures | dict(values))

    def spread(self, name: str) -> Spread:
        """A figure with its range."""
        likely = getattr(self, name)
        for one in self.ranges:
            if one.name == name:
                return Spread(one.low, likely, one.high)
        return Spread(likely, likely, likely)

    def with_spreads(self, spreads: Mapping[str, Spread]) -> Costs:
        """Other figures with their ranges; the rest stays."""
        kept = {one.name: one for one in self.ranges if one.name not in spreads}
        kept |= {
            name: CostRange(name, spread.low, spread.high)
            for name, spread in spreads.items()
            if spread.low < spread.high
        }
        ranges = tuple(kept[name] for name in sorted(kept))
        values = {name: spread.likely for name, spread in spreads.items()}
        return replace(self, ranges=ranges, **values)

    def with_values(self, values: dict[str, Any], *, source: str | None = None) -> Costs:
        """Override figures by name.

        Parameters
        ----------
        values
            Name to number, which then is certain; to ``[low, likely, high]``; or to a table with a
            ``value``, and ``low`` and ``high`` where it is not certain, as in costs.toml.
        source
            File that they are from, for errors.

        Raises
        ------
        HmtraceError
            Exit code 2: an unknown figure, one that is no finite number of at least 0, or a range
            that it does not lie in.

        Examples
        --------
        >>> costs = Costs.default().with_values({"invlpg": [20, 140, 200], "walk": 30})
        >>> costs.spread("invlpg"), costs.spread("walk")
        (Spread(low=20.0, likely=140.0, high=200.0), Spread(low=30.0, likely=30.0, high=30.0))
        """
        changed: dict[str, Spread] = {}
        for name, entry in values.items():
            if name not in FIGURE_NAMES:
                hint = one_of(name, FIGURE_NAMES)
                raise HmtraceError(f"unknown cost {name!r}", source=source, hint=hint, exit_code=2)
            numbers = [number for number in _numbers(entry) if _is_cost(number)]
            if len(numbers) < len(Spread._fields):
                msg = f"cost {name!r} is no number from 0 to {_MOST:g}"
                hint = f"write  {name} = 100  or  {name} = [50, 100, 200]"
                raise HmtraceError(msg, source=source, hint=hint, exit_code=2)
            spread = Spread(*map(float, numbers))
            if not spread.low <= spread.likely <= spread.high:
                msg = f"cost {name!r} does not lie in its range"
                hint = f"write  {name} = [50, 100, 200] : the least, the likely, the most"
                raise HmtraceError(msg, source=source, hint=hint, exit_code=2)
            changed[name] = spread
        return self.with_spreads(changed)

    @staticmethod
    def notes() -> dict[str, CostNote]:
        """Unit, meaning, source and trust of every figure's default."""
        return {name: note for name, (_, note) in _defaults().items()}


FIGURE_NAMES: Final = tuple(f.name for f in fields(Costs) if f.name != "ranges")
"""Names of the figures, in their order."""


def _numbers(entry: object) -> list[object]:
    """Low, likely and high of a figure as it is written; of anything else what is no number."""
    if isinstance(entry, dict):
        value = entry.get("value")
        return [entry.get("low", value), value, entry.get("high", value)]
    if isinstance(entry, list):
        return entry if len(entry) == len(Spread._fields) else [None]
    return [entry] * len(Spread._fields)


def _is_cost(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= _MOST


@lru_cache(maxsize=1)
def _defaults() -> dict[str, tuple[Spread, CostNote]]:
    text = files("replay.machine").joinpath("costs.toml").read_text(encoding="utf-8")
    out = {}
    for name, entry in tomllib.loads(text).items():
        note = CostNote(**{field.name: entry[field.name] for field in fields(CostNote)})
        out[name] = (Spread(*(float(n) for n in _numbers(entry) if _is_cost(n))), note)
    return out
