"""What hmtrace's Parquet files are: the event table, and one JSON document in the metadata."""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"PAR1"
KEY: Final = "hmtrace"
"""Key of the document among the file's key-value metadata."""
CHECKSUMS_KEY: Final = "hmtrace checksums"
"""Key of a JSON list of (begin, end, CRC-32) of every row group's bytes."""
ARROW_KEY: Final = "ARROW:schema"
"""Key under which Arrow's libraries, and polars, look for their own types."""
AUTHOR: Final = "hmtrace"
SCHEMA_NAME: Final = "hmtrace/parquet/1"
"""Value of ``schema`` in the document; the number changes when a reader would misunderstand."""
SYNTHETIC: Final = "synthetic"
"""Origin's format of a file that `hmtrace synth` made: it stays so when the file is read."""
FULL: Final = ("seq", "ts", "cpu", "ctx", "op", "entry_traced")
"""Columns that are never null."""
