"""Addresses to kernel functions, from the text of ``/proc/kallsyms``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.probes import FUNCTION_OF, base_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_NIBBLE = np.full(256, -1, np.int64)
for _digit in range(16):
    _NIBBLE[ord(f"{_digit:x}")] = _NIBBLE[ord(f"{_digit:X}")] = _digit
_CODE = np.frombuffer(b"tTwW", np.uint8)
"""Symbol types of code (nm(1))."""


class KernelSymbols:
    """Code symbols by address; names are cut out of the text when they are asked for.

    Parameters
    ----------
    text
        ``ADDRESS TYPE NAME[\\t[MODULE]]`` lines (kernel/kallsyms.c: s_show). A line that has
        another form is left out. Addresses that are all 0 (kptr_restrict) make an empty table.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        buf = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(buf == 10)
        starts = np.concatenate([[0], ends + 1]).astype(np.int64)
        width = text.find(b" ")
        found = np.zeros(0, np.uint64)
        if width in (8, 16):
            starts = starts[starts + width + 3 < len(buf)]
            starts = starts[(buf[starts + width] == 32) & (buf[starts + width + 2] == 32)]
            starts = starts[np.isin(buf[starts + width + 1], _CODE)]
            address = np.zeros(len(starts), np.int64)
            good = np.ones(len(starts), bool)
            for column in range(width):
                nibble = _NIBBLE[buf[starts + column]]
                good &= nibble >= 0
                address = address << 4 | nibble & 15
            starts = starts[good] + width + 3
            found = address[good].view(np.uint64)
        order = np.argsort(found, kind="stable")
        if not found.any():
            order = order[:0]
        self._address = found[order]
        self._name_at = starts[order] if len(found) else np.zeros(0, np.int64)

    def __bool__(self) -> bool:
        return len(self._address) > 0

    def names_at(self, address: int) -> list[str]:
        """Functions that begin exactly at an address."""
        key = np.uint64(address & 0xFFFF_FFFF_FFFF_FFFF)
        first = int(np.searchsorted(self._address, key, side="left"))
        last = int(np.searchsorted(self._address, key, side="right"))
        return [self._name(i) for i in range(first, min(last, first + 64))]

    def function_around(self, address: int) -> str | None:
        """Function that an address lies in; of several names one that hmtrace knows."""
        key = np.uint64(address & 0xFFFF_FFFF_FFFF_FFFF)
        last = int(np.searchsorted(self._address, key, side="right")) - 1
        if last < 0:
            return None
        return best_of(self.names_at(int(self._address[last])))

    def _name(self, index: int) -> str:
        at = int(self._name_at[index])
        line = self._text[at : at + 512].split(b"\n", 1)[0]
        return line.split(b"\t", 1)[0].strip().decode("utf-8", "replace")


def best_of(names: Iterable[str]) -> str | None:
    """First of `names` that hmtrace knows, else the first."""
    listed = list(names)
    for name in listed:
        if base_name(name) in FUNCTION_OF:
            return name
    return listed[0] if listed else None
