"""How many threads to read with."""

from __future__ import annotations

import os
from typing import Final

_MOST: Final = 8


def threads() -> int:
    """Threads to work with: as many as there are CPUs that this process may use, at most 8."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST)
    return min(os.cpu_count() or 1, _MOST)
