"""What elementary operations of a machine cost: the figures, with where each comes from.

All times are nanoseconds of CPU time. The figures and their sources are in ``costs.toml``;
most are assumptions. What is worked out of them is in :mod:`replay.cost.formulas`.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, TypeGuard

from collectors.errors import HmtraceError

_MOST: Final = 1e15
"""Nanoseconds that nothing takes."""


@dataclass(frozen=True)
class CostNote:
    """Where one figure comes from: `trust` is explained at the top of costs.toml."""

    unit: str
    what: str
    source: str
    trust: str


@dataclass(frozen=True)
class Costs:
    """Cost parameters; what each means stands in ``costs.toml``. Nanoseconds unless said.

    Attributes
    ----------
    tlb_entries
        Number of entries.
    tlb_live
        Share, 0 to 1.
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

    @classmethod
    def default(cls) -> Costs:
        """The figures of ``costs.toml``."""
        return cls(**{name: value for name, (value, _) in _defaults().items()})

    def with_values(self, values: dict[str, Any], *, source: str | None = None) -> Costs:
        """Override figures by name.

        Parameters
        ----------
        values
            Name to number, or to a table with a ``value``, as in costs.toml.
        source
            File that they are from, for errors.

        Raises
        ------
        HmtraceError
            Exit code 2: an unknown figure, or one that is no finite number of at least 0.
        """
        known = [f.name for f in fields(self)]
        changed: dict[str, float] = {}
        for name, entry in values.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                msg = f"unknown cost {name!r}"
                raise HmtraceError(msg, source=source, hint=hint, exit_code=2)
            value = entry.get("value") if isinstance(entry, dict) else entry
            if not _is_cost(value):
                msg = f"cost {name!r} is no number from 0 to {_MOST:g}"
                hint = f"write  {name} = 100"
                raise HmtraceError(msg, source=source, hint=hint, exit_code=2)
            changed[name] = float(value)
        return replace(self, **changed)

    @staticmethod
    def notes() -> dict[str, CostNote]:
        """Unit, meaning, source and trust of every figure's default."""
        return {name: note for name, (_, note) in _defaults().items()}


def _is_cost(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= _MOST


@lru_cache(maxsize=1)
def _defaults() -> dict[str, tuple[float, CostNote]]:
    text = files("replay.machine").joinpath("costs.toml").read_text(encoding="utf-8")
    out = {}
    for name, entry in tomllib.loads(text).items():
        note = CostNote(entry["unit"], entry["what"], entry["source"], entry["trust"])
        out[name] = (float(entry["value"]), note)
    return out
