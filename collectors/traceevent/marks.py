"""Markers: what user space wrote into the trace (tracefs ``trace_marker``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.probes import KIND_MARK, KIND_OTHER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.input.source import Source

MAX_MARKS: Final = 4096
"""Markers that are kept, the first of a trace."""
MAX_LENGTH: Final = 256
"""Bytes of a marker that are kept."""
_FIELDS: Final = re.compile(r"^print:\s+ip=(\S+)(?: \(\d+\))? buf=")
"""trace-cmd report -R, and option ``fields``, of which older kernels show the address only."""
_MARKER: Final = "tracing_mark_write"
_PREFIX: Final = re.compile(r"^(print:\s*)?(tracing_mark_write(\+\S+)?:\s*)?")


def find_marks(rows: NDArray[np.void], source: Source, found: list[str]) -> None:
    """Take the texts of the first markers out of a text.

    Parameters
    ----------
    rows
        Raw events. Values 0 and 1 of a marker's row are place and length of its text; value 0
        becomes its number, where it is kept. Rows of ``print`` that trace_printk() made become
        KIND_OTHER.
    source
        The text.
    found
        Markers so far (``RawEvents.marks``); added to.
    """
    marks = np.flatnonzero(rows["kind"] == KIND_MARK)
    places = rows["values"][marks, :2].tolist()
    rows["values"][marks] = 0
    rows["present"][marks] = 0
    for row, (at, size) in zip(marks.tolist(), places, strict=True):
        if len(found) >= MAX_MARKS:
            break
        data = source.data[at : at + min(size, MAX_LENGTH + 64)].tobytes()
        text = data.decode("utf-8", "replace")
        match = _FIELDS.match(text)
        if match is None:
            match = _PREFIX.match(text)
            printed = match is not None and match[1] and not match[2]
        else:
            printed = not _is_marker(match[1], source)
        if printed:
            rows["kind"][row] = KIND_OTHER
            continue
        rows["values"][row, 0], rows["present"][row] = len(found), 1
        start = match.end() if match else 0
        found.append(text[start : start + MAX_LENGTH].strip())


def _is_marker(place: str, source: Source) -> bool:
    """Whether a text was written from tracing_mark_write(), not by trace_printk(), if known."""
    from collectors.symbols.table import Symbols

    if place.startswith("0x"):
        symbols = Symbols.from_kallsyms(source.read_meta("kallsyms") or b"")
        place = symbols.lookup(int(place[2:18], 16)) or _MARKER
    return place.partition("+")[0] == _MARKER
