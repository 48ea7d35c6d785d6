"""Parts of loops: compiled code that is linked into a loop, and turned into machine code there.

By itself numba optimises and assembles every function that it compiles, with all that it calls
inlined, and does so again in each caller: a third of the compile time, for code that is never run.
Here a part ends as what LLVM is given; its loop is optimised once, as a whole.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _NoEngine:
    """Stands for the code generator where a part would be given its place in memory."""

    def set_env(self, name: str, environment: Any) -> None:
        """Part of numba's protocol: the loop's places are set when it is compiled."""


class PartLibrary(JITCodeLibrary):
    """Intermediate code of a part and of what it calls."""

    codegen: Any = property(lambda _: _NoEngine())

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002
        """Null: there is no machine code that could be called."""
        return 0

    def _optimize_final_module(self) -> None:
        return

    def _finalize_final_module(self) -> None:
        note_globals: Any = self._finalize_dynamic_globals
        note_globals()
        self._finalized = True


class PartCompiler(Compiler):
    """numba's compiler, into a :class:`PartLibrary`."""

    def __init__(
        self,
        typingctx: Any,
        targetctx: Any,
        library: Any,
        args: Any,
        return_type: Any,
        flags: Any,
        locals: Any,  # noqa: A002  (numba's name)
    ) -> None:
        if library is None:
            new_library: Any = PartLibrary
            library = new_library(targetctx.codegen(), "part")
            library.enable_object_caching()
        begin: Any = super().__init__
        begin(typingctx, targetctx, library, args, return_type, flags, locals)
