"""What hmtrace's Arrow IPC files are: record batches of the event table, one JSON document.

A file is (https://arrow.apache.org/docs/format/Columnar.html, "IPC File Format"): the magic, a
message with the schema, record batches, dictionaries, and a footer that says where they are and
holds the schema once more, with the document in its metadata. Names of tasks, sites and stacks are
known when all rows are, so their dictionaries stand behind the batches, as a file's may.

Each buffer of a batch stands behind its length, as in bodies that are compressed with Zstandard.
Those of columns that have few values or none, nearly all zero, are compressed; all others are
stored as they are, with -1 for a length, since to compress them takes longer than to write them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from collectors.input.magic import ARROW

END: Final = ARROW[:6]
"""The last bytes of a file."""
CONTINUED: Final = 0xFFFFFFFF
"""What every message begins with."""
ALIGNED: Final = 8
"""Messages, bodies and buffers begin at multiples of it."""
STORED: Final = -1
"""In front of a buffer that is not compressed."""
VERSION: Final = 4
"""MetadataVersion.V5."""


class Message:
    """MessageHeader: what a message is."""

    SCHEMA: Final = 1
    DICTIONARY: Final = 2
    BATCH: Final = 3


class Type:
    """Type: what a column is."""

    INT: Final = 2
    UTF8: Final = 5
    BOOL: Final = 6


class Kind(NamedTuple):
    """A column's type.

    Attributes
    ----------
    bits, is_signed
        Of its numbers; 1 bit: truth values.
    dictionary
        Number of the dictionary that the numbers point into, -1 none.
    """

    bits: int
    is_signed: bool
    dictionary: int = -1


class MessageBlock(NamedTuple):
    """Where a message is: its place, the length of its header (with padding), and of its body."""

    at: int
    header: int
    body: int


class Buffer(NamedTuple):
    """Where a buffer is in a body."""

    at: int
    length: int
