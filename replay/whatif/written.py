"""All of a workload but its tables, written down: JSON and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_origin, get_type_hints

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collectors.fitting import fits
from replay.arena.tally import ArenaTally
from replay.figures import Figures
from replay.machine.costs import CostRange, Costs
from replay.machine.model import Machine, Told
from replay.outcome import (
    ArenaOutcome,
    CrossedKmaps,
    Holder,
    JammedTask,
    LocalOutcome,
    ModulesOutcome,
    Moment,
    NestedKmaps,
    NestedTask,
    PoolJam,
    PoolOutcome,
    PurgeOutcome,
    Site,
    SlotHolder,
    Waiter,
    WrongOrder,
)
from replay.over_time import Series
from replay.pool.tally import PoolTally
from replay.pool.window import PoolFacts
from replay.survey import Survey
from replay.trace.parts import Parts
from replay.whatif.workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

_RECORDS: Final = (CostRange, Told)
_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        *_RECORDS, ArenaOutcome, ArenaTally, Costs, CrossedKmaps, Figures, Holder, JammedTask,
        LocalOutcome, Machine, ModulesOutcome, Moment, NestedKmaps, NestedTask, PoolFacts, PoolJam,
        PoolOutcome, PoolTally, PurgeOutcome, Series, Site, SlotHolder, Survey, Waiter, WrongOrder,
    )
}  # fmt: skip
"""What may be written; nothing else is made of what is read."""
_OWN: Final[dict[str, Any]] = {
    "figures": Figures, "nameless": tuple[int, int], "pool": str, "windows": int,
    "site_names": tuple[str, ...],
}  # fmt: skip
_FIELDS: Final = tuple(_OWN)
_COUNTING: Final = (ArenaTally, PoolTally)


def record_of(workload: Workload) -> dict[str, Any]:
    """A workload without its tables, as JSON has it; key ``files`` names theirs."""
    told = {name: encode(getattr(workload, name)) for name in _FIELDS}
    return told | {"files": sorted(path.name for path in workload.parts.files.values())}


def workload_from(record: dict[str, Any], parts: Parts) -> Workload:
    """The workload that :func:`record_of` wrote, over its tables.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is none.
    """
    told = {name: decode(record[name]) for name in _FIELDS}
    for name, value in told.items():
        if not fits(value, _OWN[name]):
            msg = f"{str(value)[:40]!r} is no {name}"
            raise TypeError(msg)
    return Workload(**told, parts=parts)


def parts_from(record: dict[str, Any], folder: Path) -> Parts:
    """The tables of a record, in files of a folder."""
    return Parts.of(folder, [str(name) for name in record["files"]])


def machine_from(record: Any) -> Machine:
    """The machine that :func:`encode` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is none.
    """
    machine = decode(record)
    if not isinstance(machine, Machine):
        msg = "no machine"
        raise TypeError(msg)
    return machine


def encode(value: Any) -> Any:
    """The value as JSON has it; what JSON has no type for becomes an object with one key.

    Fields of records whose names begin with an underscore are left out.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return {"array": [value.dtype.str, value.tolist()]}
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "mapping"
        return {kind: [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set": [encode(part) for part in sorted(value)]}
    if is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in fields(value) if not f.name.startswith("_")]
        return {type(value).__name__: {name: encode(getattr(value, name)) for name in names}}
    if type(value) in _RECORDS:
        return {type(value).__name__: {name: encode(one) for name, one in value._asdict().items()}}
    return {"tuple": [encode(part) for part in value]}


@cache
def _shapes(name: str) -> dict[str, Any]:
    """Types of a record's fields; what they are called is imported for the type checker alone."""
    known = {"NDArray": NDArray, "Mapping": Mapping, "pl": pl, "np": np, **_KINDS}
    return get_type_hints(_KINDS[name], localns=known)


def _same(value: Any) -> Any:
    return value


def _is_column(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.int64 and value.ndim == 1


_SPECIAL: Final = {NDArray[np.int64]: _is_column}


def decode(value: Any) -> Any:
    """The value of what :func:`encode` made.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is none.
    """
    if not isinstance(value, dict):
        return value
    ((name, inner),) = value.items()
    if name == "array":
        kind, numbers = inner
        if kind != "<i8":
            raise KeyError(kind)
        return np.array(numbers, np.dtype(kind))
    if name in ("counter", "mapping"):
        pairs = {decode(key): decode(part) for key, part in inner}
        return Counter(pairs) if name == "counter" else pairs
    if name == "set":
        return {decode(part) for part in inner}
    if name == "tuple":
        return tuple(decode(part) for part in inner)
    shapes = _shapes(name)
    told: dict[str, Any] = {
        key: (frozenset if get_origin(shapes[key]) is frozenset else _same)(decode(part))
        for key, part in inner.items()
    }
    for key, part in told.items():
        if not fits(part, shapes[key], _SPECIAL):
            msg = f"{str(part)[:40]!r} is no {key} of {name}"
            raise TypeError(msg)
    made = _KINDS[name](**told)
    if isinstance(made, _COUNTING):
        for key, part in told.items():  # they begin with nothing counted
            setattr(made, key, part)
    return made
