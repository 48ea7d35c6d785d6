"""The event table of a large trace for this process alone: in memory as far as it is small.

What does not fit lies in a temporary file without a name, which the system takes back however the
process ends.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, Final, NamedTuple

import numpy as np

from collectors.errors import HmtraceError
from collectors.events import among
from collectors.table.packed import Packer
from collectors.table.part import part_of
from collectors.table.scan import scan_parts
from collectors.table.totals import Counter
from collectors.table.writer import PartWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import polars as pl
    from numpy.typing import NDArray

    from collectors.events import Rows
    from collectors.table.packed import PackedPart
    from collectors.table.part import Part

IN_MEMORY: Final = 1 << 27
"""Bytes up to which no file is needed: some three million rows."""


class Spool(PartWriter):
    """Keeps parts, to be read as often as is wanted once :meth:`finish` has been called."""

    name: ClassVar = "hmtrace-spool"

    def __init__(self) -> None:
        super().__init__(Path(tempfile.gettempdir()))
        self._kept = _Kept()
        self._counter = Counter()

    @property
    def events(self) -> pl.LazyFrame:
        """The table; it lives as long as this frame, or one made of it."""
        return scan_parts(self._kept.parts, self._kept.some, self._counter.totals)

    def _run(self) -> None:
        packer = Packer()
        for coming in self._coming():
            part = part_of(coming)
            self._counter.add(part)
            self._kept.add(*packer.pack(part))


class _Placed(NamedTuple):
    """A part, and its first byte in the file, or its bytes."""

    part: PackedPart
    at: int
    held: NDArray[np.uint8] | None


class _Kept:
    """Packed parts, in memory and behind them in a file."""

    def __init__(self) -> None:
        self._parts: list[_Placed] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._written = 0

    def add(self, part: PackedPart, pieces: list[NDArray[np.uint8]]) -> None:
        """Keep a part."""
        if self._file is None and self._held + part.size <= IN_MEMORY:
            held = np.concatenate([np.zeros(0, np.uint8), *pieces])
            self._parts.append(_Placed(part, 0, held))
            self._held += part.size
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="hmtrace-", buffering=0)  # noqa: SIM115
        for piece in pieces:
            left = memoryview(piece.data)
            while left:
                left = left[self._file.write(left) :]
        self._parts.append(_Placed(part, self._written, None))
        self._written += part.size

    def parts(self, wanted: Collection[str]) -> Iterator[Part]:
        """The parts, with these columns."""
        for placed in self._parts:
            yield placed.part.unpacked(wanted, partial(self._read, placed))

    def some(self, wanted: Collection[str], rows: Rows) -> Iterator[tuple[Rows, Part]]:
        """Of each part the rows whose numbers are given, ascending, if it has any."""
        first_row = 0
        for placed in self._parts:
            stop = first_row + placed.part.rows
            numbers = among(rows, first_row, stop)
            if len(numbers):
                part = placed.part.unpacked(wanted, partial(self._read, placed))
                yield numbers, part.at(numbers - first_row)
            first_row = stop

    def _read(self, placed: _Placed, at: int, end: int) -> NDArray[np.uint8]:
        if placed.held is not None:
            return placed.held[at:end]
        assert self._file is not None  # the part was written to it
        found = np.empty(end - at, np.uint8)
        left, at = memoryview(found.data), placed.at + at
        while left:
            have = os.preadv(self._file.fileno(), [left], at)
            if not have:
                raise HmtraceError("a temporary file was cut while it was in use")
            left, at = left[have:], at + have
        return found
