"""How loops over arrays are compiled, and loaded. Import only from functions that use them.

A :func:`loop` is what Python calls; it is kept on the disk (:mod:`collectors.compiled.store`) as
long as its code stays the same (:mod:`collectors.compiled.digest`), and run from there by LLVM
alone (:mod:`collectors.compiled.machinecode`): numba is imported where one is compiled
(:mod:`collectors.compiled.making`), and nowhere else. A loop consists of parts: a
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

import os
import warnings
from contextlib import contextmanager
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from collectors import compiling
from collectors.compiled import kinds, store
from collectors.compiled.digest import CodeDigest, Later
from collectors.compiled.machinecode import loader, made_for
from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    _Noted = tuple["_Loop", str]

__all__ = ["compile_noted", "instruction", "ir", "loop", "noting", "part", "piece", "types"]

ir: Any = Later("llvmlite.ir")
"""What makes instructions."""
types: Any = Later("numba.core.types")
"""numba's types."""

_NUMBAS_FILE = ".numba_config.yaml"


def _is_forbidden() -> bool:
    """Whether a user told numba to compile nothing."""
    if "NUMBA_DISABLE_JIT" not in os.environ and not Path(_NUMBAS_FILE).exists():
        return False
    from numba.core import config

    return bool(config.DISABLE_JIT)  # type: ignore[attr-defined]


_FORBIDDEN = _is_forbidden()
if _FORBIDDEN:  # numbers wrap where they are compiled; Python's numpy would remark on it
    warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
_digest = CodeDigest()
_in_python: list[Any] = []
"""Loops that are run as plain Python now, and their parts with them."""
_lock = RLock()
"""Of loading and compiling."""


class _Loop:
    """A function for Python, which is kept on the disk for every kind of its arguments."""

    def __init__(self, function: Callable[..., Any], *, allocates: bool) -> None:
        self.py_func: Any = function
        self.targetoptions = {"allocates": allocates}
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function
        self._ready: dict[Hashable, Callable[..., Any]] = {}
        self._entries: dict[str, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run it, compiled for the kinds of these arguments."""
        if named or len(args) < self.py_func.__code__.co_argcount:
            args = self._all_of(args, named)
        key = tuple([kinds.key(arg) for arg in args])  # a list: this is run at every call
        run = self._ready.get(key)
        if run is None:
            run = self._run_for(args)
            if run is None:
                return self._run_in_python(*args)
            self._ready[key] = run
        return run(*args)

    def _all_of(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        from inspect import signature

        bound = signature(self.py_func).bind(*args, **named)
        bound.apply_defaults()
        return bound.args

    def _run_for(self, args: tuple[Any, ...]) -> Callable[..., Any] | None:
        """What runs arguments of such kinds; None where that is left to Python."""
        told = kinds.words(args)
        with _lock:
            if told not in self._entries and not self._load(told):
                from collectors.compiled.making import types_of

                types = types_of(args)
                if compiling.noted is not None:
                    compiling.noted[self, told] = types
                elif not self.compile(told, types):
                    return None
            return self._entries.get(told)

    def compile(self, told: str, types: tuple[Any, ...]) -> bool:
        """Load it or compile it for kinds of arguments that are new, unless another process does.

        Parameters
        ----------
        told
            The kinds, in words.
        types
            The same, as numba has them.

        Returns
        -------
        Whether it is there.
        """
        waits = compiling.waits
        name = self._kept_as(told)
        with _told(self._full_name), store.claimed(name, wait=waits) as is_ours:
            if is_ours and not self._load(told):
                self._make(told, types)
            return is_ours

    def _run_in_python(self, *args: Any) -> Any:
        _in_python.append(self)
        try:
            return self.py_func(*args)
        finally:
            _in_python.pop()

    def _kept_as(self, told: str) -> str:
        made_of = (_digest.of(self.py_func), told, self.targetoptions, made_for(), _users_wishes())
        return f"{self._full_name}-{sha256(repr(made_of).encode()).hexdigest()[:24]}"

    @property
    def _full_name(self) -> str:
        return f"{self.py_func.__module__}.{self.py_func.__name__}"

    def _load(self, told: str) -> bool:
        """Whether it was kept. What does not fit numba as it is now is compiled anew."""
        content = store.load(self._kept_as(told))
        if content is None:
            return False
        try:
            entry = loader().load(content, self.py_func)
        except Exception:  # of LLVM, of numba's modules, of whatever kind
            return False
        self._note(told, entry)
        return True

    def _make(self, told: str, types: tuple[Any, ...]) -> None:
        from collectors.compiled.making import make

        entry, content = make(self.dispatcher, types)
        if content is not None:
            store.keep(self._kept_as(told), content)
        self._note(told, entry)

    def _note(self, told: str, entry: Callable[..., Any]) -> None:
        self._entries[told] = entry
        compiling.ready.add(self._full_name)

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's form of it."""
        from collectors.compiled.making import loop_dispatcher

        return loop_dispatcher(self.py_func, **self.targetoptions)

    @property
    def _numba_type_(self) -> Any:
        from collectors.compiled.making import type_of_dispatcher

        return type_of_dispatcher(self.dispatcher)


@cache
def _users_wishes() -> tuple[Any, ...]:
    """What a user sets for numba, where code may depend on it."""
    wishes = {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}
    for of_no_matter in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "NUMBA_NUM_THREADS"):
        wishes.pop(of_no_matter, None)
    file = Path(_NUMBAS_FILE)
    return *sorted(wishes.items()), file.read_bytes() if file.is_file() else b""


@contextmanager
def noting() -> Iterator[dict[_Noted, tuple[Any, ...]]]:
    """Run what is not kept in plain Python, and note it instead of compiling it.

    Yields
    ------
    Loops that would have been compiled, with the kinds of their arguments.
    """
    noted: dict[_Noted, tuple[Any, ...]] = {}
    compiling.noted = noted
    try:
        yield noted
    finally:
        compiling.noted = None


def compile_noted(noted: Mapping[_Noted, tuple[Any, ...]], *, least_first: bool = False) -> None:
    """Compile what :func:`noting` gave, that of the most code first, or of the least.

    Several processes that share the work so end at about the same time.
    """

    def size(each: _Noted) -> int:
        return _digest.size(each[0].py_func)

    for one, told in sorted(noted, key=size, reverse=not least_first):
        one.compile(told, noted[one, told])


@contextmanager
def _told(name: str) -> Iterator[None]:
    for listener in compiling.listeners:
        listener(name)
    try:
        yield
    finally:
        for listener in compiling.listeners:
            listener(None)


class _Part:
    """A function for compiled code; Python may call it too, through a loop of its own."""

    def __init__(self, function: Callable[..., Any], *, allocates: bool, inlined: bool) -> None:
        self.py_func: Any = function
        self.targetoptions = {"allocates": allocates, "inlined": inlined}
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function

    @cached_property
    def _alone(self) -> _Loop:
        return _Loop(self.py_func, allocates=self.targetoptions["allocates"])

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run a loop of this function alone: what is compiled as a part Python cannot call."""
        run = self.py_func if _in_python else self._alone
        return run(*args, **named)

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's form of it."""
        from collectors.compiled.making import part_dispatcher

        return part_dispatcher(self.py_func, **self.targetoptions)

    @property
    def _numba_type_(self) -> Any:
        from collectors.compiled.making import type_of_dispatcher

        return type_of_dispatcher(self.dispatcher)


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
    if _FORBIDDEN:
        return function
    compiling.loops.add(f"{function.__module__}.{function.__name__}")
    return _Loop(function, allocates=allocates)


def part(
    function: Callable[..., Any] | None = None, *, allocates: bool = False, inlined: bool = False
) -> Any:
    """Decorator of what loops and other parts call; parameters as of :func:`loop`."""
    if function is None:
        return lambda function: part(function, allocates=allocates, inlined=inlined)
    if _FORBIDDEN:
        return function
    return _Part(function, allocates=allocates, inlined=inlined)


def piece(function: Callable[..., Any]) -> Any:
    """Decorator of parts that every record runs through: inlined."""
    return part(function, inlined=True)


class _Instruction:
    """What makes machine instructions, for compiled code only."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func: Any = function

    @property
    def _numba_type_(self) -> Any:
        from collectors.compiled.making import type_of_instruction

        return type_of_instruction(self.py_func)

    def __call__(self, *_: Any) -> Any:
        """Of Python, under NUMBA_DISABLE_JIT."""
        raise HmtraceError(
            "traces are read by compiled loops only, and NUMBA_DISABLE_JIT forbids to compile",
            hint="unset NUMBA_DISABLE_JIT, or give a Parquet or Arrow file: any loop of a replay "
            "can be run by Python",
            exit_code=2,
        )


def instruction(function: Callable[..., Any]) -> Any:
    """Decorator of what makes machine instructions, as numba's `intrinsic` takes it.

    Python has nothing in their place: under NUMBA_DISABLE_JIT whoever calls one is told so.
    """
    return _Instruction(function)
