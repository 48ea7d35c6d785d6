"""Sections of an ELF file, each checked against the file's size.

pyelftools reads the header; tables (sections, symbols, relocations) are read in bulk by numpy.
"""

from __future__ import annotations

import mmap
import zlib
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from collectors.errors import HmtraceError
from collectors.opened import opened
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

MOST_SECTIONS: Final = 1 << 16
MOST_UNPACKED: Final = 1 << 30
"""Bytes that a compressed section may have."""
_NOBITS: Final = 8
_COMPRESSED: Final = 1 << 11
_ALLOCATED: Final = 2
_EXECUTED: Final = 4
_BY_ZLIB, _BY_ZSTD = 1, 2
_BUILD_ID: Final = 3
_HINT: Final = "give the vmlinux of the kernel's -dbg package, unpacked"
_SYMTAB, _RELA, _REL = 2, 4, 9
_FUNCTION: Final = 2
_MIPS_ARCH, _MIPS_R6 = 0xF000_0000, (0x9000_0000, 0xA000_0000)
"""EF_MIPS_ARCH, and its values of release 6."""
_ABSOLUTE: Final[dict[str, dict[int, int]]] = {
    "EM_386": {1: 4},
    "EM_ARM": {2: 4, 38: 4},
    "EM_MIPS": {2: 4},
    "EM_PPC": {1: 4, 24: 4},
    "EM_SPARC": {3: 4, 23: 4},
    "EM_SPARC32PLUS": {3: 4, 23: 4},
    "EM_X86_64": {1: 8, 10: 4},
    "EM_XTENSA": {1: 4},
    "EM_ARC_COMPACT": {4: 4},
    "EM_ARC_COMPACT2": {4: 4},
    "EM_MICROBLAZE": {1: 4},
    "EM_CSKY": {1: 4},
}
"""Relocations that are an address, and their bytes: R_386_32, R_ARM_ABS32 and TARGET1, R_MIPS_32,
R_PPC_ADDR32 and UADDR32, R_SPARC_32 and UA32, R_X86_64_64 and 32, … (each processor's supplement
to the System V ABI)."""


@dataclass(frozen=True)
class SectionHeader:
    """A section's header (Elf32_Shdr, Elf64_Shdr)."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int

    @property
    def is_code(self) -> bool:
        """Whether it is run (SHF_EXECINSTR)."""
        return bool(self.flags & _EXECUTED)


class ElfFile:
    """An ELF file.

    Parameters
    ----------
    path
        The file.
    bases
        Where each section that is loaded lies, by name: for modules, whose sections have no address
        of their own.

    Attributes
    ----------
    bits, big, order
        32 or 64; whether the most significant byte comes first, and that as Python's word.
    relocatable
        Its sections have no addresses of their own.
    machine
        ``EM_386``, ``EM_ARM``, …
    sections
        By their number.
    build_id
        In hexadecimal digits; empty: it has none.

    Raises
    ------
    HmtraceError
        It cannot be read, or is no ELF file, or a damaged one.
    """

    def __init__(self, path: Path, bases: Mapping[str, int] | None = None) -> None:
        self.path = path
        self._bases = bases or {}
        self._made: dict[str, Bytes] = {}
        self._data, header = self._open()
        self.bits = 64 if header["e_ident"]["EI_CLASS"] == "ELFCLASS64" else 32
        self.big = bool(header["e_ident"]["EI_DATA"] == "ELFDATA2MSB")
        self.order: Literal["big", "little"] = "big" if self.big else "little"
        self.relocatable = bool(header["e_type"] == "ET_REL")
        self.machine = str(header["e_machine"])
        self._has_delay_slots = self.machine == "EM_MIPS" and (
            int(header["e_flags"]) & _MIPS_ARCH not in _MIPS_R6
        )
        self._order = ">" if self.big else "<"
        self._names: Bytes = np.zeros(0, np.uint8)
        self.sections = self._headers(header)
        self._by_name: dict[str, int] = {}
        for number, section in enumerate(self.sections):
            self._by_name.setdefault(section.name, number)
        self.build_id = self._build_id()

    def _open(self) -> tuple[Bytes, Any]:
        from elftools.elf.elffile import ELFFile

        try:
            with opened(self.path) as file:
                try:
                    header = ELFFile(file).header
                except Exception as error:  # pyelftools lets many kinds escape on damaged files
                    raise self.error("is no ELF file", hint=_HINT) from error
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self.error(f"cannot be read ({error.strerror or error})", hint=_HINT) from error
        return np.frombuffer(mapped, np.uint8), header

    def error(
        self, message: str, offset: int | None = None, hint: str | None = None
    ) -> HmtraceError:
        """An error about this file."""
        return HmtraceError(message, source=str(self.path), offset=offset, hint=hint)

    def _headers(self, header: Any) -> list[SectionHeader]:
        """The table of sections."""
        word = f"{self._order}u{self.bits // 8}"
        half = f"{self._order}u4"
        dtype = np.dtype(
            [("name", half), ("kind", half), ("flags", word), ("address", word), ("offset", word),
             ("size", word), ("link", half), ("info", half), ("align", word), ("entry", word)]
        )  # fmt: skip
        at, number = int(header["e_shoff"]), int(header["e_shnum"])
        if at == 0:
            raise self.error("has no sections", hint=_HINT)
        if number == 0:
            number = int(self._table(at, 1, dtype)["size"][0])
        if number > MOST_SECTIONS:
            raise self.error(f"claims {number} sections", at)
        table = self._table(at, number, dtype)
        rows = [[int(value) for value in row][:8] for row in table.tolist()]
        names_in = int(header["e_shstrndx"])
        if names_in >= number:
            raise self.error("has no names of its sections", at)
        self._names = self._raw(SectionHeader("", *rows[names_in][1:8]))
        return [SectionHeader(self._text(self._names, row[0]), *row[1:8]) for row in rows]

    def _table(self, at: int, number: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        if at < 0 or at + number * dtype.itemsize > self._data.size:
            raise self.error("its table of sections is cut off", at)
        return np.frombuffer(self._data[at : at + number * dtype.itemsize], dtype)

    def _text(self, data: Bytes, at: int) -> str:
        return data[at : at + 256].tobytes().partition(b"\0")[0].decode("utf-8", "replace")

    def _raw(self, section: SectionHeader) -> Bytes:
        """Bytes of a section as they are in the file."""
        if section.kind == _NOBITS:
            return np.zeros(0, np.uint8)
        if section.offset + section.size > self._data.size:
            raise self.error(f"section {section.name} is cut off", section.offset)
        return self._data[section.offset : section.offset + section.size]

    def offset_of(self, name: str, at: int) -> int:
        """Offset in the file of a place in a section; in one that was compressed, of its begin."""
        number = self._by_name.get(name)
        if number is None:
            return 0
        section = self.sections[number]
        return section.offset + (0 if section.flags & _COMPRESSED else min(at, section.size))

    def section(self, name: str) -> Bytes:
        """Bytes of a section, decompressed and relocated; empty where there is none.

        Raises
        ------
        HmtraceError
            If it is damaged.
        """
        if name not in self._made:
            number = self._by_name.get(name)
            data = np.zeros(0, np.uint8) if number is None else self._whole(number)
            data.setflags(write=False)  # one kind of argument for the loops
            self._made[name] = data
        return self._made[name]

    def _whole(self, number: int) -> Bytes:
        section = self.sections[number]
        data = self._raw(section)
        if section.flags & _COMPRESSED and data.size:
            data = self._unpacked(section, data)
        if self.relocatable:
            for table in self.sections:
                if table.kind in (_REL, _RELA) and table.info == number:
                    data = self._relocated(data, table)
        return data

    def _unpacked(self, section: SectionHeader, data: Bytes) -> Bytes:
        """Decompress a section (Elf32_Chdr, Elf64_Chdr)."""
        words = 3 if self.bits == 32 else 6
        head = np.frombuffer(data[: words * 4], f"{self._order}u4")
        if head.size < words:
            raise self.error(f"section {section.name} is cut off", section.offset)
        kind, size = int(head[0]), int(head[1])
        if self.bits == 64:
            size = int(np.frombuffer(data[8:16], f"{self._order}u8")[0])
        if size > MOST_UNPACKED:
            raise self.error(f"section {section.name} claims {size} bytes", section.offset)
        packed = data[words * 4 :]
        try:
            if kind == _BY_ZLIB:
                whole = zlib.decompressobj().decompress(packed.tobytes(), size + 1)
            elif kind == _BY_ZSTD:
                import zstandard

                limit = zstandard.ZstdDecompressor(max_window_size=1 << 27)
                with limit.stream_reader(packed.tobytes()) as reader:
                    whole = reader.read(size + 1)
            else:
                msg = f"section {section.name} is compressed in way {kind}, which is not known"
                raise self.error(msg, section.offset)
        except HmtraceError:
            raise
        except Exception as error:  # zlib.error, ZstdError
            msg = f"section {section.name} is compressed, and damaged"
            raise self.error(msg, section.offset) from error
        if len(whole) != size:
            raise self.error(f"section {section.name} is cut off", section.offset)
        return np.frombuffer(whole, np.uint8)

    def _relocated(self, data: Bytes, table: SectionHeader) -> Bytes:
        """Apply a table of relocations: those that are addresses."""
        u4 = f"{self._order}u4"
        word = u4 if self.bits == 32 else f"{self._order}u8"
        fields = [("at", word), ("info", word)]
        has_addend = table.kind == _RELA
        if has_addend:
            fields.append(("addend", word.replace("u", "i")))
        dtype = np.dtype(fields)
        raw = self._raw(table)
        rows = np.frombuffer(raw[: raw.size // dtype.itemsize * dtype.itemsize], dtype)
        info = rows["info"].astype(np.uint64)
        shift, mask = (8, 0xFF) if self.bits == 32 else (32, 0xFFFFFFFF)
        kind = (info & np.uint64(mask)).astype(np.int64)
        symbol = (info >> np.uint64(shift)).astype(np.int64)
        values = self._symbol_values(table.link)
        known = _ABSOLUTE.get(self.machine, {})
        if strange := [k for k in np.unique(kind).tolist() if k and k not in known]:
            msg = f"relocation {strange[0]} of {self.machine.removeprefix('EM_')} is not known"
            raise self.error(msg, table.offset)
        made = data.copy()
        at = rows["at"].astype(np.int64)
        bad = (symbol < 0) | (symbol >= values.size) | (at < 0)
        for number, size in known.items():
            mine = kind == number
            if not mine.any():
                continue
            if (bad | (at > data.size - size))[mine].any():
                raise self.error("a relocation is outside of its section", table.offset)
            which = at[mine][:, None] + np.arange(size)
            shown = np.dtype(f"{self._order}u{size}")
            if has_addend:
                addend = rows["addend"][mine].astype(np.int64)
            else:
                addend = made[which].view(shown)[:, 0].astype(np.int64)
            total = (values[symbol[mine]] + addend).astype(np.uint64)
            total &= np.uint64((1 << (8 * size)) - 1)
            made[which] = total.astype(shown)[:, None].view(np.uint8)
        return made

    def symbols(self, number: int | None = None) -> NDArray[Any]:
        """Table of symbols: of the section with that number, else .symtab.

        Returns
        -------
        ndarray, shape (n,)
            Fields ``name`` (where it stands), ``value``, ``size``, ``info``, ``section``.
        """
        if number is None:
            number = next((n for n, s in enumerate(self.sections) if s.kind == _SYMTAB), None)
        u4, u2 = f"{self._order}u4", f"{self._order}u2"
        word = u4 if self.bits == 32 else f"{self._order}u8"
        places = [("value", word), ("size", word)]
        others = [("info", "u1"), ("other", "u1"), ("section", u2)]
        fields = [("name", u4), *((*places, *others) if self.bits == 32 else (*others, *places))]
        dtype = np.dtype(fields)  # Elf32_Sym, Elf64_Sym
        if number is None or number >= len(self.sections):
            return np.zeros(0, dtype)
        data = self._raw(self.sections[number])
        return np.frombuffer(data[: data.size // dtype.itemsize * dtype.itemsize], dtype)

    def values(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        """Addresses of symbols, of :meth:`symbols`.

        A function of Thumb code has bit 0 set, which is no part of the address (ELF for the Arm
        architecture, "Symbol values"); kallsyms has it without.
        """
        values: NDArray[np.uint64] = rows["value"].astype(np.uint64)
        if self.machine == "EM_ARM":
            values[(rows["info"] & 15) == _FUNCTION] &= ~np.uint64(1)
        return values

    def call_before(self, address: int) -> int:
        """An address within the call that returns to one.

        The byte before; on MIPS up to release 5 that is in the delay slot behind the call, whose
        instruction may come from anywhere. Bit 0 marks compressed code (Thumb, microMIPS).
        """
        if self.machine in ("EM_ARM", "EM_MIPS") and address & 1:
            return address - 2
        return address - 8 if self._has_delay_slots else address - 1

    def names(self) -> bytes:
        """The names of .symtab."""
        table = next((s for s in self.sections if s.kind == _SYMTAB), None)
        if table is None or table.link >= len(self.sections):
            return b""
        return self._raw(self.sections[table.link]).tobytes()

    def _symbol_values(self, number: int) -> NDArray[np.int64]:
        """Address of each symbol, where its section was given one."""
        rows = self.symbols(number)
        base = np.zeros(MOST_SECTIONS, np.int64)
        for place, section in enumerate(self.sections):
            if section.flags & _ALLOCATED:
                base[place] = np.int64(np.uint64(self._bases.get(section.name, 0)))
        return rows["value"].astype(np.int64) + base[rows["section"].astype(np.int64)]

    def _build_id(self) -> str:
        """What the note of a build says (NT_GNU_BUILD_ID)."""
        for section in self.sections:
            if section.kind != 7 or section.size > 1 << 20:  # SHT_NOTE
                continue
            data, at = self._raw(section).tobytes(), 0
            while at + 12 <= len(data):
                name, size, kind = (
                    int.from_bytes(data[at + n : at + n + 4], self.order) for n in (0, 4, 8)
                )
                text = at + 12 + (name + 3) // 4 * 4
                if kind == _BUILD_ID and data[at + 12 : at + 16] == b"GNU\0":
                    return data[text : text + min(size, 64)].hex()
                at = text + (size + 3) // 4 * 4
        return ""
