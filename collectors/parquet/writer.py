"""Writing an event table to a Parquet file while it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import polars as pl
from polars.io.plugins import register_io_source

from collectors.capture import BATCH_ROWS
from collectors.events import SCHEMA
from collectors.parquet.form import ParquetForm
from collectors.parquet.layout import KEY
from collectors.parquet.metadata import encode
from collectors.table.writer import PartWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_LEVEL: Final = 1
"""zstd level: of 3 and 1, the file differs by 5 %."""


class TableWriter(PartWriter):
    """Writes parts of the event table to a Parquet file, with the document in its metadata.

    Parameters
    ----------
    path
        File to write, replaced where it exists.
    """

    name: ClassVar = "hmtrace-table"

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self._path = path

    @property
    def events(self) -> pl.LazyFrame:
        """The table in the file."""
        return ParquetForm().scan(self._path)

    def _run(self) -> None:
        register_io_source(self._pull, schema=SCHEMA).sink_parquet(
            self._path,
            compression="zstd",
            compression_level=_LEVEL,
            row_group_size=BATCH_ROWS,
            statistics=False,  # a tenth of the time; the reader believes none
            metadata=lambda _: {KEY: self._document()},
        )

    def _document(self) -> str:
        return encode(*self._whole) if self._whole else ""

    def _pull(self, columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        """What polars calls for rows, in a thread of its own."""
        for part in self._coming():
            frame = part if isinstance(part, pl.DataFrame) else part.frame()
            yield frame if columns is None else frame.select(columns)
