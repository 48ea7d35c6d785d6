"""Arrow IPC files as another writer than hmtrace's makes them, with hmtrace's document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.arrow.ending import Ending, ended

if TYPE_CHECKING:
    from pathlib import Path


def put_document(path: Path, text: str) -> None:
    """Put a document, of ASCII, into a file that is complete but for it."""
    data = path.read_bytes()
    footer = Ending(memoryview(data)).footer
    path.write_bytes(data[: footer.start] + ended(text, data[footer]))
