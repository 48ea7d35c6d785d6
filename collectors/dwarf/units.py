"""Units of .debug_info, which addresses they have, and headers of line programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.dwarf.layout import (
    FORM_LINE_STRP,
    FORM_STRING,
    FORM_STRP,
    LNCT_DIRECTORY,
    LNCT_PATH,
    OF_BLOCK,
    OF_LEB,
    SIZES,
    UNKNOWN,
)
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from collectors.dwarf.elf import Bytes, ElfFile
    from collectors.dwarf.loops.values import UnitShape

_Name = str | tuple[str, int]
"""A name, or section and place of it."""
_STRINGS: Final = {FORM_STRP: ".debug_str", FORM_LINE_STRP: ".debug_line_str"}
MOST_UNITS: Final = 1 << 17
"""A kernel has some 3500."""
MOST_FILES: Final = 1 << 16
_LONGEST: Final = 1 << 12
"""Bytes of a string that are looked at: PATH_MAX."""
_WIDE: Final = 0xFFFF_FFFF
_RESERVED: Final = 0xFFFF_FFF0
_SKELETON, _SPLIT, _TYPE, _SPLIT_TYPE = 4, 5, 2, 6
_OLDEST, _NEWEST = 2, 5


@dataclass(frozen=True)
class Unit:
    """A unit's header.

    Attributes
    ----------
    start, entries, end
        Where the header begins, its first entry, and what comes behind it.
    version
        Of DWARF.
    offset_size, address_size
        Bytes.
    abbrevs
        Where its abbreviations begin.
    """

    start: int
    entries: int
    end: int
    version: int
    offset_size: int
    address_size: int
    abbrevs: int


class SectionCursor:
    """Reads numbers of a section, one behind the other.

    Parameters
    ----------
    file
        For errors.
    name
        Of the section.
    at
        Where to begin.
    """

    def __init__(self, file: ElfFile, name: str, at: int) -> None:
        self._file, self._name = file, name
        self._data = memoryview(file.section(name).data)
        self._order = file.order
        self.at, self.end = at, len(self._data)

    def number(self, size: int) -> int:
        """A number of `size` bytes."""
        at = self.at
        if at > self.end - size:
            raise self.damaged("is cut off")
        self.at = at + size
        return int.from_bytes(self._data[at : at + size], self._order)

    def bytes(self, size: int) -> bytes:
        """So many bytes."""
        if size < 0 or self.at > self.end - size:
            raise self.damaged("is cut off")
        self.at += size
        return bytes(self._data[self.at - size : self.at])

    def length(self) -> tuple[int, int]:
        """An initial length, and the bytes of offsets of what follows; ends the cursor there."""
        start, size, width = self.at, self.number(4), 4
        if size == _WIDE:
            size, width = self.number(8), 8
        elif size >= _RESERVED:
            size = self.end  # reserved
        if size > self.end - self.at:
            self.at = start
            raise self.damaged(f"claims {size} bytes")
        self.end = self.at + size
        return width, size

    def leb(self) -> int:
        """An unsigned LEB128 number."""
        if self.at < self.end and (byte := self._data[self.at]) < 0x80:
            self.at += 1
            return byte
        value = 0
        for shift in range(0, 70, 7):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.damaged("has a number of more than 64 bits")

    def text(self) -> str:
        """A string that ends with 0."""
        text, found, _ = bytes(self._data[self.at : min(self.at + _LONGEST, self.end)]).partition(
            b"\0"
        )
        if not found:
            raise self.damaged("has a string without an end")
        self.at += len(text) + 1
        return text.decode("utf-8", "replace")

    def damaged(self, what: str) -> Exception:
        """An error that names the place."""
        at = self._file.offset_of(self._name, self.at)
        return self._file.error(f"{self._name} is damaged: it {what}", at)


def text_at(data: Bytes, at: int) -> str:
    """The string at a place, as far as it may go; empty outside."""
    if not 0 <= at < data.size:
        return ""
    return data[at : at + _LONGEST].tobytes().partition(b"\0")[0].decode("utf-8", "replace")


def units_of(file: ElfFile) -> list[Unit]:
    """The units of .debug_info, in their order, without those of types.

    Raises
    ------
    HmtraceError
        If a header is damaged.
    """
    units: list[Unit] = []
    at, whole = 0, file.section(".debug_info").size
    number = 0
    while at < whole:
        cursor = SectionCursor(file, ".debug_info", at)
        start = at
        width, _ = cursor.length()
        at = cursor.end
        version = cursor.number(2)
        if not _OLDEST <= version <= _NEWEST:
            raise cursor.damaged(f"is of DWARF {version}, which is not known")
        kind = 1
        if version >= 5:
            kind, address = cursor.number(1), cursor.number(1)
            abbrevs = cursor.number(width)
        else:
            abbrevs, address = cursor.number(width), cursor.number(1)
        if kind in (_SKELETON, _SPLIT):
            cursor.bytes(8)
        number += 1
        if number > MOST_UNITS:
            raise cursor.damaged(f"has more than {MOST_UNITS} units")
        if address not in (4, 8):
            raise cursor.damaged(f"has addresses of {address} bytes")
        if kind not in (_TYPE, _SPLIT_TYPE):
            units.append(Unit(start, cursor.at, at, version, width, address, abbrevs))
    return units


@dataclass(frozen=True)
class AddressRanges:
    """What .debug_aranges says.

    Attributes
    ----------
    low, high : ndarray of int64, shape (n,)
        Ranges, by their first addresses.
    unit : ndarray of int64, shape (n,)
        Where the unit's header is.
    units
        All units that are named.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    unit: NDArray[np.int64]
    units: frozenset[int]

    def of(self, address: int) -> list[int]:
        """Units that have an address; normally one."""
        here = (self.low <= address) & (address < self.high)
        return sorted(set(self.unit[here].tolist()))


def address_ranges(file: ElfFile) -> AddressRanges:
    """Read .debug_aranges (DWARF 5, section 6.1.2)."""
    at, whole = 0, file.section(".debug_aranges").size
    parts: list[NDArray[np.int64]] = []
    owners: list[int] = []
    while at < whole:
        cursor = SectionCursor(file, ".debug_aranges", at)
        begin = at
        width, _ = cursor.length()
        at = cursor.end
        cursor.number(2)
        unit = cursor.number(width)
        address, segment = cursor.number(1), cursor.number(1)
        if address not in (4, 8) or segment:
            raise cursor.damaged(f"has addresses of {address} bytes, segments of {segment}")
        tuples = 2 * address
        cursor.at = begin + -(-(cursor.at - begin) // tuples) * tuples
        count = max(cursor.end - cursor.at, 0) // tuples
        data = np.frombuffer(
            cursor.bytes(count * tuples), f"{'>' if file.big else '<'}u{address}"
        ).reshape(-1, 2)
        parts.append(data[data[:, 1] != 0].astype(np.int64))
        owners.append(unit)
        if len(owners) > MOST_UNITS:
            raise cursor.damaged(f"has more than {MOST_UNITS} units")
    table = np.concatenate([np.zeros((0, 2), np.int64), *parts])
    unit_of = np.repeat(np.array(owners, np.int64), [len(part) for part in parts])
    return AddressRanges(table[:, 0], table[:, 0] + table[:, 1], unit_of, frozenset(owners))


@dataclass(frozen=True)
class LineHeader:
    """Header of a line program (DWARF 5, section 6.2.4).

    Attributes
    ----------
    version
        Of the table.
    program, end
        First operation, and behind the last.
    least, most, base, span, special, lengths
        As of :class:`collectors.dwarf.loops.lines.Program`.
    folders
        Names of include directories; the first is that of the compilation (empty before DWARF 5).
    files
        Name and folder's number of each; the first is 0 (empty before DWARF 5).
    file
        Which holds the names.
    """

    version: int
    program: int
    end: int
    least: int
    most: int
    base: int
    span: int
    special: int
    lengths: bytes
    folders: Sequence[tuple[_Name, int]]
    files: Sequence[tuple[_Name, int]]
    file: ElfFile

    @property
    def folder(self) -> str:
        """Where the compiler was; empty before DWARF 5."""
        return self._text(self.folders[0][0]) if self.folders else ""

    def path(self, number: int) -> str:
        """Path of a file by its number, as the compiler was told it; empty: there is none."""
        if not 0 <= number < len(self.files):
            return ""
        name, folder = self.files[number]
        text = self._text(name)
        if text.startswith("/") or not 0 < folder < len(self.folders):
            return text
        place = self._text(self.folders[folder][0])
        return f"{place}/{text}" if place else text

    def _text(self, name: _Name) -> str:
        if isinstance(name, str):
            return name
        section, at = name
        return text_at(self.file.section(section), at)


def line_header(file: ElfFile, at: int) -> LineHeader:
    """Read the header of the line program at a place in .debug_line.

    Raises
    ------
    HmtraceError
        If it is damaged.
    """
    cursor = SectionCursor(file, ".debug_line", at)
    width, _ = cursor.length()
    version = cursor.number(2)
    if not _OLDEST <= version <= _NEWEST:
        raise cursor.damaged(f"has a line program of version {version}")
    if version >= 5:
        cursor.bytes(2)
    size = cursor.number(width)
    program = cursor.at + size
    if program > cursor.end:
        raise cursor.damaged("has a header longer than its line program")
    least = cursor.number(1)
    most = cursor.number(1) if version >= 4 else 1
    cursor.bytes(1)
    base = int.from_bytes(cursor.bytes(1), "little", signed=True)
    span, special = cursor.number(1), cursor.number(1)
    if not span or not special:
        raise cursor.damaged("has a line program without special operations")
    lengths = b"\0" + cursor.bytes(special - 1)
    if version >= 5:
        folders, files = _entries(cursor, width), _entries(cursor, width)
    else:
        folders, files = _old_entries(cursor)
    return LineHeader(
        version,
        program,
        cursor.end,
        least,
        most,
        base,
        span,
        special,
        lengths,
        folders,
        files,
        file,
    )


def _old_entries(cursor: SectionCursor) -> tuple[list[tuple[_Name, int]], list[tuple[_Name, int]]]:
    folders: list[tuple[_Name, int]] = [("", 0)]
    files: list[tuple[_Name, int]] = [("", 0)]
    while text := cursor.text():
        folders.append((text, 0))
        _few(cursor, len(folders))
    while text := cursor.text():
        files.append((text, cursor.leb()))
        cursor.leb(), cursor.leb()
        _few(cursor, len(files))
    return folders, files


def _few(cursor: SectionCursor, number: int) -> None:
    if number > MOST_FILES:
        raise cursor.damaged(f"names {number} files")


def _entries(cursor: SectionCursor, width: int) -> list[tuple[_Name, int]]:
    """A table of folders or of files: name, and folder's number."""
    form = [(cursor.leb(), cursor.leb()) for _ in range(cursor.number(1))]
    number = cursor.leb()
    _few(cursor, number)
    found = []
    for _ in range(number if form else 0):
        name: _Name = ""
        folder = 0
        for what, how in form:
            if how == FORM_STRING:
                text = cursor.text()
                name = text if what == LNCT_PATH else name
            elif how in (FORM_STRP, FORM_LINE_STRP):
                at = cursor.number(width)
                name = (_STRINGS[how], at) if what == LNCT_PATH else name
            else:
                value = _number(cursor, how)
                folder = value if what == LNCT_DIRECTORY else folder
        found.append((name, folder))
    return found


def _number(cursor: SectionCursor, form: int) -> int:
    """A number of a table of files; 0 of what is of no use."""
    size = SIZES.get(form, UNKNOWN)
    if size == OF_LEB:
        return cursor.leb()
    if size == OF_BLOCK:
        cursor.bytes(cursor.leb())
        return 0
    if size < 0:
        raise cursor.damaged(f"has a table of files with form {form:#x}")
    return cursor.number(size)


def shape_of(file: ElfFile, unit: Unit) -> UnitShape:
    """How a unit is written."""
    from collectors.dwarf.loops.values import UnitShape

    where = np.zeros(1, np.int64)
    return UnitShape(file.big, unit.address_size, unit.offset_size, unit.version, unit.start, where)
