"""What a fact's value may look like: metadata that was tampered with must not reach the model.

The readers of the machine's files make values of the types that
:class:`collectors.snapshot.Snapshot` names; here they are checked once more, as a file in between
may hold anything.
"""

from __future__ import annotations

from typing import Any, Final, get_type_hints

import collectors.fitting
from collectors.facts.pkmap import TREES, is_tree
from collectors.snapshot import (
    Area,
    ArenaTrees,
    OomReport,
    OomZone,
    Probe,
    Process,
    Recording,
    Snapshot,
    Zone,
    ZoneUse,
)

RECORDS: Final = {
    kind.__name__: (kind, tuple[tuple(get_type_hints(kind).values())])  # type: ignore[misc]
    for kind in (Area, Zone, Probe, Process, Recording, ZoneUse, OomZone, OomReport)
}
"""By name, each record and the type of its values."""
SHAPES: Final[dict[str, Any]] = get_type_hints(Snapshot)
"""Type of each fact."""


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of the type of a fact, or of a part of one."""
    return collectors.fitting.fits(value, kind, {ArenaTrees: _is_arena})


def _is_arena(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {*TREES, "lazy_nr"}
        and fits(value["lazy_nr"], int)
        and value["free"] is not None
        and all(is_tree(value[tree]) for tree in TREES)
    )


def fact_fits(name: str, value: Any) -> bool:
    """Tell whether a fact's value is what the readers of the machine's files make.

    Facts of other names are passed: a later version may know more.
    """
    return name not in SHAPES or (value is not None and fits(value, SHAPES[name]))
