"""Giving back the memory of what was read of a mapped file."""

from __future__ import annotations

import mmap

import numpy as np


class Mapped:
    """A mapped file, of which pages that were used count as the process's own memory.

    Parameters
    ----------
    data
        The bytes: all of the mapping. Where they are something else nothing is given back, as that
        would lose them.
    """

    def __init__(self, data: object) -> None:
        size = len(data) if isinstance(data, (memoryview, np.ndarray)) else -1
        owner: object = data
        while not isinstance(owner, mmap.mmap) and owner is not None:
            if isinstance(owner, memoryview):
                owner = owner.obj
            elif isinstance(owner, np.ndarray):
                owner = owner.base
            else:
                owner = None
        self._mapping = owner if owner is not None and len(owner) == size else None

    def forget(self, end: int, begin: int = 0) -> None:
        """Let the system take back the pages between two places.

        They are read again where they are looked at again.
        """
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if self._mapping is not None and length > 0:
            self._mapping.madvise(mmap.MADV_DONTNEED, first, length)
