"""How the C library keeps memory that was used once, for the large arrays of a trace's windows.

By default it gives a large array's pages back to the system when the array goes, and every thread
keeps free memory of its own; a replay takes the same few sizes again and again, and would spend a
tenth of its time on pages that the system clears for it.
"""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Numbers of the settings (mallopt(3), GNU C library)."""
_LARGE: Final = 1 << 25
"""Bytes from which an array has pages of its own: with more, what is free lies scattered."""
_KEPT: Final = 1 << 26
"""Free bytes at the end of the heap that are kept."""


def keep_freed_memory() -> None:
    """Use freed memory again, whichever thread had it; other C libraries are left alone."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    if not mallopt(_ARENA_MAX, 1):
        return
    if mallopt(_MMAP_THRESHOLD, _LARGE):
        mallopt(_TRIM_THRESHOLD, _KEPT)
