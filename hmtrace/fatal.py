"""What happens when a file that is read makes a signal that ends the process.

Traces are mapped, not copied: they may be larger than the memory. When a file is cut while it is
mapped, reading behind its new end is no error that Python sees but SIGBUS. And polars ends the
process by SIGABRT where it asks for memory that nobody has: a damaged Parquet file of some KiB may
claim a run of 10**18 values. The handler here says what happened before the process ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

from hmtrace import leftovers

EXIT_DAMAGED: Final = 3
MESSAGES: Final = {
    signal.SIGBUS: (
        b": the file became shorter while it was read, or its disk failed\n"
        b"  hint: copy it first, and read the copy\n"
    ),
    signal.SIGABRT: (
        b": reading takes more memory than there is: damaged, or too large for this machine\n"
        b"  hint: copy the file again, or convert the trace again\n"
    ),
}

_installed: list[object] = []  # keeps the C function alive
_reading: list[bytes] = []  # what was opened last


def explain_fatal_signals(path: str) -> None:
    """Install the handler, once, and note what is read.

    A handler of Python's signal module would not do: it runs only after the machine instruction
    that failed, which would be tried again for ever. This one runs at once, in the thread that
    met the end of the file or was refused the memory, and never returns.

    Parameters
    ----------
    path
        Of the capture, for the message.
    """
    from hmtrace.report.text import clean

    _reading[:] = [clean(path).encode(errors="replace")]
    if _installed:
        return
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_leave)
    install = ctypes.CDLL(None).signal
    install.argtypes = [ctypes.c_int, type(handler)]
    install.restype = ctypes.c_void_p
    for number in MESSAGES:
        install(number, handler)
    _installed.append(handler)


def _leave(number: int) -> NoReturn:
    try:
        # Descriptor 2 may be closed to a library's own words (hmtrace.cli.quiet).
        os.write(sys.stderr.fileno(), b"hmtrace: " + _reading[0] + MESSAGES[signal.Signals(number)])
        leftovers.remove()
    finally:
        os._exit(EXIT_DAMAGED)
