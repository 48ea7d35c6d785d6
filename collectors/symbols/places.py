"""Functions, files, lines and inlines of a capture's call sites.

A call site is known by its return address, or by a text such as ``kmap+0x40/0x70 [hog]``. The
vmlinux says what is there: for an address before, which is in the call (a return address may be in
the next line, or in another inline). KASLR is undone by what both tables of symbols call ``_text``;
in a module's file a site is found by its symbol, wherever the module was loaded.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from collectors.dwarf.debug import DebugFile, Frame
from collectors.dwarf.elf import ElfFile
from collectors.errors import HmtraceError
from collectors.symbols.kept import frames_of, kernel_sizes, landmarks_of
from collectors.symbols.table import Landmarks, Symbols

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from collectors.dwarf.sizes import KernelSizes

_ELF: Final = b"\x7fELF"
_SITE: Final = re.compile(
    r"(?P<name>[^\s+/\[\]]{1,256})(?:\+0x(?P<offset>[0-9a-f]{1,8}))?(?:/0x(?P<size>[0-9a-f]{1,8}))?"
    r"(?:\s*\[(?P<module>[^\s\]]{1,64})\])?"
)
_ADDRESS: Final = re.compile(r"0x([0-9a-f]{1,16})")
_MODULE: Final = re.compile(
    r"^(\S{1,64}) (\d{1,9}) \S{1,9} \S{1,4096} \S{1,16} 0x([0-9a-f]{1,16})\b", re.MULTILINE
)
_KNOWN_FILES: Final = {"vfree": "mm/vmalloc.c", "kmap_high": "mm/highmem.c"}
"""Functions of the kernel, and where they are in its source."""
_ALIKE: Final = 0.8
"""Share of a sample of symbols that has to lie where the capture has it."""
_FIRST_BASE: Final = 1 << 24
_PAGE: Final = 1 << 12
_MOST_FILES: Final = 200_000
"""Files that are looked through for those of modules; a kernel has some 4000."""


class Spot(NamedTuple):
    """A call site as text: symbol, bytes behind it, its size and module where they are told."""

    name: str
    offset: int
    size: int | None
    module: str


class SourcePlace(NamedTuple):
    """Where a call site is.

    Attributes
    ----------
    symbol
        Function, as the symbol table has it; empty: not known.
    module
        Empty: in the kernel itself.
    address
        The return address in the capture; None: not known.
    frames
        The functions of the source that it is in, the innermost first; the last is the symbol's.
        None: no debugging information has it.
    offset
        Bytes behind the symbol.
    """

    symbol: str
    module: str
    address: int | None
    frames: tuple[Frame, ...]
    offset: int = 0

    @property
    def text(self) -> str:
        """The site by its symbol, as the event table has it; empty where that is not known."""
        if not self.symbol:
            return ""
        return f"{self.symbol}+{self.offset:#x}{f' [{self.module}]' if self.module else ''}"


class ModuleRange(NamedTuple):
    """A module's addresses: its first, and behind its last."""

    start: int
    end: int
    name: str


def spot_of(text: str) -> Spot | None:
    """Take a call site's text apart; None: it is an address, or no symbol.

    Examples
    --------
    >>> spot_of("dir_get_page+0x32/0x90 [minix]")
    Spot(name='dir_get_page', offset=50, size=144, module='minix')
    >>> spot_of("kmap_high")
    Spot(name='kmap_high', offset=0, size=None, module='')
    >>> spot_of("0xc1234567")
    """
    match = _SITE.fullmatch(text.strip())
    if match is None or _ADDRESS.fullmatch(match["name"]):
        return None
    size = None if match["size"] is None else int(match["size"], 16)
    return Spot(match["name"], int(match["offset"] or "0", 16), size, match["module"] or "")


def loaded_modules(text: str) -> list[ModuleRange]:
    """Where modules lie, by /proc/modules (kernel/module/procfs.c: m_show).

    Examples
    --------
    >>> loaded_modules("minix 32768 1 - Live 0xf7926000")
    [ModuleRange(start=4153565184, end=4153597952, name='minix')]
    """
    found = []
    for name, size, start in _MODULE.findall(text):
        begin = int(start, 16)
        if begin:  # kptr_restrict leaves zeros
            found.append(ModuleRange(begin, begin + int(size), name))
    return found


class SiteFinder:
    """Answers where call sites are.

    Parameters
    ----------
    symbols
        The capture's kallsyms; may be empty.
    vmlinux
        The kernel's ELF file, or a table of symbols (System.map, kallsyms); None: only `symbols`
        are there.
    later
        kallsyms of the capture's end, for modules that were loaded meanwhile; may be empty.
    modules
        Where modules lay at its end: an address that has no symbol is at least in one.

    Attributes
    ----------
    notes
        What could not be found out, in words.

    Raises
    ------
    HmtraceError
        The file cannot be read, is damaged, has no debugging information, or is of another kernel.
    """

    def __init__(
        self,
        symbols: Symbols,
        vmlinux: Path | None,
        later: Symbols | None = None,
        modules: Sequence[ModuleRange] = (),
    ) -> None:
        self.notes: list[str] = []
        self._modules = modules
        self._symbols = symbols
        self._later = Symbols.empty() if later is None else later
        self._file: DebugFile | None = None
        self._slide = 0
        self._sizes: dict[int, int] | None = None
        self._folder = None if vmlinux is None else vmlinux.parent
        self._found_files: dict[str, Path] | None = None
        self._addresses: dict[str, int | None] = {}
        if vmlinux is None:
            return
        if not _is_elf(vmlinux):
            self._take_map(vmlinux)
            return
        self._file = DebugFile(vmlinux)
        if not self._file.has_information:
            raise HmtraceError(
                "has no debugging information",
                source=str(vmlinux),
                hint="give the vmlinux of the kernel's -dbg package, or one that was not stripped",
            )
        if len(self._symbols):
            self._slide = self._slid(landmarks_of(self._file), vmlinux)
        else:
            self.notes.append(
                "the capture has no kallsyms: the kernel is taken to lie where the file has it"
            )
            self._symbols = Symbols.from_elf(self._file.file)

    def _take_map(self, path: Path) -> None:
        """Names of a System.map, where the capture has none."""
        told = Symbols.from_kallsyms(path, str(path))
        if not len(told):
            raise HmtraceError(
                "is neither an ELF file nor a table of symbols",
                source=str(path),
                hint="give a vmlinux with debugging information, or a System.map",
            )
        if len(self._symbols):
            self._slid(Landmarks.of(told), path)
        else:
            self._symbols = told

    def _slid(self, own: Landmarks, path: Path) -> int:
        """Bytes that KASLR moved the kernel by, from a file's symbols and the capture's."""
        slide = 0
        for mark, there in own.marks.items():
            if here := self._symbols.named(mark):
                slide = here[0] - there
                break
        moved = np.array([(at + slide) % (1 << 64) for at, _ in own.sample], np.uint64)
        names = self._symbols.lookup_many(moved)
        alike = sum(
            name.partition("+")[0] == known or name.endswith("+0x0")
            for name, (_, known) in zip(names, own.sample, strict=True)
        )
        if alike < _ALIKE * len(names):
            raise HmtraceError(
                f"is of another kernel: {len(names) - alike} of {len(names)} symbols are not "
                "where the capture's kallsyms has them",
                source=str(path),
                hint="give the file of the very build; `hmtrace info` shows the kernel's release",
            )
        return slide

    def sizes(self) -> KernelSizes | None:
        """What the vmlinux says of the pool's size and others; None: there is none.

        Raises
        ------
        HmtraceError
            Where the debugging information is damaged.
        """
        return None if self._file is None else kernel_sizes(self._file)

    # Of texts -------------------------------------------------------------------------------

    def address_of(self, text: str) -> int | None:
        """Return address of a call site that is known by its text; None where it is not certain."""
        if text not in self._addresses:
            self._addresses[text] = self._address_of(text)
        return self._addresses[text]

    def _address_of(self, text: str) -> int | None:
        if (match := _ADDRESS.fullmatch(text)) is not None:
            return int(match[1], 16)
        spot = spot_of(text)
        if spot is None:
            return None
        starts = sorted(set(self._symbols.named(spot.name, spot.module)))
        if len(starts) > 1 and spot.size is not None:
            starts = [start for start in starts if self._size(start) == spot.size]
        return starts[0] + spot.offset if len(starts) == 1 else None

    def _size(self, address: int) -> int | None:
        """Bytes up to the symbol behind the one at an address."""
        after = int(np.searchsorted(self._symbols.addresses, np.uint64(address), side="right"))
        if after >= len(self._symbols):
            return None
        return int(self._symbols.addresses[after]) - address

    # Of addresses ---------------------------------------------------------------------------

    def of(self, texts: Iterable[str]) -> dict[str, SourcePlace]:
        """Where call sites are.

        Parameters
        ----------
        texts
            As the event table has them in `site`, or ``0x…`` addresses.

        Raises
        ------
        HmtraceError
            Where the debugging information is damaged.
        """
        places = {text: self._named(text) for text in set(texts)}
        if self._file is None:
            return places
        by_module: dict[str, dict[str, Spot]] = {}
        for text, (place, spot) in {t: (p, self._spot(t)) for t, p in places.items()}.items():
            if spot is not None:
                by_module.setdefault(place.module, {})[text] = spot
        root = self._root() if by_module else ""
        for module, spots in by_module.items():
            found = self._in_module(module, spots) if module else self._in_kernel(places, spots)
            for text, frames in found.items():
                shown = tuple(f._replace(file=f.file.removeprefix(root)) for f in frames)
                places[text] = places[text]._replace(
                    frames=_with_symbol(shown, places[text].symbol)
                )
        return places

    def _root(self) -> str:
        """What stands before the names of the kernel's files: its source was built elsewhere."""
        for name, file in _KNOWN_FILES.items():
            for start in self._symbols.named(name)[:1]:
                address = start - self._slide
                frames = {} if self._file is None else frames_of(self._file, [address])
                for frame in frames.get(address, ())[-1:]:
                    if frame.file.endswith(f"/{file}"):
                        return frame.file.removesuffix(file)
        return ""

    def _spot(self, text: str) -> Spot | None:
        """A call site by its symbol; None where it has none."""
        spot, address = spot_of(text), self.address_of(text)
        if spot is None and address is not None:
            name = self._symbols.lookup(address - 1) or self._later.lookup(address - 1)
            spot = spot_of(name)
            return None if spot is None else spot._replace(offset=spot.offset + 1)
        return spot

    def _named(self, text: str) -> SourcePlace:
        """A call site by its text and the symbols alone."""
        spot, address = self._spot(text), self.address_of(text)
        if spot is not None:
            return SourcePlace(spot.name, spot.module, address, (), spot.offset)
        here = (m.name for m in self._modules if address and m.start < address <= m.end)
        return SourcePlace("", next(here, ""), address, ())

    def _in_kernel(
        self, places: Mapping[str, SourcePlace], spots: Iterable[str]
    ) -> dict[str, tuple[Frame, ...]]:
        """Frames of the kernel's own call sites."""
        if self._file is None:
            return {}
        addresses = {text: places[text].address for text in spots}
        call = self._file.file.call_before
        before = {text: call(a) - self._slide for text, a in addresses.items() if a is not None}
        found = frames_of(self._file, before.values())
        return {text: found[address] for text, address in before.items()}

    def _in_module(self, module: str, spots: Mapping[str, Spot]) -> dict[str, tuple[Frame, ...]]:
        """Frames of a module's call sites, by its own symbols: where it was loaded is no matter."""
        path = self._file_of(module)
        if path is None:
            self.notes.append(f"no debugging file of module {module} lies beside the vmlinux")
            return {}
        bases = _laid_out(ElfFile(path))
        file = DebugFile(path, bases)
        symbols = _module_symbols(file.file, bases)
        before = {}
        for text, spot in spots.items():
            starts = symbols.get(spot.name, {})
            fitting = [at for at, size in starts.items() if spot.offset <= size]
            if len(fitting) == 1:
                before[text] = file.file.call_before(fitting[0] + spot.offset)
        if spots and not before:
            self.notes.append(f"{path.name}: its symbols are not those of the capture's {module}")
        found = frames_of(file, before.values())
        return {text: found[address] for text, address in before.items()}

    def _file_of(self, module: str) -> Path | None:
        """The debugging file of a module beside the vmlinux, or in a folder below."""
        if self._found_files is None:
            self._found_files = _module_files(self._folder) if self._folder else {}
        return self._found_files.get(module)


def _with_symbol(frames: tuple[Frame, ...], symbol: str) -> tuple[Frame, ...]:
    """The outermost function by its symbol where no entry names it."""
    if frames and not frames[-1].function:
        return (*frames[:-1], frames[-1]._replace(function=symbol))
    return frames


def _is_elf(path: Path) -> bool:
    from collectors.opened import opened

    try:
        if path.exists() and not path.is_file():
            raise HmtraceError("is no file", source=str(path))
        with opened(path) as file:
            return file.read(len(_ELF)) == _ELF
    except OSError as error:
        msg = f"cannot be read ({error.strerror or error})"
        raise HmtraceError(msg, source=str(path)) from error


def _module_files(folder: Path) -> dict[str, Path]:
    """Debugging files of modules in a folder, in those below, and in its modules' own place.

    A -dbg package has ``boot/vmlinux-RELEASE`` and ``lib/modules/RELEASE/kernel/…`` side by side; a
    build has all below one folder. Links are not followed.
    """
    found: dict[str, Path] = {}
    places = [folder]
    if folder.name == "boot":
        places.append(folder.parent / "lib" / "modules")
    seen = 0
    for place in places:
        for here, _, names in os.walk(place):
            for name in names:
                seen += 1
                for ending in (".ko.debug", ".ko"):
                    if name.endswith(ending):
                        stem = name.removesuffix(ending).replace("-", "_")
                        found.setdefault(stem, type(folder)(here) / name)
                        break
            if seen > _MOST_FILES:
                return found
    return found


def _laid_out(elf: ElfFile) -> dict[str, int]:
    """An address of its own for each section of code of a module, which has none in the file."""
    bases: dict[str, int] = {}
    at = _FIRST_BASE
    for section in elf.sections:
        if section.is_code:
            bases.setdefault(section.name, at)
            at += -(-section.size // _PAGE) * _PAGE + _PAGE
    return bases


def _module_symbols(elf: ElfFile, bases: Mapping[str, int]) -> dict[str, dict[int, int]]:
    """Address and size of each function of a module, by name."""
    names, rows = elf.names(), elf.symbols()
    found: dict[str, dict[int, int]] = {}
    for at, value, size, section in zip(
        rows["name"].tolist(), elf.values(rows).tolist(), rows["size"].tolist(),
        rows["section"].tolist(), strict=True,
    ):  # fmt: skip
        base = bases.get(elf.sections[section].name) if section < len(elf.sections) else None
        if base is None or not at < len(names) or not size:
            continue
        name = names[at : names.find(b"\0", at)].decode("utf-8", "replace")
        found.setdefault(name, {})[base + value] = size
    return found
