"""Which files were read: whatever was read for a run is never written by it.

Every file that somebody names, and those beside it, are opened here (tested); who is about to
write asks. A file is known by its device and inode, whatever name leads to it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

_read: dict[tuple[int, int], str] = {}
"""Device and inode of a file, and its name when it was opened."""


def opened(path: Path) -> BufferedReader:
    """Open a file for reading, and remember it.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    file = path.open("rb")
    note(file.fileno(), str(path))
    return file


def note(file: int | Path, name: str) -> None:
    """Remember a file that is read, by its descriptor or path; what is no regular file is none."""
    about = os.stat(file)  # noqa: PTH116 - of a descriptor, too
    if stat.S_ISREG(about.st_mode):
        _read.setdefault((about.st_dev, about.st_ino), name)


def name_of(file: int | Path) -> str | None:
    """Name under which a file was read; None: it was not, or there is none.

    Parameters
    ----------
    file
        Descriptor or path of what is going to be written; links are followed.
    """
    try:
        about = os.stat(file)  # noqa: PTH116 - of a descriptor, too
    except (OSError, ValueError):
        return None
    return _read.get((about.st_dev, about.st_ino)) if stat.S_ISREG(about.st_mode) else None


def forget() -> None:
    """Begin anew: for a program that runs several commands, as numbers of inodes come again."""
    _read.clear()
