"""Tables with a cell for every task that there can be."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PID_LIMIT: Final = 1 << 22
"""PID_MAX_LIMIT (include/linux/threads.h)."""


def table_by_pid() -> NDArray[np.int32]:
    """Make a table of zeros by pid.

    Few of its pages are ever touched. They come from the system one by one: the C library would
    take memory that it has kept, and clear all 16 MB of it each time a trace is opened.

    Returns
    -------
    ndarray of int32, shape (PID_LIMIT,)
    """
    return np.frombuffer(mmap.mmap(-1, PID_LIMIT * np.dtype(np.int32).itemsize), np.int32)
