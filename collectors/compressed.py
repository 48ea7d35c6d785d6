"""What compressed files begin with, for traces and for the files of a machine."""

from __future__ import annotations

import zlib
from typing import Final

ATRACE: Final = b"TRACE:\n"
"""First line of what Android's atrace gives; with -z a zlib stream follows."""
_BEGINNINGS: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    ATRACE + b"\x78": "atrace",
}
ZLIB: Final = {"gzip": zlib.MAX_WBITS | 16, "atrace": zlib.MAX_WBITS}
"""What zlib reads: a gzip file; and the plain stream behind the first line of atrace -z."""
FIRST: Final = 1 << 12
"""Bytes of a new member that are looked at first, as what is behind its end is copied: a file may
consist of very many short ones."""


def compression(head: bytes) -> str | None:
    r"""Name of the compression that the first bytes of a file show, None if none.

    Examples
    --------
    >>> [compression(head) for head in (b"\x1f\x8b\x08", b"TRACE:\n\x78\x9c", b"TRACE:\n#")]
    ['gzip', 'atrace', None]
    """
    return next((name for begin, name in _BEGINNINGS.items() if head.startswith(begin)), None)
