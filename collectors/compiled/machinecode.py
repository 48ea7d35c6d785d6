"""Machine code of kept loops, made ready to run by LLVM alone.

numba would do it, too, but importing all that it needs to compile takes 0.25 s, a third of a short
report. To run what it compiled a few functions in C suffice: those that its code calls (of
numba's extension modules ``_helperlib``, ``_dynfunc`` and ``_nrt_python``), which are loaded
without the package around them. Whatever does not fit here is compiled anew, and by numba.
"""

from __future__ import annotations

import builtins
import ctypes
import pickle
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import FunctionType, ModuleType


class KeptLoop(NamedTuple):
    """A compiled loop as it is kept."""

    entry: str
    """Symbol of the function that Python calls."""
    code: bytes
    """An object file."""
    needed: tuple[str, ...]
    """Symbols that it needs of others."""
    own: str
    """Symbol of the place of its environment: what numba calls the constants that are Python's."""
    environments: tuple[tuple[str, bytes], ...]
    """Symbols of the places of those of all that is compiled in, with the constants as a pickle;
    empty where there are none."""

    def packed(self) -> bytes:
        """All of it as bytes."""
        return pickle.dumps(tuple(self), protocol=5)


_unpickled: dict[tuple[int, bytes], Any] = {}
_SHA1 = 20


@ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
def _unpickle(place: int, size: int, digest: int) -> Any:
    """What compiled code means by a pickle in it, as the type of arrays: the same at each call.

    In place of ``numba_unpickle`` of numba's ``_helperlib.c``, which imports numba.
    """
    which = place, ctypes.string_at(digest, _SHA1)
    if which not in _unpickled:
        _unpickled[which] = pickle.loads(ctypes.string_at(place, size))
    return _unpickled[which]


class CodeLoader:
    """Code that was loaded into this process, and what it needs."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self._llvm: Any = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module: Any = llvm.parse_assembly("")
        module.triple = llvm.get_process_triple()
        target: Any = llvm.Target.from_triple(module.triple)
        self._engine: Any = llvm.create_mcjit_compiler(module, target.create_target_machine())
        self._functions = self._extension("numba", "_dynfunc")
        self._environments: list[Any] = []
        helpers = self._extension("numba", "_helperlib").c_helpers
        self._define("numba_", helpers | self._functions.c_helpers)
        self._define("numba_", {"unpickle": ctypes.cast(_unpickle, ctypes.c_void_p).value or 0})
        for name, address in self._extension("numba.core.runtime", "_nrt_python").c_helpers.items():
            self._define("" if name.startswith("_") else "NRT_", {name: address})
        self._define("", {"_Py_NoneStruct": id(None)})
        self._define(
            "PyExc_",
            {
                each.__name__: id(each)
                for each in vars(builtins).values()
                if isinstance(each, type) and issubclass(each, BaseException)
            },
        )

    def _define(self, before: str, addresses: dict[str, int]) -> None:
        for name, address in addresses.items():
            self._llvm.add_symbol(before + name, address)

    def _extension(self, package: str, name: str) -> ModuleType:
        """One of numba's modules in C, without the packages that it is in."""
        full = f"{package}.{name}"
        if full in sys.modules:
            return sys.modules[full]
        spec = PathFinder.find_spec(full, [str(numba_folder().joinpath(*package.split(".")[1:]))])
        if spec is None or spec.loader is None:
            raise ImportError(name=full)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[full] = module  # numba itself, should it be imported, uses the same
        return module

    def load(self, content: bytes, function: FunctionType) -> Any:
        """Make a kept loop ready.

        Parameters
        ----------
        content
            What :meth:`KeptLoop.packed` gave.
        function
            What it was compiled from.

        Returns
        -------
        Its entry for Python, by position only.

        Raises
        ------
        Exception
            It does not fit, of whatever kind.
        """
        kept = KeptLoop(*pickle.loads(content))
        missing = [name for name in kept.needed if self._llvm.address_of_symbol(name) is None]
        if missing:
            raise LookupError(missing)
        self._engine.add_object_file(self._llvm.ObjectFileRef.from_data(kept.code))
        self._engine.finalize_object()
        found = {each[0]: self._placed(*each) for each in kept.environments}
        address = self._engine.get_function_address(kept.entry)
        if not address:
            raise LookupError(kept.entry)
        make: Any = self._functions.make_function
        return make(
            sys.modules[function.__module__],
            function.__name__,
            function.__doc__,
            address,
            found[kept.own],
            (self,),
        )

    def _placed(self, symbol: str, constants: bytes) -> Any:
        """An environment, put into its place. Of globals, only code that is not compiled asks."""
        make: Any = self._functions.Environment
        made = make({})
        if constants:
            made.consts[:] = pickle.loads(constants)
        place = self._engine.get_global_value_address(symbol)
        if not place:
            raise LookupError(symbol)
        self._environments.append(made)  # the code does not count it
        ctypes.c_void_p.from_address(place).value = id(made)
        return made


@cache
def loader() -> CodeLoader:
    """Of this process."""
    return CodeLoader()


@cache
def numba_folder() -> Path:
    """Where numba lies, without importing it."""
    spec = find_spec("numba")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(name="numba")
    return Path(spec.submodule_search_locations[0])


@cache
def made_for() -> tuple[Any, ...]:
    """What compiled code depends on besides its source.

    How we have numba compile, numba, LLVM, Python, and the processor.
    """
    import llvmlite
    import llvmlite.binding as llvm

    try:
        features: str = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know those of this machine
        features = ""
    return (
        "indices as they are",  # changed where :mod:`collectors.compiled.making` is
        (numba_folder() / "_version.py").read_text(encoding="utf-8"),
        llvmlite.__version__,
        sys.implementation.cache_tag,
        (llvm.get_process_triple(), llvm.get_host_cpu_name(), features),
    )
