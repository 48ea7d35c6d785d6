"""What versions before 0.1.0 kept: numba's own files, in a folder for every state of the source."""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

UNUSED: Final = 7 * 86400
"""Seconds since its last run after which a version is not used any more: each run touched it."""
_FOLDER: Final = re.compile(r"[0-9a-f]{16}")
_FILE: Final = re.compile(r"[^/]{1,200}\.(nbi|nbc)(\.tmp\.[0-9a-f]{1,32})?")


@functools.cache
def remove_former(base: Path) -> None:
    """Remove the folders of versions that are not used any more, once in a process.

    Whatever has another name, is a link, belongs to somebody else, was open to others or holds
    anything but numba's files stays.

    Parameters
    ----------
    base
        Folder that is known to be ours, and closed to others.
    """
    with suppress(OSError):
        for entry in list(os.scandir(base)):
            if _FOLDER.fullmatch(entry.name) and _is_left(entry) and _holds_loops(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_left(entry: os.DirEntry[str]) -> bool:
    seen = entry.stat(follow_symlinks=False)
    return (
        stat.S_ISDIR(seen.st_mode)
        and seen.st_uid == os.getuid()
        and not seen.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        and time.time() - seen.st_mtime > UNUSED
    )


def _holds_loops(folder: str) -> bool:
    """Whether there is nothing below but folders and numba's files."""
    return all(
        not os.path.islink(os.path.join(place, name))  # noqa: PTH114, PTH118
        and (name in folders or _FILE.fullmatch(name))
        for place, folders, files in os.walk(folder, onerror=_fail)
        for name in (*folders, *files)
    )


def _fail(error: OSError) -> None:
    raise error
