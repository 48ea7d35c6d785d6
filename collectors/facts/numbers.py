"""Numbers as the kernel prints them, and as it reads them from its command line."""

from __future__ import annotations

import re
from typing import Final

_MOST_DIGITS: Final = 20
"""Of any number of 64 bits, in decimal; a longer one is none."""
_SIZE: Final = re.compile(r"(0[xX][0-9a-fA-F]{1,32}+|0[0-7]{1,32}+|[0-9]{1,32}+)([kKmMgGtT]?)")
_WHOLE: Final = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})")
_UNIT: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def memparse(text: str) -> int | None:
    """Bytes of ``256M``, ``0x10000000``, ``1G``; None where it is no number.

    As lib/cmdline.c:memparse, which ignores what follows the suffix.

    Examples
    --------
    >>> memparse("256M") >> 20
    256
    """
    match = _SIZE.match(text)
    if match is None or len(match[1]) > _MOST_DIGITS:
        return None
    digits = match[1]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if len(digits) > 1 and digits[0] == "0" else 10
    return int(digits, base) << _UNIT[match[2].lower()]


def decimal(text: str) -> int | None:
    """Whole number of ASCII digits, not longer than 64 bits can be; None where it is none.

    ``str.isdigit`` is true of superscripts and of digits in other scripts, too.

    Examples
    --------
    >>> decimal("12"), decimal("²"), decimal("9" * 5000), decimal("")
    (12, None, None, None)
    """
    is_one = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_one else None


def whole(text: str) -> int | None:
    """Whole number, in decimal or behind ``0x``; None where it is none.

    Examples
    --------
    >>> whole("0xc09"), whole("7"), whole("0x" + "f" * 5000), whole("0x1_0")
    (3081, 7, None, None)
    """
    return int(text, 16 if "x" in text.lower() else 10) if _WHOLE.fullmatch(text) else None
