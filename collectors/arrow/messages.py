"""Messages of an Arrow IPC file, put together from numbers (format/Message.fbs, File.fbs).

Where each table, vtable and vector of these FlatBuffers lies is fixed, but for vectors' lengths;
what they are is told in :mod:`collectors.arrow.headers`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.arrow.headers import BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

ALIGNED: Final = 64
"""Bytes whose multiples messages, and the buffers in them, begin at."""
_MARKER: Final = b"\xff" * 4
_FRAME: Final = struct.Struct("<4si")
"""Before a header: the marker, and its length."""
_VERSION: Final = 4  # MetadataVersion.V5
_RECORD_BATCH: Final = 3  # MessageHeader

# RecordBatch: its vtable at 40, itself at 56, nodes from 96 on; BodyCompression, of defaults (LZ4
# by buffer), at 84 behind its vtable.
_BATCH: Final = struct.Struct("<I 6H iIqhB5x 6H4x iIIIq 2Hi 4xI")
_NODES_AT: Final = _BATCH.size
_PAIR: Final = struct.Struct("<qq")
_COUNT: Final = struct.Struct("<4xI")
_FOOTER: Final = struct.Struct("<I 6H iIIIh6x")


class MessagePlace(NamedTuple):
    """Where a message is.

    Attributes
    ----------
    at, header, body
        Position in the file; bytes of its header, with what is before it, and of its body.
    """

    at: int
    header: int
    body: int


def batch_header(
    rows: int, nulls: Sequence[int], buffers: Sequence[tuple[int, int]], body: int
) -> bytes:
    """Header of a record batch, with what is before it.

    Parameters
    ----------
    rows
        Of the batch.
    nulls
        By column, how many of them have no value.
    buffers
        Where in the body the buffers of all columns are, and how long they are.
    body
        Bytes of the body.
    """
    count_at = _NODES_AT + _PAIR.size * len(nulls)
    text = _BATCH.pack(
        16, *(12, 24, 16, 18, 4, 8),
        *(12, 56 - 20, body, _VERSION, _RECORD_BATCH),
        *(12, 24, 16, 4, 8, 12),
        *(16, 92 - 60, count_at + 4 - 64, 84 - 68, rows),
        *(4, 4, 4),
        len(nulls),
    )  # fmt: skip
    text += b"".join(_PAIR.pack(rows, number) for number in nulls)
    text += _COUNT.pack(len(buffers)) + b"".join(_PAIR.pack(*place) for place in buffers)
    return framed(text)


def framed(header: bytes) -> bytes:
    """A header with what is before it, unless it has that already, and behind it."""
    if header.startswith(_MARKER):
        return header
    header += bytes(-(_FRAME.size + len(header)) % ALIGNED)
    return _FRAME.pack(_MARKER, len(header)) + header


def footer(
    schema: bytes, schema_at: int, dictionaries: list[MessagePlace], batches: list[MessagePlace]
) -> bytes:
    """Footer of a file.

    Parameters
    ----------
    schema
        Bytes that hold the schema: all that it refers to is told relative to itself.
    schema_at
        Where it is in them.
    dictionaries, batches
        Where the messages are.
    """
    vectors = b""
    at = _FOOTER.size
    places = []
    for blocks in (dictionaries, batches):
        places.append(at + len(vectors) + 4)
        vectors += _COUNT.pack(len(blocks)) + b"".join(BLOCK.pack(*block) for block in blocks)
    schema_at += at + len(vectors)
    table = _FOOTER.pack(
        16, *(12, 20, 16, 4, 8, 12),
        *(12, schema_at - 20, places[0] - 24, places[1] - 28, _VERSION),
    )  # fmt: skip
    return table + vectors + schema
