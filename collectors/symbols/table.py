"""Names for kernel addresses: from kallsyms text, or from the symbols of an ELF file.

The columns are found with numpy and names are cut out only when asked for, so that a table of
fifty thousand lines is ready in some ten milliseconds.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collectors.facts.reading import read_bytes
from collectors.records import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.dwarf.elf import ElfFile
    from collectors.facts.reading import Content

FARTHEST = 1 << 20
"""Bytes behind a symbol that still belong to it; no kernel function is larger."""

MODULE_TAIL = 1 << 12
"""Bytes behind the last symbol of a module that still belong to it. What lies farther behind is
another module's, loaded after the table was read."""

_HEX = np.full(256, 255, np.uint8)
for _digit in range(16):
    _HEX[ord(f"{_digit:x}")] = _digit
    _HEX[ord(f"{_digit:X}")] = _digit
_TEXT_TYPES = np.frombuffer(b"tTwW", np.uint8)
_MAPPING = ord("$")
_BEHIND_NAME = (b"", b"\0", b"\n", b"\t", b" ", b"\r")
_MARKS = ("_text", "_stext", "stext")
_SAMPLE = 256
_STT_FUNC = 2
_STT_NOTYPE = 0


@dataclass(frozen=True)
class Symbols:
    """Kernel symbols, sorted by address.

    Attributes
    ----------
    addresses
        First address of each symbol, ascending, uint64.
    starts, ends
        Where the name of each is in `text`, int64.
    text
        The bytes that hold the names.
    source
        File that they come from.
    """

    addresses: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    text: bytes
    source: str = ""

    @classmethod
    def empty(cls) -> Symbols:
        """Table without symbols: every look-up finds nothing."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing.astype(np.uint64), nothing, nothing, b"")

    @classmethod
    def from_kallsyms(cls, content: Content, source: str = "kallsyms") -> Symbols:
        """Read /proc/kallsyms, compressed or not.

        Only code symbols (types t, T, w, W) are kept, without ARM's mapping symbols. Lines that are
        no symbol are skipped.
        A table of zeros, as kptr_restrict leaves it, is an empty one.

        Parameters
        ----------
        content
            The bytes, or the file.
        source
            Name for messages.
        """
        data, _ = read_bytes(content)
        return cls._from_lines(data, source)

    @classmethod
    def from_elf(cls, file: ElfFile, slide: int = 0) -> Symbols:
        """Read the symbol table of an ELF file.

        Parameters
        ----------
        file
            vmlinux with symbols, as in a -dbg package.
        slide
            Bytes that KASLR moved the kernel by.

        Raises
        ------
        HmtraceError
            If the table is cut off.
        """
        rows, names = file.symbols(), file.names()
        kind, section = rows["info"] & 15, rows["section"]
        # what is no function is code where the section is: labels of assembly
        is_code = np.zeros(1 << 16, np.bool_)
        is_code[: len(file.sections)] = [s.is_code for s in file.sections[: 1 << 16]]
        code = (kind == _STT_FUNC) | ((kind == _STT_NOTYPE) & is_code[section])
        code &= (section != 0) & (rows["value"] != 0) & (rows["name"] < len(names))
        rows = rows[code]
        starts = rows["name"].astype(np.int64)
        zeros = np.append(np.flatnonzero(np.frombuffer(names, np.uint8) == 0), len(names))
        ends = zeros[np.searchsorted(zeros, starts)].astype(np.int64)
        # mapping symbols ($a, $d, $t) and compiler labels say nothing
        first = np.frombuffer(names + b"\0", np.uint8)[starts]
        named = (ends > starts) & (first != _MAPPING) & (first != ord("."))
        addresses = file.values(rows) + np.uint64(slide)
        found = addresses[named], starts[named], ends[named]
        return cls._sorted(*found, names, str(file.path))

    @classmethod
    def _from_lines(cls, data: bytes, source: str) -> Symbols:
        raw = np.frombuffer(data, np.uint8)
        breaks = np.flatnonzero(raw == ord("\n"))
        starts = np.concatenate(([0], breaks + 1)).astype(np.int64)
        ends = np.concatenate((breaks, [raw.size])).astype(np.int64)
        width = 16 if raw.size > 16 and _HEX[raw[8]] != 255 else 8
        keep = ends - starts > width + 3
        starts, ends = starts[keep], ends[keep]
        if not starts.size:
            return cls.empty()
        digits = _HEX[raw[starts[:, None] + np.arange(width)]]
        kinds = raw[starts + width + 1]
        good = (
            (digits < 16).all(axis=1)
            & (raw[starts + width] == ord(" "))
            & (raw[starts + width + 2] == ord(" "))
            & np.isin(kinds, _TEXT_TYPES)
            & (raw[starts + width + 3] != _MAPPING)  # $a, $d, $t, $x: ARM's marks for code and data
        )
        starts, ends, digits = starts[good], ends[good], digits[good]
        shifts = np.arange(4 * (width - 1), -1, -4, dtype=np.uint64)
        addresses = (digits.astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64)
        return cls._sorted(addresses, starts + width + 3, ends, data, source)

    @classmethod
    def _sorted(
        cls,
        addresses: NDArray[np.uint64],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        text: bytes,
        source: str,
    ) -> Symbols:
        if not addresses.size or not addresses.any():
            return cls.empty()
        order = np.argsort(addresses, kind="stable")
        return cls(addresses[order], starts[order], ends[order], text, source)

    def __len__(self) -> int:
        return int(self.addresses.size)

    def name(self, index: int) -> str:
        """Name of the symbol at `index`, with ``[module]`` where it is in one."""
        name = self.text[self.starts[index] : self.ends[index]].decode("utf-8", "replace")
        return " ".join(name.split())

    def lookup(self, address: int) -> str:
        """Symbol and offset of an address.

        Parameters
        ----------
        address
            Kernel address.

        Returns
        -------
        str
            ``kmap_high+0x12``, ``func+0x4 [module]``, or "" where no symbol is near below.
        """
        return self.lookup_many(np.array([address], np.uint64))[0]

    def lookup_many(self, addresses: NDArray[np.uint64]) -> list[str]:
        """Symbol and offset of each address.

        Parameters
        ----------
        addresses
            Kernel addresses, uint64, any order; equal ones are looked up once.

        Returns
        -------
        list of str
            As :meth:`lookup`.
        """
        wanted, where = np.unique(np.asarray(addresses, np.uint64), return_inverse=True)
        index = np.searchsorted(self.addresses, wanted, side="right") - 1
        # of several names for one address, the first in the file
        found = np.full(wanted.size, -1, np.int64)
        below = index >= 0
        if below.any():
            start = self.addresses[index[below]]
            found[below] = np.searchsorted(self.addresses, start, side="left")
        texts = []
        for address, symbol in zip(wanted.tolist(), found.tolist(), strict=True):
            offset = address - int(self.addresses[symbol]) if symbol >= 0 else FARTHEST
            near = offset < MODULE_TAIL or (offset < FARTHEST and not self._ends_module(symbol))
            texts.append(self._shown(symbol, offset) if near else "")
        return [texts[i] for i in where.tolist()]

    def address_of(self, name: str) -> int | None:
        """Address of the first symbol of a name, None where there is none."""
        pattern = re.compile(rb"(?<![\w.$])" + re.escape(name.encode()) + rb"(?=[\s\0]|\Z)")
        for match in pattern.finditer(self.text):
            hits = np.flatnonzero(self.starts == match.start())
            if hits.size:
                return int(self.addresses[hits[0]])
        return None

    def named(self, name: str, module: str = "") -> list[int]:
        """Addresses of the symbols of a name, in a module or (empty) the kernel itself."""
        sought, found = name.encode(), []
        at = self.text.find(sought)
        while at >= 0:
            behind = self.text[at + len(sought) : at + len(sought) + 1]
            if behind in _BEHIND_NAME:
                found += self._starting_at(at)
            at = self.text.find(sought, at + 1)
        wanted = f"[{module}]" if module else ""
        return [int(self.addresses[n]) for n in sorted(found) if self._module(n) == wanted]

    def _starting_at(self, place: int) -> list[int]:
        """Numbers of the symbols whose name begins at a place of the text."""
        order, starts = self._by_start
        first, last = np.searchsorted(starts, [place, place + 1])
        return [int(n) for n in order[first:last]]

    @cached_property
    def _by_start(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.starts, kind="stable")
        return order, self.starts[order]

    def _module(self, index: int) -> str:
        return self.name(index).partition(" ")[2]

    def _ends_module(self, index: int) -> bool:
        """Whether no symbol of the same module lies behind this one (the kernel is none)."""
        module = self._module(index)
        after = int(np.searchsorted(self.addresses, self.addresses[index], side="right"))
        return bool(module) and (after == len(self) or self._module(after) != module)

    def _shown(self, index: int, offset: int) -> str:
        name, space, module = self.name(index).partition(" ")
        return f"{name}+{offset:#x}{space}{module}"


class Landmarks(NamedTuple):
    """By what the symbols of a file are compared with those of a running kernel.

    Attributes
    ----------
    marks
        Address of each symbol that marks where the kernel begins.
    sample
        Address and name of some symbols.
    """

    marks: dict[str, int]
    sample: list[tuple[int, str]]

    @classmethod
    def of(cls, symbols: Symbols) -> Landmarks:
        """Those of a table."""
        found = {mark: symbols.named(mark) for mark in _MARKS}
        picked = np.linspace(0, len(symbols) - 1, min(len(symbols), _SAMPLE)).astype(np.int64)
        sample = [(int(symbols.addresses[at]), symbols.name(at)) for at in picked.tolist()]
        return cls({mark: at[0] for mark, at in found.items() if at}, sample)
