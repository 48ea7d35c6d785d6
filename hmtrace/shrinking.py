"""What happens when a file gets shorter while it is read.

Traces are mapped, not copied: they may be larger than the memory. When a file is cut while it is
mapped, reading behind its new end is no error that Python sees but a signal, SIGBUS, which ends
the process without a word. The handler here says what happened before it does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

from hmtrace import leftovers

EXIT_DAMAGED: Final = 3
MESSAGE: Final = (
    b"hmtrace: the file became shorter while it was read, or its disk failed\n"
    b"  hint: copy it first, and read the copy\n"
)

_installed: list[object] = []  # keeps the C function alive


def explain_bus_errors() -> None:
    """Install the handler for SIGBUS, once.

    A handler of Python's signal module would not do: it runs only after the machine instruction
    that failed, which would be tried again for ever. This one runs at once, in the thread that
    met the end of the file, and never returns.
    """
    if _installed:
        return
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_leave)
    install = ctypes.CDLL(None).signal
    install.argtypes = [ctypes.c_int, type(handler)]
    install.restype = ctypes.c_void_p
    install(signal.SIGBUS, handler)
    _installed.append(handler)


def _leave(_number: int) -> NoReturn:
    try:
        # Descriptor 2 may be closed to a library's own words (hmtrace.cli.quiet).
        os.write(sys.stderr.fileno(), MESSAGE)
        leftovers.remove()
    finally:
        os._exit(EXIT_DAMAGED)
