"""Values in the types that JSON has."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Final

_SAME: Final = frozenset({int, str, bool, NoneType})
"""Types of what is plain already."""


def plain(value: Any) -> Any:
    """Value in the types that JSON has.

    Dataclasses and mappings become objects, sequences and sets arrays (sets sorted); keys become
    strings; what JSON has no word for (NaN, infinity) becomes null, anything else its ``str()``.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "items"):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    if isinstance(value, list | tuple):  # most are long rows of numbers
        return [v if type(v) in _SAME else plain(v) for v in value]
    if hasattr(value, "item"):  # a numpy scalar
        return plain(value.item())
    return str(value)
