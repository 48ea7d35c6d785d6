"""One ELF file's debugging information: which functions, inlined into each other, have an address.

What is looked at: .debug_aranges, the headers of all units, and of the units that have one of the
addresses their entries and their line program. The answers are those of binutils' ``addr2line -f
-i`` (tested).
"""

from __future__ import annotations

import posixpath
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.dwarf.elf import ElfFile
from collectors.dwarf.layout import (
    FORM_ADDRX,
    FORM_ADDRX1,
    FORM_ADDRX4,
    FORM_LINE_STRP,
    FORM_STRING,
    FORM_STRP,
    FORM_STRX,
    FORM_STRX1,
    FORM_STRX4,
    TAG_INLINED,
)  # fmt: skip
from collectors.dwarf.units import address_ranges, line_header, shape_of, text_at, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from collectors.dwarf.loops.entries import Abbrevs
    from collectors.dwarf.loops.ranges import Lists
    from collectors.dwarf.loops.values import UnitShape
    from collectors.dwarf.units import AddressRanges, LineHeader, Unit
    from collectors.errors import HmtraceError

_RANGE_BUDGET: Final = 1 << 24
"""Entries of range lists that are looked at in a unit; the largest of a kernel has some 10 000."""
_MOST_ABBREVS: Final = 1 << 17
_FARTHEST: Final = 8
"""Entries that lead to the name of a function: an inline, its origin, a specification."""


class Frame(NamedTuple):
    """A function that an address is in, or into which that one was inlined.

    Attributes
    ----------
    function
        Its name; empty: not known.
    file
        Path as the compiler was told it; empty: not known.
    line
        Of the address; of an outer function, where the inner one is called. None: not known.
    """

    function: str
    file: str
    line: int | None


class Types(NamedTuple):
    """Structures, enumerations and arrays of a unit, with their parts.

    Attributes
    ----------
    rows : ndarray of int64, shape (n, COLUMNS)
        As of :func:`collectors.dwarf.loops.entries.walk`.
    names
        Of each; empty without one.
    """

    rows: NDArray[np.int64]
    names: list[str]


class _Top(NamedTuple):
    """What the first entry of a unit says."""

    folder: str
    lines: int
    strings: int
    lists: Lists
    row: NDArray[np.int64]


class DebugFile:
    """An ELF file with debugging information.

    Parameters
    ----------
    path
        The file.
    bases
        As of :class:`collectors.dwarf.elf.ElfFile`.

    Raises
    ------
    HmtraceError
        It cannot be read, is no ELF file, or a damaged one.
    """

    def __init__(self, path: Path, bases: Mapping[str, int] | None = None) -> None:
        self.file = ElfFile(path, bases)
        self._units: list[Unit] | None = None
        self._starts: list[int] = []
        self._ranges: AddressRanges | None = None
        self._tables: dict[tuple[int, int, int, int], Abbrevs] = {}
        self._tops: dict[int, _Top] = {}

    @property
    def has_information(self) -> bool:
        """Whether there is any."""
        return self.file.section(".debug_info").size > 0

    def frames(self, addresses: Iterable[int]) -> dict[int, tuple[Frame, ...]]:
        """Functions of addresses, the innermost first; none where nothing is known.

        Parameters
        ----------
        addresses
            As the file has them, without KASLR.

        Raises
        ------
        HmtraceError
            Where the debugging information is damaged.
        """
        wanted = sorted(set(addresses))
        found: dict[int, tuple[Frame, ...]] = dict.fromkeys(wanted, ())
        by_unit: dict[int, list[int]] = {}
        for address in wanted:
            for unit in self._candidates(address):
                by_unit.setdefault(unit, []).append(address)
        for start, here in sorted(by_unit.items()):
            for address, frames in self._of_unit(self._unit(start), here).items():
                if len(frames) > len(found[address]):
                    found[address] = frames
        return found

    def types(self, address: int) -> Types:
        """What the unit that has an address says of types; empty where none has it.

        Raises
        ------
        HmtraceError
            Where the debugging information is damaged.
        """
        from collectors.dwarf.loops.entries import COLUMNS, NAME, NAME_FORM, TYPES

        for start in self._candidates(address):
            unit = self._unit(start)
            rows = self._walk(unit, unit.entries, TYPES)
            names = [
                self._text(unit, at, form) if form >= 0 else ""
                for at, form in rows[:, [NAME, NAME_FORM]].tolist()
            ]
            return Types(rows, names)
        return Types(np.zeros((0, COLUMNS), np.int64), [])

    # Which unit -----------------------------------------------------------------------------

    def _all(self) -> list[Unit]:
        if self._units is None:
            self._units = units_of(self.file)
            self._starts = [unit.start for unit in self._units]
        return self._units

    def _candidates(self, address: int) -> list[int]:
        """Units that may have an address."""
        if self._ranges is None:
            self._ranges = address_ranges(self.file)
        signed = int(np.uint64(address).astype(np.int64))
        named = self._ranges.of(signed)
        if named:
            return named
        others = (unit for unit in self._all() if unit.start not in self._ranges.units)
        return [unit.start for unit in others if self._has(unit, signed)]

    def _has(self, unit: Unit, address: int) -> bool:
        """Whether a unit without .debug_aranges says that it has an address."""
        from collectors.dwarf.loops.ranges import match

        top = self._top(unit)
        best = np.full((1, 2), -1, np.int64)
        match(top.row[None], top.lists, np.array([address], np.int64), best, self._shape(unit))
        return bool(best[0, 0] >= 0)

    def _unit(self, start: int) -> Unit:
        """The unit that begins at a place, or holds it."""
        units = self._all()
        at = bisect_right(self._starts, start) - 1
        if at < 0 or start >= units[at].end:
            raise self._damaged(".debug_aranges", 0, "names a unit that is not there")
        return units[at]

    # What a unit says -----------------------------------------------------------------------

    def _of_unit(self, unit: Unit, wanted: Sequence[int]) -> dict[int, tuple[Frame, ...]]:
        from collectors.dwarf.loops.ranges import match

        top, shape = self._top(unit), self._shape(unit)
        rows = self._walk(unit, unit.entries)
        sought = np.sort(np.array(wanted, np.uint64).astype(np.int64))
        best = np.full((sought.size, 2), -1, np.int64)
        if (wrong := match(rows, top.lists, sought, best, shape)) >= 0:
            raise self._damaged(".debug_info", int(rows[wrong, 0]), "has no end of its ranges")
        header, places = self._lines(unit, top, sought)
        found = {}
        for address, row, (number, line) in zip(
            sought.astype(np.uint64).tolist(), best[:, 0].tolist(), places.tolist(), strict=True
        ):
            file = "" if header is None else self._path(header, top, number)
            found[address] = self._chain(unit, rows, row, header, top, (file, line))
        return found

    def _chain(
        self,
        unit: Unit,
        rows: NDArray[np.int64],
        row: int,
        header: LineHeader | None,
        top: _Top,
        place: tuple[str, int],
    ) -> tuple[Frame, ...]:
        """Frames of an address that is in a row, from the innermost outwards."""
        from collectors.dwarf.loops.entries import CALL_FILE, CALL_LINE, PARENT, TAG

        file, line = place
        if row < 0:
            return (Frame("", file, line if line > 0 else None),) if file else ()
        frames = []
        while row >= 0:
            frames.append(Frame(self._name(unit, rows[row]), file, line if line > 0 else None))
            if rows[row, TAG] != TAG_INLINED:
                break
            number, line = int(rows[row, CALL_FILE]), int(rows[row, CALL_LINE])
            file = "" if header is None else self._path(header, top, number)
            row = int(rows[row, PARENT])
        return tuple(frames)

    def _name(self, unit: Unit, row: NDArray[np.int64]) -> str:
        """Name of a function, which may stand in the entry that it comes from."""
        from collectors.dwarf.loops import entries as loops

        for _ in range(_FARTHEST):
            if row[loops.NAME_FORM] >= 0:
                return self._text(unit, int(row[loops.NAME]), int(row[loops.NAME_FORM]))
            origin = int(row[loops.ORIGIN])
            if origin < 0:
                break
            unit = self._unit(origin)
            if origin < unit.entries:
                break
            found = self._walk(unit, origin, loops.SINGLE)
            if not len(found):
                break
            row = found[0]
        return ""

    def _lines(
        self, unit: Unit, top: _Top, sought: NDArray[np.int64]
    ) -> tuple[LineHeader | None, NDArray[np.int64]]:
        """Header of a unit's line program, and file and line of each address."""
        from collectors.dwarf.loops.lines import Program, run_lines
        from collectors.dwarf.loops.values import DAMAGED

        found = np.full((sought.size, 2), -1, np.int64)
        if top.lines < 0:
            return None, found
        header, shape = line_header(self.file, top.lines), self._shape(unit)
        program = Program(
            header.least, header.most, header.base, header.span, header.special,
            np.frombuffer(header.lengths, np.uint8),
        )  # fmt: skip
        data = self.file.section(".debug_line")
        if run_lines(data, header.program, header.end, program, shape, sought, found) == DAMAGED:
            raise self._damaged(
                ".debug_line", int(shape.where[0]), "has a line program without end"
            )
        return header, found

    def _path(self, header: LineHeader, top: _Top, number: int) -> str:
        """Path of a file, without the folder of the compilation where that is in front."""
        path = header.path(number)
        if not path:
            return ""
        return posixpath.normpath(path).removeprefix(f"{header.folder or top.folder}/")

    def _text(self, unit: Unit, value: int, form: int) -> str:
        """A string by the value of an attribute."""
        if form == FORM_STRING:
            return text_at(self.file.section(".debug_info"), value)
        if form == FORM_LINE_STRP:
            return text_at(self.file.section(".debug_line_str"), value)
        if form == FORM_STRP:
            return text_at(self.file.section(".debug_str"), value)
        if form == FORM_STRX or FORM_STRX1 <= form <= FORM_STRX4:
            offsets = self.file.section(".debug_str_offsets")
            at = self._top(unit).strings + value * unit.offset_size
            if 0 <= at <= offsets.size - unit.offset_size:
                where = offsets[at : at + unit.offset_size].tobytes()
                order = self.file.order
                return text_at(self.file.section(".debug_str"), int.from_bytes(where, order))
        return ""

    def _top(self, unit: Unit) -> _Top:
        """First entry of a unit."""
        from collectors.dwarf.loops import entries as loops
        from collectors.dwarf.loops.ranges import Lists

        if unit.start not in self._tops:
            row = self._walk(unit, unit.entries, loops.SINGLE)
            if not len(row):
                raise self._damaged(".debug_info", unit.entries, "has a unit without entries")
            of: NDArray[np.int64] = row[0]

            def told(column: int, default: int) -> int:
                return int(of[column]) if of[column] >= 0 else default

            head = 8 if unit.offset_size == 4 else 16
            addresses = self.file.section(".debug_addr")
            base, strings = told(loops.ADDR_BASE, head), told(loops.STR_BASE, head)
            low, form = int(of[loops.LOW]), int(of[loops.LOW_FORM])
            if form == FORM_ADDRX or FORM_ADDRX1 <= form <= FORM_ADDRX4:
                at = base + low * unit.address_size
                raw = addresses[max(at, 0) : max(at, 0) + unit.address_size].tobytes()
                low = int.from_bytes(raw, self.file.order)
            lists = Lists(
                self.file.section(".debug_rnglists" if unit.version >= 5 else ".debug_ranges"),
                addresses,
                low if form >= 0 else 0,
                base,
                told(loops.RANGES_BASE, head + 4),
                np.full(1, _RANGE_BUDGET, np.int64),
            )
            # the folder's name may be a number in a table that this entry says the place of
            self._tops[unit.start] = _Top("", int(of[loops.LINES]), strings, lists, of)
            if of[loops.COMP_DIR_FORM] >= 0:
                folder = self._text(unit, int(of[loops.COMP_DIR]), int(of[loops.COMP_DIR_FORM]))
                top = self._tops[unit.start]
                self._tops[unit.start] = top._replace(folder=folder)
        return self._tops[unit.start]

    # Entries --------------------------------------------------------------------------------

    def _walk(self, unit: Unit, at: int, what: int | None = None) -> NDArray[np.int64]:
        """Functions and inlines of a unit, or `what` else (:mod:`.loops.entries`) from a place."""
        from collectors.dwarf.loops.entries import COLUMNS, FUNCTIONS, MOST_DEPTH, SINGLE, walk
        from collectors.dwarf.loops.values import DAMAGED, FULL

        table, shape = self._abbrevs(unit), self._shape(unit)
        data = self.file.section(".debug_info")
        parents = np.zeros(MOST_DEPTH, np.int64)
        what = FUNCTIONS if what is None else what
        room = 1 if what == SINGLE else 1 << 12
        while True:
            rows = np.empty((room, COLUMNS), np.int64)
            found = walk(data, at, unit.end, table, shape, what, parents, rows)
            if found == DAMAGED:
                msg = "has an entry that is cut off, or of an unknown kind"
                raise self._damaged(".debug_info", int(shape.where[0]), msg)
            if found != FULL:
                return rows[:found]
            room *= 4

    def _abbrevs(self, unit: Unit) -> Abbrevs:
        """Abbreviations of a unit; the last few are kept."""
        from collectors.dwarf.loops import entries as loops
        from collectors.dwarf.loops.values import DAMAGED, NONE

        key = (unit.abbrevs, unit.address_size, unit.offset_size, unit.version)
        if key in self._tables:
            return self._tables[key]
        shape, data = self._shape(unit), self.file.section(".debug_abbrev")
        room = 1 << 11
        while True:
            tag, flags, first, size = np.zeros((4, room), np.int64)
            name, form, constant = np.zeros((3, 8 * room), np.int64)
            entry = np.full(loops.MOST_CODES, NONE, np.int32)
            table = loops.Abbrevs(entry, tag, flags, first, size, name, form, constant)
            found = loops.read_abbrevs(data, unit.abbrevs, table, shape)
            if found >= 0:
                break
            if found == DAMAGED or room >= _MOST_ABBREVS:
                what = "has an abbreviation that is cut off, or too many"
                raise self._damaged(".debug_abbrev", int(shape.where[0]), what)
            room *= 4
        while len(self._tables) >= 8:
            self._tables.pop(next(iter(self._tables)))
        self._tables[key] = table
        return table

    def _shape(self, unit: Unit) -> UnitShape:
        return shape_of(self.file, unit)

    def _damaged(self, section: str, at: int, what: str) -> HmtraceError:
        offset = self.file.offset_of(section, at)
        return self.file.error(f"{section} is damaged: it {what}", offset)
