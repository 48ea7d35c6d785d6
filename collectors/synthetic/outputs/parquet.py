"""A synthetic trace as the event table, with the machine's facts in the metadata."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from collectors.capture import Origin
from collectors.parquet.layout import SYNTHETIC

if TYPE_CHECKING:
    from pathlib import Path


def write_parquet(folder: Path, target: Path, name: str) -> None:
    """Write the capture of a folder as one Parquet file.

    The table is what the project's own reader makes of the trace, so it is the same whatever
    format a synthetic trace has.

    Parameters
    ----------
    folder
        Trace and machine's files.
    target
        File to write.
    name
        Of the scenario, as where the trace comes from.
    """
    from collectors import open_capture
    from collectors.parquet.writer import TableWriter
    from collectors.table.writer import write_capture

    capture = open_capture(folder)
    origin = Origin(name, name, SYNTHETIC, capture.origin.bytes)
    write_capture(replace(capture, origin=origin), TableWriter(target))
