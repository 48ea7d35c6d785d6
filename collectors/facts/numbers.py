"""Numbers as the kernel reads them from its command line."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]+|\d+)([kKmMgGtT]?)")
_UNIT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def memparse(text: str) -> int | None:
    """Bytes of ``256M``, ``0x10000000``, ``1G``; None where it is no number.

    As lib/cmdline.c:memparse, which ignores what follows the suffix.

    Examples
    --------
    >>> memparse("256M") >> 20
    256
    """
    match = _SIZE.match(text)
    if match is None or len(match[1]) > 20:
        return None
    digits = match[1]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if len(digits) > 1 and digits[0] == "0" else 10
    return int(digits, base) << _UNIT[match[2].lower()]
