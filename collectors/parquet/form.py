"""Forms of file that hold an event table and a document."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import polars as pl

from collectors.errors import HmtraceError
from collectors.input.magic import PARQUET
from collectors.parquet.layout import KEY

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class TableForm(ABC):
    """How polars reads an event table, and where the document is."""

    name: ClassVar[str]
    """In words."""
    origin: ClassVar[str]
    """Of captures that are read from such a file: :attr:`collectors.capture.Origin.format`."""
    is_mapped: ClassVar[bool]
    """Whether polars maps a file, so that all that was read of it counts as memory to its end."""

    @abstractmethod
    def document(self, data: NDArray[np.uint8], path: Path) -> str | None:
        """The document in a file, which is looked at as far as polars does not; None: has none.

        Raises
        ------
        HmtraceError, polars.exceptions.PolarsError
            If the file is damaged.
        """

    @abstractmethod
    def scan(self, path: Path) -> pl.LazyFrame:
        """The table in a file."""


class ParquetForm(TableForm):
    """Parquet, with the document in the metadata."""

    name = "Parquet"
    origin = "hmtrace-parquet"
    is_mapped = False

    def document(self, data: NDArray[np.uint8], path: Path) -> str | None:
        """The document among the metadata."""
        if len(data) < 12 or data[-4:].tobytes() != PARQUET:
            raise HmtraceError("the Parquet file ends early: it is truncated")
        return pl.read_parquet_metadata(path).get(KEY)

    def scan(self, path: Path) -> pl.LazyFrame:
        """Leave row groups on the disk until they are asked for."""
        return pl.scan_parquet(path, glob=False, use_statistics=False)
