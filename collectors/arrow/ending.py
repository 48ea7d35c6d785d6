"""The end of an Arrow IPC file: the footer, and before it what hmtrace adds.

Readers find every piece of the table by the footer's positions: what lies between the last of them
and the footer is nobody's, and holds the document.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from collectors.input.magic import ARROW

if TYPE_CHECKING:
    from pathlib import Path

_TAIL: Final = struct.Struct("<i6s")
"""Behind the footer: how long it is, and what the file is."""
_MAGIC: Final = ARROW.rstrip(b"\0")
_MARK: Final = struct.Struct("<Q8s")
"""Behind the document: how long it is, and whose."""
_OURS: Final = b"hmtrace\n"


class Ending:
    """Where the footer and the document of a file are.

    Parameters
    ----------
    data
        The file.

    Attributes
    ----------
    footer
        Slice of the footer.

    Raises
    ------
    HmtraceError
        If the file is truncated, or damaged at its end.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        end = len(data) - _TAIL.size
        if end < len(ARROW):
            raise HmtraceError("the Arrow file ends early: it is truncated")
        length, magic = _TAIL.unpack_from(data, end)
        if magic != _MAGIC:
            raise HmtraceError("the Arrow file ends early: it is truncated")
        if not 0 < length <= end - len(ARROW):
            raise HmtraceError("damaged Arrow file: its footer is longer than the file", offset=end)
        self.footer = slice(end - length, end)

    def document(self) -> str | None:
        """The document; None in a file of another program.

        Raises
        ------
        HmtraceError
            If it is damaged.
        """
        end = self.footer.start - _MARK.size
        if end < 0:
            return None
        length, whose = _MARK.unpack_from(self._data, end)
        if whose != _OURS:
            return None
        if length > end:
            raise HmtraceError("damaged Arrow file: its facts are longer than the file", offset=end)
        try:
            return bytes(self._data[end - length : end]).decode("ascii")
        except UnicodeDecodeError:
            raise HmtraceError("damaged Arrow file: its facts are no text", offset=end) from None


def put_document(path: Path, text: str) -> None:
    """Put a document, of ASCII, into a file that is complete but for it.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with path.open("r+b") as file:
        file.seek(-_TAIL.size, os.SEEK_END)
        length, _ = _TAIL.unpack(file.read())
        at = file.seek(-_TAIL.size - length, os.SEEK_END)
        footer = file.read()
        file.seek(at)
        file.write(text.encode("ascii") + _MARK.pack(len(text), _OURS) + footer)
