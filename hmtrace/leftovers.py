"""Files that are not finished, and what removes them when the process ends in a hurry."""

from __future__ import annotations

import atexit
import faulthandler
import os
from pathlib import Path
from typing import Final

unfinished: Final[set[Path]] = set()
"""Files under construction, beside the place where they will be."""
_PATIENCE: Final = 10
"""Seconds after which the process ends, whatever is left."""


def remove() -> None:
    """Remove what is unfinished and run the exit functions, which remove temporary folders.

    For ends that unwind nothing, as of SIGBUS; of others ``finally`` takes care.
    """
    for path in list(unfinished):
        try:
            os.unlink(path)  # noqa: PTH108 - as little as will do
        except OSError:
            continue
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(_PATIENCE, exit=True, file=nowhere)
        atexit._run_exitfuncs()
