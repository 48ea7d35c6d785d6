"""The text of a latency tracer, which trace-cmd keeps in a trace.dat instead of pages.

It is what tracefs' ``trace`` showed; who opens the file gives it to the text reader. Version 6:
the rest of the file behind the tag ``latency``. Version 7: a section BUFFER_TEXT; compressed like a
trace buffer, in chunks, or like other sections, in one block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from collectors.errors import TRUNCATED
from collectors.reading import Embedded
from collectors.tracecmd_dat import layout, unpack
from collectors.tracecmd_dat.container import release_of
from collectors.traceevent.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.input.source import Source
    from collectors.reading import Reading
    from collectors.tracecmd_dat.container import DatFile, Text

_PIECE: Final = 1 << 20


def embedded(file: DatFile, text: Text, notes: list[str], source: Source) -> Embedded:
    """The text, as a trace to be read by itself.

    Parameters
    ----------
    file, text
        Where it is.
    notes
        On how the buffer was chosen.
    source
        The whole file, and the machine's files beside it.

    Raises
    ------
    HmtraceError
        If the text is damaged.
    """

    def around(got: Reading) -> Reading:
        clock = file.clock.name if file.clock.name != "unknown" else got.clock
        return replace(
            got,
            format=f"trace.dat-v{file.version}",
            clock=clock,
            release=got.release or release_of(file.uname),
            cpus=got.cpus or file.cpu_count or None,
            notes=(*notes, "the file holds the text of a latency trace", *got.notes),
        )

    return Embedded(source.inside(_without_tag(_expanded(file, text))), around)


def _without_tag(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    first = next(pieces, b"")
    yield first[layout.TAG_BYTES :] if first[: layout.TAG_BYTES] == layout.TAG_LATENCY else first
    yield from pieces


def _expanded(file: DatFile, text: Text) -> Iterator[bytes | memoryview]:
    """Give the text in pieces."""
    end = text.offset + text.size
    cursor = Cursor(file.data, name=file.name, order=file.meta.order, offset=text.offset)
    if not text.compressed:
        for begin in range(text.offset, end, _PIECE):
            yield file.data[begin : min(begin + _PIECE, end)]
        return
    packed = cursor.number(4, "compressed size")
    if packed + 8 == text.size:
        chunks = 1
        cursor.seek(text.offset, "compressed text")
    else:
        chunks = packed
    expander = unpack.Expander(file.algorithm, cursor)
    given = 0
    for _ in range(chunks):
        packed = cursor.number(4, "chunk's compressed size")
        full = cursor.number(4, "chunk's size")
        expander.open(packed, full)
        if cursor.offset > end:
            raise cursor.error("compressed chunks run beyond their section", hint=TRUNCATED)
        while piece := expander.take(_PIECE):
            given += len(piece)
            if given > layout.FREE + layout.EXPANSION * text.size:
                raise cursor.error(f"the text expands to more than {given} bytes: refused")
            yield piece
