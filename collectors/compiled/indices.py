"""Indices of compiled loops: none counts from an array's end.

Python's indices may be negative, so numba asks at every access whether one is, and adds the length
if so. With the many columns that a record goes through here that was a tenth of the time of all
loops together, a third of pairing's. What is compiled here takes an index as it is, like C; a
constant one still counts from the end where it is negative.

An index that is none then means memory that is not the array's. ``NUMBA_BOUNDSCHECK=1`` compiles
loops that raise IndexError at one, and at one beyond the end: ``make bounds`` runs the tests so.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.np import arrayobj

_MODULE: Any = arrayobj
_TYPES: Any = types
_FIXES = "fix_integer_index"


def leave_indices() -> None:
    """Have numba take indices as they are, in all that it compiles from now on.

    A numba that goes about it in another way is left alone: its loops take longer.
    """
    fix: Any = getattr(_MODULE, _FIXES, None)
    if fix is None:
        return

    def left(context: Any, builder: Any, kind: Any, index: Any, size: Any) -> Any:
        if isinstance(index, ir.Constant):  # LLVM does the sum
            return fix(context, builder, kind, index, size)
        return context.cast(builder, index, kind, _TYPES.intp if kind.signed else _TYPES.uintp)

    setattr(_MODULE, _FIXES, left)
