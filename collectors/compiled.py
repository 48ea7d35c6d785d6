"""How the loops of collectors are compiled, and loaded. Import only from functions that decode.

Without numba's reference counting (``_nrt``): it would count every array up and down with atomic
instructions wherever one is given to a function, which took more than half of the time of the walk
over a trace.dat and three quarters of that over a text. So what is compiled here allocates
nothing; room is given to it, and an array is never its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMON: dict[str, Any] = {"nogil": True, "_nrt": False}
# Not to be called from Python: the wrappers would take a third of the compile time.
_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_COMMON}

piece: Any = numba.njit(forceinline=True, **_INNER)
"""Decorator of what every record runs through: inlined, as a call costs more than the work."""
part: Any = numba.njit(**_INNER)
"""Decorator of the rarer or larger parts."""


class _Cache(FunctionCache):
    """numba's cache of a loop, which does not prepare to compile before it looks into it.

    To fill the tables of all that numba can compile takes 0.2 s, half of a short conversion's
    start. numba fills them again by itself where there is something to compile.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As of numba, without ``target_context.refresh()``."""
        rtsys.initialize(target_context)  # arrays are unpacked by numba's runtime
        load: Any = self._load_overload
        with self._guard_against_spurious_io_errors():
            return load(sig, target_context)


def loop(function: Callable[..., Any]) -> Any:
    """Compile a loop that Python calls, and keep it on the disk."""
    made: Any = numba.njit(**_COMMON)(function)
    if made is not function:  # else numba does not compile (NUMBA_DISABLE_JIT)
        new_cache: Any = _Cache
        made._cache = new_cache(function)
    return made
