"""What hmtrace's Parquet files are: the event table, and one JSON document in the metadata."""

from __future__ import annotations

from typing import Final

KEY: Final = "hmtrace"
"""Key of the document among the file's key-value metadata."""
SCHEMA_NAME: Final = "hmtrace/parquet/1"
"""Value of ``schema`` in the document; the number changes when a reader would misunderstand."""
SYNTHETIC: Final = "synthetic"
"""Origin's format of a file that `hmtrace synth` made: it stays so when the file is read."""
