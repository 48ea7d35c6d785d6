"""The program without its start: for tests that ask only what it prints, many times.

A process of ``python -m hmtrace`` spends most of its time importing. Here one process per worker
(:mod:`tests.warm.__main__`) has imported all of it, and forks for every command. :func:`program`
is put where ``python -m hmtrace`` would stand, in a shell's pipe too: a client that is there in
some milliseconds (``client.py``) hands over its words, folder, environment and first three
descriptors, and ends as the command does.

What differs: signals that the client gets do not reach the command; its limits, its umask, its
terminal's control and what Python reads as it starts (``PYTHON…``, the locale) are the server's.
Tests of these, and of starting, run the real program, as does tests/test_warm.py beside this one.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:10000,background_thread:false",
}
"""As the program has them, and no thread of polars' allocator: none may be there at a fork."""


@cache
def program() -> list[str]:
    """Words that run the program, up to its arguments; the server is started at the first call."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    place = str(Path(folder.name) / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen(64)  # who comes before it is ready waits
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(listening.fileno())],
            cwd=HERE.parents[1],
            env=os.environ | SETTINGS,
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def end() -> None:
        server.communicate()  # its input ends with this process, whatever happens
        folder.cleanup()

    atexit.register(end)
    return [sys.executable, "-S", "-E", str(HERE / "client.py"), place]


def program_with(variables: Mapping[str, str]) -> list[str]:
    """The same, or the real program if one of `variables` is what Python reads as it starts."""
    at_start = {"LC_ALL", "PYTHONIOENCODING"} & variables.keys()
    return [sys.executable, "-m", "hmtrace"] if at_start else program()
