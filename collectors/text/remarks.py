"""Remarks that hold of every text dialect: lines and values that could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.text.layout import Stat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from collectors.input.source import Source


def of_lines(source: Source, stats: NDArray[np.int64]) -> list[str]:
    """How many lines could not be read, and the first of them; whether the last one ends."""
    notes = []
    if source.end_of_lines() < len(source.data):
        notes.append("the text ends within a line: it was cut off, that line was not read")
    if not (unread := int(stats[Stat.UNREAD])):
        return notes
    sample = source.lines(int(stats[Stat.FIRST_UNREAD_AT]), 1)[0][:60]
    text = sample.decode("utf-8", "replace").encode("unicode_escape").decode("ascii")
    notes.append(
        f"{unread} of {int(stats[Stat.LINES])} lines could not be read; the first is "
        f"line {int(stats[Stat.FIRST_UNREAD]) + 1}: '{text}'"
    )
    return notes


def of_values(stats: NDArray[np.int64]) -> list[str]:
    """How many arguments have no value."""
    bad, faults = int(stats[Stat.BAD_VALUES]), int(stats[Stat.FAULTS])
    notes = []
    if bad:
        notes.append(f"{bad} arguments are no numbers and were left out")
    if faults:
        notes.append(f"{faults} arguments could not be fetched by the kernel: (fault)")
    return notes
