"""How loops are compiled, by numba. Import only where one has to be."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from numba import typeof
from numba.core import serialize, types
from numba.core.registry import CPUDispatcher, cpu_target
from numba.extending import intrinsic

from collectors.compiled.indices import leave_indices
from collectors.compiled.linked import PartCompiler
from collectors.compiled.machinecode import KeptLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# numba is annotated in part only.
_TYPES: Any = types
_typeof: Any = typeof
_dumps: Any = serialize.dumps
_LOOP: dict[str, Any] = {"nopython": True, "nogil": True, "boundscheck": None}
# The wrappers, for calls from Python and from C, would take a third of the compile time.
_PART: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_LOOP}


leave_indices()


class LoopDispatcher(CPUDispatcher):
    """numba's form of a loop."""

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:  # noqa: ARG002
        """Of numba, asked where compiled code calls: of a kept loop only machine code is left."""
        function: Any = self.py_func
        msg = f"{function.__module__}.{function.__name__} is a loop: compiled code calls parts"
        raise TypeError(msg)


class PartDispatcher(CPUDispatcher):
    """numba's form of a part.

    It is compiled once, not anew for every width of its integers: a constant, an int32 from a
    column and an int64 all arrive as int64. Unsigned integers stay what they are.
    """

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:
        """Of numba, asked where compiled code calls: which compiled form is to be taken."""
        named = {name: _widened(kind) for name, kind in dict(kws).items()}
        return super().get_call_template([_widened(kind) for kind in args], named)


def _widened(kind: Any) -> Any:
    plain = _TYPES.unliteral(kind)
    is_signed = isinstance(plain, _TYPES.Integer) and plain.signed
    return _TYPES.int64 if is_signed else plain


def loop_dispatcher(function: Callable[..., Any], *, allocates: bool) -> Any:
    """Make numba's form of a loop."""
    return LoopDispatcher(function, targetoptions=_options(_LOOP, allocates=allocates))


def part_dispatcher(function: Callable[..., Any], *, allocates: bool, inlined: bool) -> Any:
    """Make numba's form of a part."""
    # Said of the others, too: numba would inline all that it first meets in an inlined one.
    options = _options(_PART, allocates=allocates) | {"forceinline": inlined}
    return PartDispatcher(function, targetoptions=options, pipeline_class=PartCompiler)


def _options(options: dict[str, Any], *, allocates: bool) -> dict[str, Any]:
    return options if allocates else options | {"_nrt": False}


def types_of(values: Iterable[Any]) -> tuple[Any, ...]:
    """What numba takes arguments for."""
    return tuple(_typeof(value) for value in values)


def type_of_dispatcher(dispatcher: Any) -> Any:
    """What numba takes a loop or a part for that compiled code names."""
    return _TYPES.Dispatcher(dispatcher)


@cache
def type_of_instruction(function: Callable[..., Any]) -> Any:
    """What numba takes an instruction for that compiled code names."""
    made: Any = intrinsic(function)
    context: Any = cpu_target.typing_context
    context.refresh()  # takes note of it
    return context.resolve_value_type(made)


def make(dispatcher: Any, kinds: tuple[Any, ...]) -> tuple[Any, bytes | None]:
    """Compile a loop.

    Parameters
    ----------
    dispatcher
        Of :func:`loop_dispatcher`.
    kinds
        Of its arguments, as numba has them.

    Returns
    -------
    Its entry for Python, and what is to be kept of it; None of what cannot be.
    """
    dispatcher.compile(kinds)
    made = dispatcher.overloads[kinds]
    for environment in made._find_referenced_environments():
        made.library.codegen.set_env(environment.env_name, environment)
    is_lasting = not made.library.has_dynamic_globals  # addresses that only this process knows
    return made.entry_point, _kept(made).packed() if is_lasting else None


def _kept(made: Any) -> KeptLoop:
    """What is kept of a compiled loop: its machine code, without what it was made of."""
    (_, _, (code, _)), *_ = made._reduce()
    environments = {each.env_name: each for each in made._find_referenced_environments()}
    environments[made.fndesc.env_name] = made.environment
    return KeptLoop(
        entry=made.fndesc.llvm_cpython_wrapper_name,
        code=code,
        needed=tuple(_needed(made.library._final_module)),
        own=made.fndesc.env_name,
        environments=tuple(
            (name, _dumps(list(each.consts)) if each.consts else b"")
            for name, each in environments.items()
        ),
    )


def _needed(module: Any) -> list[str]:
    """Symbols that a compiled module leaves to others; LLVM's own are no symbols."""
    return [
        each.name
        for each in (*module.functions, *module.global_variables)
        if each.is_declaration and not each.name.startswith("llvm.")
    ]
