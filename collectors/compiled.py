"""How loops over arrays are compiled, and loaded. Import only from functions that use them.

A :func:`loop` is what Python calls; it is kept on the disk. It consists of parts: a :func:`part`
is called by loops and other parts, a :func:`piece` is inlined there, as it is what every record
runs through and a call costs more than its work (numba passes a named tuple of arrays as some
forty words).

Without numba's reference counting (``_nrt``): it would count every array up and down with atomic
instructions wherever one is given to a function, which took more than half of the time of the walk
over a trace.dat, three quarters of that over a text, and nine tenths of that over the pool. So
what is compiled here allocates nothing; room is given to it, and an array is never its result.
The few that do allocate say so.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from numba.core import config, types
from numba.core.caching import FunctionCache
from numba.core.registry import CPUDispatcher
from numba.core.runtime.nrt import rtsys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TYPES: Any = types  # annotated in part only
_CONFIG: Any = config
_LOOP: dict[str, Any] = {"nopython": True, "nogil": True, "boundscheck": None}
# The wrappers would take a third of the compile time.
_PART: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_LOOP}


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


class _Part(CPUDispatcher):
    """A function for compiled code; Python may call it too, through a loop of its own.

    It is compiled once, not anew for every width of its integers: a constant, an int32 from a
    column and an int64 all arrive as int64. Unsigned integers stay what they are.
    """

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:
        """Of numba, asked where compiled code calls: which compiled form is to be taken."""
        named = {name: _widened(kind) for name, kind in dict(kws).items()}
        return super().get_call_template([_widened(kind) for kind in args], named)

    @cached_property
    def _alone(self) -> Any:
        return _compiled(self.py_func, allocates=self.targetoptions.get("_nrt", True))

    def __call__(self, *args: Any) -> Any:
        """Run a loop of this function alone: what is compiled as a part Python cannot call."""
        return self._alone(*args)


def _widened(kind: Any) -> Any:
    plain = _TYPES.unliteral(kind)
    is_signed = isinstance(plain, _TYPES.Integer) and plain.signed
    return _TYPES.int64 if is_signed else plain


def _compiled(function: Callable[..., Any], *, allocates: bool) -> Any:
    made: Any = CPUDispatcher(function, targetoptions=_options(_LOOP, allocates=allocates))
    new_cache: Any = _Cache
    made._cache = new_cache(function)
    return made


def _options(options: dict[str, Any], *, allocates: bool, inlined: bool = False) -> dict[str, Any]:
    chosen = dict(options)
    if not allocates:
        chosen["_nrt"] = False
    if inlined:
        chosen["forceinline"] = True
    return chosen


def loop(function: Callable[..., Any] | None = None, *, allocates: bool = False) -> Any:
    """Decorator of what Python calls: compiled at the first call, and kept on the disk.

    Parameters
    ----------
    function
        Function over arrays.
    allocates
        Whether it, or a part of it, makes arrays.
    """
    if function is None:
        return lambda function: loop(function, allocates=allocates)
    if _CONFIG.DISABLE_JIT:
        return function
    return _compiled(function, allocates=allocates)


def part(
    function: Callable[..., Any] | None = None, *, allocates: bool = False, inlined: bool = False
) -> Any:
    """Decorator of what loops and other parts call; parameters as of :func:`loop`."""
    if function is None:
        return lambda function: part(function, allocates=allocates, inlined=inlined)
    if _CONFIG.DISABLE_JIT:
        return function
    return _Part(function, targetoptions=_options(_PART, allocates=allocates, inlined=inlined))


def piece(function: Callable[..., Any]) -> Any:
    """Decorator of parts that every record runs through: inlined."""
    return part(function, inlined=True)
