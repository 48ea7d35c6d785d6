"""Writing an event table to a file while it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
from polars.io.plugins import register_io_source

from collectors.events import SCHEMA
from collectors.parquet.form import ParquetForm, TableForm
from collectors.parquet.metadata import encode
from collectors.table.writer import PartWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TableWriter(PartWriter):
    """Writes parts of the event table to a file.

    Parameters
    ----------
    path
        File to write, replaced where it exists.
    form
        Its form; without one Parquet.
    """

    name: ClassVar = "hmtrace-table"

    def __init__(self, path: Path, form: TableForm | None = None) -> None:
        super().__init__(path.parent)
        self._path = path
        self._form = form or ParquetForm()

    @property
    def events(self) -> pl.LazyFrame:
        """The table in the file."""
        return self._form.scan(self._path)

    def _run(self) -> None:
        table = register_io_source(self._pull, schema=SCHEMA)
        self._form.write(table, self._path, self._document)

    def _document(self) -> str:
        return encode(*self._whole) if self._whole else ""

    def _pull(self, columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        """What polars calls for rows, in a thread of its own."""
        for part in self._coming():
            frame = part if isinstance(part, pl.DataFrame) else part.frame()
            yield frame if columns is None else frame.select(columns)
