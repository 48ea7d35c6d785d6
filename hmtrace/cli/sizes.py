"""Sizes with a suffix, as the kernel's command line has them."""

from __future__ import annotations

import re
from typing import Final

from collectors.errors import HmtraceError

_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_UNIT: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
PAGE: Final = 4096


def parse_size(text: str, option: str, *, low: int, high: int) -> int:
    """Bytes of a size such as ``256M``, ``4G`` or ``1.5G``.

    Parameters
    ----------
    text
        What the user gave; suffixes K, M, G and T are binary, case does not matter.
    option
        Name for the message: ``--ram``.
    low, high
        Least and greatest size allowed, bytes.

    Returns
    -------
    int
        A multiple of the page size.

    Raises
    ------
    HmtraceError
        Exit code 2.

    Examples
    --------
    >>> parse_size("256M", "--vmalloc", low=1 << 20, high=1 << 32) >> 20
    256
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise HmtraceError(
            f"{option}: {text!r} is no size", hint="sizes look like 256M or 4G", exit_code=2
        )
    value = float(match[1]) * _UNIT[match[2].upper()]
    if not low <= value <= high:
        raise HmtraceError(
            f"{option}: {text} is outside {human(low)} to {human(high)}",
            hint=None if match[2] else f"{text} are bytes; sizes look like 256M or 4G",
            exit_code=2,
        )
    if value % PAGE:
        raise HmtraceError(f"{option}: {text} is no multiple of a page (4K)", exit_code=2)
    return int(value)


def human(value: int) -> str:
    """Size in the form that :func:`parse_size` reads.

    Examples
    --------
    >>> human(64 << 30), human(4096)
    ('64G', '4K')
    """
    for suffix in ("T", "G", "M", "K"):
        if value >= _UNIT[suffix] and value % _UNIT[suffix] == 0:
            return f"{value // _UNIT[suffix]}{suffix}"
    return str(value)
