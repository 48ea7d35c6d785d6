"""What a compiled loop was made of: a digest of its code and of all that its code refers to.

A loop is compiled together with the parts that it calls and with the constants of their modules. A
kept one may be used again as long as all of these are the same, wherever their files lie and
whatever their time stamps are; and what no part of a loop comes from, a comment included, may
change without its being compiled anew.
"""

from __future__ import annotations

import hashlib
import importlib
import types
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = ("collectors", "replay", "tests")
"""Packages whose modules may change from one run to the next."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic)


class Later:
    """A module that is imported when it is first used."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.module), name)


class CodeDigest:
    """Digests of functions, each computed once."""

    def __init__(self) -> None:
        self._known: dict[types.FunctionType, str] = {}
        self._reached: dict[types.FunctionType, set[types.FunctionType]] = {}
        self._within: list[types.FunctionType] = []

    def of(self, function: types.FunctionType) -> str:
        """Digest of a function and of all functions and constants that it reaches.

        Parameters
        ----------
        function
            Plain Python function, as numba compiles it.

        Returns
        -------
        str
            Hexadecimal SHA-256.
        """
        if self._within:
            self._reached[self._within[-1]].add(function)
        if function in self._known:
            return self._known[function]
        self._known[function] = function.__qualname__  # for one that calls itself
        self._reached[function] = set()
        self._within.append(function)
        text = "\n".join(self._words(function))
        self._within.pop()
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self._known[function] = digest
        return digest

    def size(self, function: types.FunctionType) -> int:
        """Bytes of code of a function and of all functions that it reaches, for comparison."""
        self.of(function)
        found, new = {function}, [function]
        while new:
            inner = self._reached[new.pop()] - found
            found |= inner
            new += inner
        return sum(len(each.__code__.co_code) for each in found)

    def _words(self, function: types.FunctionType) -> Iterator[str]:
        yield from self._code(function.__code__, without=function.__doc__)
        yield self._value(function.__defaults__)
        yield self._value(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            yield self._value(cell.cell_contents)
        space = function.__globals__
        names = _names(function.__code__)
        for name in sorted(names & space.keys()):
            value = space[name]
            yield f"{name} = {self._value(value)}"
            if isinstance(value, types.ModuleType) and value.__name__.split(".")[0] in OURS:
                inside = vars(value)
                yield from (f".{n} = {self._value(inside[n])}" for n in sorted(names & {*inside}))

    def _code(self, code: types.CodeType, *, without: str | None = None) -> Iterator[str]:
        """What code does, without where it stands and what its docstring says."""
        yield code.co_code.hex()
        yield repr((code.co_names, code.co_varnames, code.co_argcount, code.co_flags))
        yield code.co_exceptiontable.hex()
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self._code(constant)
            elif constant is not without:
                yield self._value(constant)

    def _value(self, value: Any) -> str:
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, tuple | list):
            return f"({', '.join(self._value(item) for item in value)})"
        if isinstance(value, dict):
            return f"{{{', '.join(self._value(item) for item in value.items())}}}"
        if isinstance(value, frozenset | set):
            return f"{{{', '.join(sorted(self._value(item) for item in value))}}}"
        if isinstance(value, np.ndarray):
            return f"{value.dtype!r} {value.shape} {value.tobytes().hex()}"
        if isinstance(value, np.dtype):
            return repr(value)
        if isinstance(value, Later):
            return value.module
        if isinstance(value, type):
            return f"{_name(value)} {getattr(value, '_fields', '')}"
        inner = getattr(value, "py_func", None) or value
        if isinstance(inner, types.FunctionType):
            if inner.__module__.split(".")[0] not in OURS:
                return _name(inner)
            return f"{getattr(value, 'targetoptions', '')} {self.of(inner)}"
        return _name(value)


def _names(code: types.CodeType) -> set[str]:
    """Names that code and the functions within it look up: of globals, and of attributes."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _name(value: Any) -> str:
    where = value if hasattr(value, "__name__") else type(value)
    return f"{getattr(where, '__module__', '')}.{getattr(where, '__qualname__', where.__name__)}"
