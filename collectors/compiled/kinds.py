"""Kinds of values, as numba tells them apart, without numba.

A compiled loop fits arguments of certain kinds only: arrays of so many dimensions of numbers of
some width, named tuples of these. What is asked here at every call is what
``numba.typeof`` would say; what is not known here, it is asked for.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_CONTIGUOUS, _FORTRAN, _WRITEABLE = 0x1, 0x2, 0x400
"""Of ``flags.num`` of an array: NPY_ARRAY_C_CONTIGUOUS and others, numpy/ndarraytypes.h."""
_FLAGS: Final = _CONTIGUOUS | _FORTRAN | _WRITEABLE
_NUMBERS: Final = "biuf"
"""Of ``dtype.kind``: those that have the same name here and in numba."""
_WHOLE: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_SCALARS: Final[dict[type, str]] = {
    bool: "bool",
    float: "float64",
    type(None): "none",
    np.bool_: "bool",
    np.float32: "float32",
    np.float64: "float64",
    **{getattr(np, name): name for name in _WHOLE},
}
_ARRAYS: Final = (np.ndarray, np.recarray)
_INT64, _UINT64 = 1 << 63, 1 << 64


def key(value: Any) -> Hashable:
    """Something that is the same for values of the same kind, and quickly found.

    Parameters
    ----------
    value
        Argument of a loop.

    Raises
    ------
    ValueError
        Neither this module nor numba knows such a value.
    """
    cls = type(value)
    if cls in _ARRAYS:
        return value.dtype, value.ndim, value.flags.num & _FLAGS
    if cls is int:
        return _whole(value)
    if cls in _SCALARS:
        return _SCALARS[cls]
    if cls is tuple or _is_named(cls):
        return (cls, *map(key, value))
    return _asked(value)


def _whole(value: int) -> Hashable:
    if -_INT64 <= value < _INT64:
        return "int64"
    return "uint64" if 0 <= value < _UINT64 else _asked(value)


def _is_named(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _asked(value: Any) -> Hashable:
    import numba

    typeof: Any = numba.typeof
    found: Hashable = typeof(value)
    return found


def words(values: Iterable[Any]) -> str:
    """Kinds in words; of a named tuple its class, and its fields by name.

    They are those of :func:`describe`, but for records.
    """
    return ", ".join(_word(value) for value in values)


def _word(value: Any) -> str:
    cls = type(value)
    if cls in _ARRAYS:
        return _array(value)
    if cls is tuple:
        return f"({words(value)})"
    if _is_named(cls):
        fields = ", ".join(f"{name}: {_word(getattr(value, name))}" for name in cls._fields)
        return f"{cls.__module__}.{cls.__qualname__}({fields})"
    found = key(value)
    return found if isinstance(found, str) else describe([found])


def _array(value: np.ndarray[Any, Any]) -> str:
    dtype = _dtype(value.dtype)
    if not dtype:
        return describe([_asked(value)])
    flags = value.flags
    layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
    array = "array" if flags.writeable else "readonly array"
    return f"{array}({dtype}, {value.ndim}d, {layout})"


@cache
def _dtype(dtype: np.dtype[Any]) -> str:
    """Numbers, rows and records of numbers; empty of others."""
    if dtype.subdtype is not None:
        inner = _dtype(dtype.subdtype[0])
        return inner and f"{inner} {dtype.shape}"
    if dtype.fields is None:
        return dtype.name if dtype.kind in _NUMBERS and dtype.isnative else ""
    fields = [(name, _dtype(kind), *rest) for name, (kind, *rest) in dtype.fields.items()]
    if not all(kind and len(rest) == 1 for _, kind, *rest in fields):  # titles; what is no number
        return ""
    inside = ", ".join(f"{name}: {kind} at {rest[0]}" for name, kind, *rest in fields)
    return f"record({inside}; {dtype.itemsize} bytes{', aligned' * dtype.isalignedstruct})"


def describe(kinds: Iterable[Any]) -> str:
    """Types that numba has, in words."""
    return ", ".join(_kind(kind) for kind in kinds)


def _kind(kind: Any) -> str:
    made = getattr(kind, "instance_class", None)
    if made is not None:
        fields = ", ".join(
            f"{name}: {_kind(inner)}" for name, inner in zip(kind.fields, kind.types, strict=True)
        )
        return f"{made.__module__}.{made.__qualname__}({fields})"
    if hasattr(kind, "types"):
        return f"({describe(kind.types)})"
    return str(kind)
