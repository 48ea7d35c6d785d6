"""Text traces: tracefs ``trace`` and ``trace_pipe``, and ``trace-cmd report``.

Importing this package is cheap; what is compiled is loaded when a trace is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.input.source import Source
    from collectors.raw import RawEvents
    from collectors.reading import Reading, Stream
    from collectors.text.header import Header

_FIRST_LINES: Final = 4096


def is_report(head: bytes) -> bool:
    """Tell trace-cmd report by its line ``cpus=N`` (tracecmd/trace-read.c: read_data_info).

    Before it may stand ``version = N`` and ``CPU n is empty`` lines.
    """
    for line in head[:_FIRST_LINES].splitlines()[:70]:
        if re.fullmatch(rb"(?:[^\n]{0,200}: )?cpus=\d{1,6}", line.strip()):
            return True
        if not re.match(rb"version|CPU \d+ is empty|\s*+$", line):
            return False
    return False


def is_text(head: bytes) -> bool:
    """Tell a text from binary data; what kind of text it is, its lines decide."""
    return bool(head)


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read a text trace; see :func:`collectors.text.reader.read`."""
    from collectors.text import reader

    return reader.read(source, progress)


def stream(source: Source, progress: Callable[[int, int], None] | None = None) -> Stream:
    """Read a text trace piece by piece; see :func:`collectors.text.reader.stream`."""
    from collectors.text import reader

    return reader.stream(source, progress)


def read_raw(source: Source) -> tuple[RawEvents, Header]:
    """Raw events and header of a text trace, without pairing."""
    from collectors.text import reader

    return reader.read_raw(source)[:2]
