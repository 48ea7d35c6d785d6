"""A private folder for tables that are too large for memory, removed when the process ends."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import count
from pathlib import Path

_NUMBERS = count()


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Folder of this process; Python removes it at exit, also after Ctrl-C."""
    return tempfile.TemporaryDirectory(prefix="hmtrace-", ignore_cleanup_errors=True)


def spool_file(name: str) -> Path:
    """Name for a new file in the folder of this process.

    Parameters
    ----------
    name
        What the file's name ends with.

    Raises
    ------
    OSError
        If there is no room for temporary files.
    """
    return Path(_folder().name) / f"{next(_NUMBERS)}-{name}"
