"""How loops over arrays are compiled, and loaded. Import only from functions that use them.

A :func:`loop` is what Python calls; it is kept on the disk (:mod:`collectors.compiled.store`) as
long as its code stays the same (:mod:`collectors.compiled.digest`). It consists of parts: a
:func:`part` is called by loops and other parts, a :func:`piece` is inlined there, as it is what
every record runs through and a call costs more than its work (numba passes a named tuple of arrays
as some forty words).

Without numba's reference counting (``_nrt``): it would count every array up and down with atomic
instructions wherever one is given to a function, which took more than half of the time of the walk
over a trace.dat, three quarters of that over a text, and nine tenths of that over the pool. So
what is compiled here allocates nothing; room is given to it, and an array is never its result.
The few that do allocate say so.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from contextlib import contextmanager
from functools import cache, cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config, serialize, sigutils, types
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.runtime.nrt import rtsys
from numba.extending import intrinsic

from collectors import compiling
from collectors.compiled import store
from collectors.compiled.digest import CodeDigest, describe
from collectors.compiled.linked import PartCompiler
from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    _Noted = tuple["_Loop", tuple[Any, ...]]

__all__ = ["compile_noted", "instruction", "loop", "noting", "part", "piece"]

# numba is annotated in part only.
_TYPES: Any = types
_CONFIG: Any = config
_RESULT: Any = CompileResult
_signature: Any = sigutils.normalize_signature
_dumps: Any = serialize.dumps
_LOOP: dict[str, Any] = {"nopython": True, "nogil": True, "boundscheck": None}
# The wrappers, for calls from Python and from C, would take a third of the compile time.
_PART: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_LOOP}
if _CONFIG.DISABLE_JIT:  # numbers wrap where they are compiled; Python's numpy would remark on it
    warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
_digest = CodeDigest()
_in_python: list[Any] = []
"""Loops that are run as plain Python now, and their parts with them."""


class _Loop(CPUDispatcher):
    """A function for Python, which is kept on the disk for every kind of its arguments.

    numba would first fill the tables of all that it can compile, which takes 0.2 s, half of a
    short conversion's start; here they are filled where something is compiled.
    """

    def compile(self, sig: Any) -> Any:
        """Of numba, called with kinds of arguments that are new: load the loop, or compile it."""
        with global_compiler_lock:
            kinds = tuple(_signature(sig)[0])
            if kinds not in self.overloads:
                name = self._kept_as(kinds)
                if not self._load(name):
                    if compiling.noted is not None:
                        compiling.noted[self, kinds] = None
                        return self._run_in_python
                    waits = compiling.waits
                    with _told(self._full_name), store.claimed(name, wait=waits) as is_ours:
                        if not is_ours:
                            return self._run_in_python
                        if not self._load(name):
                            self._make(name, kinds)
                compiling.ready.add(self._full_name)
            made: Any = self.overloads[kinds]
            return made.entry_point

    def _run_in_python(self, *args: Any) -> Any:
        _in_python.append(self)
        try:
            return self.py_func(*args)
        finally:
            _in_python.pop()

    def _kept_as(self, kinds: tuple[Any, ...]) -> str:
        function: Any = self.py_func
        target: Any = self.targetctx
        made_of = (
            _digest.of(function),
            describe(kinds),
            self.targetoptions,
            (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag),
            _machine(target.codegen()),
            (str(_CONFIG.OPT), _CONFIG.BOUNDSCHECK),
        )
        return f"{self._full_name}-{sha256(repr(made_of).encode()).hexdigest()[:24]}"

    @property
    def _full_name(self) -> str:
        return f"{self.py_func.__module__}.{self.py_func.__name__}"

    def _load(self, name: str) -> bool:
        """Whether it was kept. What does not fit numba as it is now is compiled anew."""
        content = store.load(name)
        if content is None:
            return False
        target: Any = self.targetctx
        if self.targetoptions.get("_nrt", True):
            rtsys.initialize(target)  # compiles what counts references
        try:
            made = _RESULT._rebuild(target, *pickle.loads(content))
        except Exception:  # numba's own words, of whatever kind
            return False
        target.insert_user_function(made.entry_point, made.fndesc, [made.library])
        self.add_overload(made)
        return True

    def _make(self, name: str, kinds: tuple[Any, ...]) -> None:
        super().compile(kinds)
        made: Any = self.overloads[kinds]
        for environment in made._find_referenced_environments():
            made.library.codegen.set_env(environment.env_name, environment)
        if not made.library.has_dynamic_globals:  # addresses that only this process knows
            store.keep(name, _dumps(_reduced(made)))

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:  # noqa: ARG002
        """Of numba, asked where compiled code calls: of a kept loop only machine code is left."""
        msg = f"{self._full_name} is a loop: compiled code calls parts"
        raise TypeError(msg)


@cache
def _machine(codegen: Any) -> Any:
    """What machine code is made for; LLVM asks the processor every time."""
    return codegen.magic_tuple()


@contextmanager
def noting() -> Iterator[dict[_Noted, None]]:
    """Run what is not kept in plain Python, and note it instead of compiling it.

    Yields
    ------
    Loops that would have been compiled, with the kinds of their arguments.
    """
    noted: dict[_Noted, None] = {}
    compiling.noted = noted
    try:
        yield noted
    finally:
        compiling.noted = None


def compile_noted(noted: Iterable[_Noted]) -> None:
    """Compile what :func:`noting` gave, that of the most code first.

    Several processes that share the work so end at about the same time.
    """

    def size(each: _Noted) -> int:
        function: Any = each[0].py_func
        return _digest.size(function)

    for one, kinds in sorted(noted, key=size, reverse=True):
        one.compile(kinds)


@contextmanager
def _told(name: str) -> Iterator[None]:
    for listener in compiling.listeners:
        listener(name)
    try:
        yield
    finally:
        for listener in compiling.listeners:
            listener(None)


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
    def _alone(self) -> _Loop:
        allocates = self.targetoptions.get("_nrt", True)
        return _Loop(self.py_func, targetoptions=_options(_LOOP, allocates=allocates))

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run a loop of this function alone: what is compiled as a part Python cannot call."""
        run = self.py_func if _in_python else self._alone
        return run(*args, **named)


def _reduced(made: Any) -> Any:
    """What is kept of a compiled loop: its machine code, without what it was made of.

    numba would keep that, too, to link it into other functions, and read it at every start. It
    only looks for the name of the wrapper in there.
    """
    (name, kind, (code, _)), *rest = made._reduce()
    wrapper = made.fndesc.llvm_cpython_wrapper_name
    names = llvm.parse_assembly(f'define void @"{wrapper}"() {{ ret void }}')
    return (name, kind, (code, names.as_bitcode())), *rest


def _widened(kind: Any) -> Any:
    plain = _TYPES.unliteral(kind)
    is_signed = isinstance(plain, _TYPES.Integer) and plain.signed
    return _TYPES.int64 if is_signed else plain


def _options(options: dict[str, Any], *, allocates: bool) -> dict[str, Any]:
    return options if allocates else options | {"_nrt": False}


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
    compiling.loops.add(f"{function.__module__}.{function.__name__}")
    return _Loop(function, targetoptions=_options(_LOOP, allocates=allocates))


def part(
    function: Callable[..., Any] | None = None, *, allocates: bool = False, inlined: bool = False
) -> Any:
    """Decorator of what loops and other parts call; parameters as of :func:`loop`."""
    if function is None:
        return lambda function: part(function, allocates=allocates, inlined=inlined)
    if _CONFIG.DISABLE_JIT:
        return function
    # Said of the others, too: numba would inline all that it first meets in an inlined one.
    options = _options(_PART, allocates=allocates) | {"forceinline": inlined}
    return _Part(function, targetoptions=options, pipeline_class=PartCompiler)


def piece(function: Callable[..., Any]) -> Any:
    """Decorator of parts that every record runs through: inlined."""
    return part(function, inlined=True)


def instruction(function: Callable[..., Any]) -> Any:
    """Decorator of what makes machine instructions, as numba's `intrinsic` takes it.

    Python has nothing in their place: under NUMBA_DISABLE_JIT whoever calls one is told so.
    """
    return _only_compiled if _CONFIG.DISABLE_JIT else intrinsic(function)


def _only_compiled(*_: Any) -> Any:
    raise HmtraceError(
        "traces are read by compiled loops only, and NUMBA_DISABLE_JIT forbids to compile",
        hint="unset NUMBA_DISABLE_JIT, or give a Parquet or Arrow file: any loop of a replay can "
        "be run by Python",
        exit_code=2,
    )
