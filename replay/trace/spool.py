"""Rows of numbers that are too many for memory: a temporary file, mapped where it is looked at."""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from typing import IO

    from numpy.typing import NDArray

IN_MEMORY: Final = 1 << 25
"""Bytes up to which no file is needed."""


class SpooledRows:
    """Rows that are written one behind the other, and read and corrected anywhere.

    Parameters
    ----------
    dtype
        Of a row, a structure.
    in_memory
        Bytes up to which no file is needed; None: :data:`IN_MEMORY`.
    """

    def __init__(self, dtype: np.dtype[np.void], in_memory: int | None = None) -> None:
        self.count = 0
        self._in_memory = IN_MEMORY if in_memory is None else in_memory
        self._dtype = dtype
        self._rows = np.zeros(0, dtype)  # those in memory, with room for more
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None

    def append(self, rows: NDArray[np.void]) -> None:
        """Add rows at the end.

        Raises
        ------
        HmtraceError
            If there is no room for a temporary file.
        """
        if not rows.size:
            return
        until = self.count + rows.size
        if self._file is None and until * self._dtype.itemsize <= self._in_memory:
            if until > self._rows.size:
                self._rows = np.concatenate([self._rows, np.zeros(2 * until, self._dtype)])
            self._rows[self.count : until] = rows
        else:
            self._write(rows)
        self.count = until

    def _write(self, rows: NDArray[np.void]) -> None:
        self._map = None  # of another length from now on
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="hmtrace-")  # noqa: SIM115
                self._file.write(self._rows[: self.count].tobytes())
                self._rows = self._rows[:0]
            self._file.write(rows.tobytes())
            self._file.flush()
        except OSError as error:
            msg = f"no room for temporary files: {error.strerror or error}"
            raise HmtraceError(msg, hint="TMPDIR names the folder for them") from error

    def view(self) -> NDArray[np.void]:
        """All rows; what is written into them stays. Good until the next :meth:`append`."""
        if self._file is None:
            return self._rows[: self.count]
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), 0)
        return np.frombuffer(self._map, self._dtype)

    def release(self) -> None:
        """Let the system have the memory of rows that were looked at; the file keeps them."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
