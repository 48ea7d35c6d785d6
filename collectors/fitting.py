"""Whether a value is of the type that is written down for it: for what comes out of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from math import isfinite
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, get_args, get_origin

_MOST: Final = 1 << 63
"""Numbers beyond are none of a trace, and no array takes them."""
_NOTHING: Final[Mapping[Any, Callable[[Any], bool]]] = MappingProxyType({})


def fits(value: Any, kind: Any, special: Mapping[Any, Callable[[Any], bool]] = _NOTHING) -> bool:
    """Tell whether a value is of a type; a bool is no number, a mapping is a dict.

    Parameters
    ----------
    value
        The value.
    kind
        The type, with what is in it: ``tuple[int, ...] | None``.
    special
        What tells it of types that have a rule of their own.

    Examples
    --------
    >>> fits({"a": (1, None)}, Mapping[str, tuple[int, int | None]])
    True
    >>> fits(True, int), fits(float("nan"), float), fits(1, float)
    (False, False, True)
    """
    if kind in special:
        return special[kind](value)
    of, origin = get_args(kind), get_origin(kind)
    if origin is UnionType:
        return any(fits(value, one, special) for one in of)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        of = of[:1] * len(value) if of[-1] is Ellipsis else of
        return len(value) == len(of) and all(
            fits(part, one, special) for part, one in zip(value, of, strict=True)
        )
    if origin in (frozenset, set):
        return isinstance(value, origin) and all(fits(part, of[0], special) for part in value)
    if origin is not None and issubclass(origin, Mapping):
        wanted = dict if origin is Mapping else origin
        of = of if len(of) == 2 else (*of, int)  # of a Counter
        return isinstance(value, wanted) and all(
            fits(k, of[0], special) and fits(v, of[1], special) for k, v in value.items()
        )
    if isinstance(value, bool) and kind is not bool:
        return False
    if isinstance(value, int) and not -_MOST <= value < 2 * _MOST:
        return False
    if kind is float:
        return isinstance(value, int | float) and isfinite(value)
    if is_dataclass(kind):
        return type(value) is kind
    return isinstance(value, NoneType if kind is None else kind)
