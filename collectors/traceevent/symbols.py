"""Which function an address belongs to, of the table that :mod:`collectors.symbols.table` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.probes import FUNCTION_OF, base_name
from collectors.symbols.table import FARTHEST

if TYPE_CHECKING:
    from collectors.symbols.table import Symbols

_ALIASES = 64
"""Names of one address that are looked at."""
_MASK = 0xFFFF_FFFF_FFFF_FFFF


def names_at(symbols: Symbols, address: int) -> list[str]:
    """Functions that begin exactly at an address, without their modules."""
    key = np.uint64(address & _MASK)
    first = int(np.searchsorted(symbols.addresses, key, side="left"))
    last = int(np.searchsorted(symbols.addresses, key, side="right"))
    return [symbols.name(i).partition(" ")[0] for i in range(first, min(last, first + _ALIASES))]


def function_around(symbols: Symbols, address: int) -> str | None:
    """Function that an address lies in; of several names one that hmtrace knows.

    The function tracer's addresses lie a few bytes behind the function's first
    (kernel/trace/ftrace.c: the place of the call to mcount).
    """
    key = np.uint64(address & _MASK)
    last = int(np.searchsorted(symbols.addresses, key, side="right")) - 1
    if last < 0 or address - int(symbols.addresses[last]) >= FARTHEST:
        return None
    names = names_at(symbols, int(symbols.addresses[last]))
    known = [name for name in names if base_name(name) in FUNCTION_OF]
    return (known or names)[0]


def shown_around(symbols: Symbols, address: int) -> str:
    """Function that an address lies in as the tracers' texts show it: ``name [module]``."""
    name = function_around(symbols, address)
    if name is None:
        return f"{address:#x}"
    module = symbols.lookup(address).partition(" ")[2]
    return f"{name} {module}" if module else name
