"""Numbers in text, eight digits at a time (compiled).

A word holds eight characters, the first one in its lowest byte. Sums below never carry from one
byte into the next: the characters' highest bits are taken off first, and looked at apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from collectors.compiled import piece
from collectors.text.words import HIGH, LOW, trailing_zeros

_LOW_BITS = ~HIGH
_ONE_CASE = LOW * np.uint64(0x20)
_FROM_0, _PAST_9 = LOW * np.uint64(0x80 - 0x30), LOW * np.uint64(0x80 - 0x3A)
_FROM_A, _PAST_F = LOW * np.uint64(0x80 - 0x61), LOW * np.uint64(0x80 - 0x67)
_NIBBLE, _NINE = LOW * np.uint64(0x0F), np.uint64(9)
_SIX = np.uint64(6)
_PAIRS, _FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_ALL8 = np.uint64(0xFFFFFFFF)
_4, _8, _16, _32 = np.uint64(4), np.uint64(8), np.uint64(16), np.uint64(32)
_TEN, _HUNDRED, _MYRIAD = np.uint64(10), np.uint64(100), np.uint64(10_000)


@piece
def decimal_digits(word: Any) -> Any:
    """Count the decimal digits that a word begins with, 0 to 8."""
    x = word & _LOW_BITS
    digit = (x + _FROM_0) & ~(x + _PAST_9) & ~word & HIGH
    return trailing_zeros(digit ^ HIGH) >> 3


@piece
def decimal(word: Any, count: Any) -> Any:
    """Value of the first `count` digits of a word, 1 to 8."""
    x = (word & _NIBBLE) << np.uint64(64 - 8 * count)  # zeros before them
    x = (x * _TEN + (x >> _8)) & _PAIRS
    x = (x * _HUNDRED + (x >> _16)) & _FOURS
    return np.int64((x * _MYRIAD + (x >> _32)) & _ALL8)


@piece
def hex_digits(word: Any) -> Any:
    """Count the hexadecimal digits that a word begins with, 0 to 8."""
    x = word & _LOW_BITS
    y = x | _ONE_CASE
    digit = (x + _FROM_0) & ~(x + _PAST_9) | (y + _FROM_A) & ~(y + _PAST_F)
    return trailing_zeros((digit & ~word & HIGH) ^ HIGH) >> 3


@piece
def hexadecimal(word: Any, count: Any) -> Any:
    """Value of the first `count` hexadecimal digits of a word, 1 to 8."""
    letters = (word >> _SIX) & LOW
    x = ((word & _NIBBLE) + letters * _NINE) << np.uint64(64 - 8 * count)
    x = ((x << _4) | (x >> _8)) & _PAIRS
    x = ((x << _8) | (x >> _16)) & _FOURS
    return np.int64(((x << _16) | (x >> _32)) & _ALL8)
