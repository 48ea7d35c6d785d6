"""Rows of numbers that are too many for memory: a file, mapped where it is looked at."""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO, Self

    from numpy.typing import NDArray

IN_MEMORY: Final = 1 << 25
"""Bytes up to which no file is needed."""


class SpooledRows:
    """Rows that are written one behind the other, and read and corrected anywhere.

    Parameters
    ----------
    dtype
        Of a row.
    in_memory
        Bytes up to which no file is needed; None: :data:`IN_MEMORY`.
    path
        File to write; None: a temporary one. One that cannot be written is done without.

    Attributes
    ----------
    count
        Rows so far.
    path
        The file, as far as it can be written.
    """

    def __init__(
        self, dtype: np.dtype[Any], in_memory: int | None = None, path: Path | None = None
    ) -> None:
        self.count = 0
        self.path = path
        self._in_memory = IN_MEMORY if in_memory is None else in_memory
        self._dtype = dtype
        self._rows = np.zeros(0, dtype)  # those in memory, with room for more
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None

    @classmethod
    def of(cls, path: Path, dtype: np.dtype[Any]) -> Self:
        """Rows of a file that was written before; what is corrected in them does not get there.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        rows = cls(dtype, path=path)
        with path.open("rb") as file:
            rows.count = file.seek(0, 2) // dtype.itemsize
            if rows.count:
                rows._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return rows

    def append(self, rows: NDArray[Any]) -> None:
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
                larger = np.empty(max(until, 2 * self._rows.size), self._dtype)
                larger[: self.count] = self._rows[: self.count]
                self._rows = larger
            self._rows[self.count : until] = rows
        else:
            self._write(np.ascontiguousarray(rows, self._dtype))
        self.count = until

    def finish(self) -> None:
        """Write what is still in memory to the file that was named, if that can be."""
        if self.path is not None and self._file is None:
            try:
                self.path.write_bytes(self._rows[: self.count].tobytes())
            except OSError:
                self.path = None

    def _write(self, rows: NDArray[Any]) -> None:
        self._map = None  # of another length from now on
        try:
            if self._file is None:
                self._begin(self._rows[: self.count])
            _write_all(self._file, rows)
        except OSError as error:
            if self.path is not None:
                self._leave_path(rows)
                return
            msg = f"no room for temporary files: {error.strerror or error}"
            raise HmtraceError(msg, hint="TMPDIR names the folder for them") from error

    def _begin(self, rows: NDArray[Any]) -> None:
        """Open a file and write these rows."""
        if self.path is None:
            self._file = tempfile.TemporaryFile(prefix="hmtrace-", buffering=0)  # noqa: SIM115
        else:
            self._file = self.path.open("w+b", buffering=0)
        _write_all(self._file, rows)
        self._rows = self._rows[:0]

    def _leave_path(self, more: NDArray[Any]) -> None:
        """Go on in a temporary file, with these rows."""
        rows = self._rows[: self.count]
        if not rows.size and self._file is not None:
            self._file.seek(0)
            rows = np.frombuffer(self._file.read(self.count * self._dtype.itemsize), self._dtype)
        self.path = self._file = None
        self._rows = rows
        self._write(more)

    def view(self) -> NDArray[Any]:
        """All rows; what is written into them stays. Good until the next :meth:`append`."""
        if self._file is not None and self._map is None:
            self._map = mmap.mmap(self._file.fileno(), 0)
        if self._map is None:
            return self._rows[: self.count]
        return np.frombuffer(self._map, self._dtype)

    def release(self) -> None:
        """Let the system have the memory of rows that were looked at; the file keeps them."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def _write_all(file: IO[bytes] | None, rows: NDArray[Any]) -> None:
    assert file is not None  # has been opened
    left = memoryview(rows.view(np.uint8).data if rows.size else b"")
    while left:
        left = left[file.write(left) :]
