"""Arrow IPC files, as a form of file that the reader of Parquet files serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from collectors.arrow import headers
from collectors.arrow.ending import Ending
from collectors.parquet.form import TableForm

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class ArrowForm(TableForm):
    """Arrow IPC under LZ4: a sixth of the plain table."""

    name = "Arrow"
    origin = "hmtrace-arrow"
    is_mapped = True

    def document(self, data: NDArray[np.uint8], path: Path) -> str | None:  # noqa: ARG002
        """The document, once the headers are known to be bounded."""
        whole = data.data
        ending = Ending(whole)
        text = ending.document()
        if text is not None:
            headers.check(whole, ending.footer)
        return text

    def scan(self, path: Path) -> pl.LazyFrame:
        """Leave batches on the disk until they are asked for."""
        return pl.scan_ipc(path, glob=False)
