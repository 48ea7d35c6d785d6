"""The end of an Arrow IPC file: the footer, and before it what hmtrace adds.

Readers find every piece of the table by the footer's positions: what lies between the last of them
and the footer is nobody's, and holds the document.
"""

from __future__ import annotations

import struct
from typing import Final

from collectors.errors import HmtraceError
from collectors.input.magic import ARROW

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


def ended(document: str, footer: bytes) -> bytes:
    """What goes behind the table.

    Parameters
    ----------
    document
        Of ASCII.
    footer
        Of the table.
    """
    marked = document.encode("ascii") + _MARK.pack(len(document), _OURS)
    return marked + footer + _TAIL.pack(len(footer), _MAGIC)
