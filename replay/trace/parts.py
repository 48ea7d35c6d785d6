"""Tables of a workload: in memory while they are small, else as files in a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from collectors.errors import HmtraceError
from replay.trace import spool

if TYPE_CHECKING:
    import numpy as np

IN_MEMORY: Final = 1 << 25
"""Bytes of tables that are kept in memory where no folder is given."""

_SMALL: Final = 1 << 16
"""Bytes of a file up to which its table is kept once it was read: opening it takes longest."""
_FEW: Final = 256
"""So many of them are kept."""
_SHARES: Final = 8
"""Columns that share what is kept in memory of them."""


class Parts:
    """Tables by name, and columns that are too long for one.

    Tables are Arrow files; columns are plain numbers, to be mapped.

    Parameters
    ----------
    folder
        Where to write them, each at once; None: in a temporary folder what is beyond
        :data:`IN_MEMORY`. A folder that cannot be written is done without.

    Attributes
    ----------
    files
        Name to file of those that are written.
    is_whole
        Whether all of them are in the folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.files: dict[str, Path] = {}
        self.is_whole = folder is not None
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._here: dict[str, pl.DataFrame] = {}
        self._read: dict[str, pl.DataFrame] = {}
        self._columns: dict[str, spool.SpooledRows] = {}
        self._bytes = 0

    @classmethod
    def of(cls, folder: Path, files: list[str]) -> Parts:
        """Tables and columns that were written before, in files of these names."""
        parts = cls(folder)
        parts.files = {Path(name).stem: folder / Path(name).name for name in files}
        return parts

    def column(self, name: str, dtype: np.dtype[Any]) -> spool.SpooledRows:
        """A column: a new one to be filled, or one that was written before.

        Raises
        ------
        OSError
            If that cannot be read.
        """
        if name not in self._columns:
            if name in self.files:
                self._columns[name] = spool.SpooledRows.of(self.files[name], dtype)
            else:
                path = None if self._folder is None else self._folder / f"{name}.bin"
                few = spool.IN_MEMORY // _SHARES
                self._columns[name] = spool.SpooledRows(dtype, few, path)
        return self._columns[name]

    def finish(self) -> None:
        """Write what of the columns is not in the folder yet."""
        for name, column in self._columns.items():
            column.finish()
            if column.path is None:
                self.is_whole = False
            else:
                self.files[name] = column.path

    def move_to(self, folder: Path) -> None:
        """Look for what was written in another folder from now on: this one has its name now."""
        self._folder = folder
        self.files = {name: folder / path.name for name, path in self.files.items()}

    def put(self, name: str, table: pl.DataFrame) -> None:
        """Add a table.

        Raises
        ------
        HmtraceError
            If there is no room for it anywhere.
        """
        if self.is_whole and self._folder is not None:
            try:
                self._write(self._folder, name, table)
            except OSError:
                self.is_whole = False
            else:
                return
        self._bytes += int(table.estimated_size())
        if self._bytes <= IN_MEMORY:
            self._here[name] = table
            return
        try:
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(
                    prefix="hmtrace-", ignore_cleanup_errors=True
                )
            self._write(Path(self._temporary.name), name, table)
        except OSError as error:
            msg = f"no room for temporary files: {error.strerror or error}"
            raise HmtraceError(msg, hint="TMPDIR names the folder for them") from error

    def _write(self, folder: Path, name: str, table: pl.DataFrame) -> None:
        path = folder / f"{name}.arrow"
        with path.open("wb") as file:  # polars raises no OSError where it opens files itself
            table.write_ipc(file, compression="lz4")
        self.files[name] = path
        self._read.pop(name, None)

    def names(self) -> set[str]:
        """Names of all tables and columns."""
        return {*self._here, *self._columns, *self.files}

    def get(self, name: str) -> pl.DataFrame:
        """A table of this name."""
        if name in self._here:
            return self._here[name]
        if name in self._read:
            return self._read[name]
        path = self.files[name]
        table = pl.read_ipc(path)
        if path.stat().st_size <= _SMALL and len(self._read) < _FEW:
            self._read[name] = table
        return table

    def drop(self, prefix: str) -> None:
        """Forget the tables and columns whose names begin so."""
        for name in [n for n in self._columns if n.startswith(prefix)]:
            path = self._columns.pop(name).path
            if path is not None:
                path.unlink(missing_ok=True)
        for name in [n for n in (*self._here, *self.files) if n.startswith(prefix)]:
            self._here.pop(name, None)
            self._read.pop(name, None)
            path = self.files.pop(name, None)
            if path is not None:
                path.unlink(missing_ok=True)
