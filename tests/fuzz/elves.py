"""ELF files with debugging information: those of the tests, damaged where it matters."""

from __future__ import annotations

import functools
import lzma
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.case import Case

if TYPE_CHECKING:
    import random

_HERE: Final = Path(__file__).parents[1] / "collectors" / "elf"
SITES: Final = (
    "read_dir+0x20/0x90", "unmap_range+0x40", "kmap_high", "0xc1000090", "0xc10000a0",
    "init_dir+0x8 [hog]", "unmap_range+0x30/0x170 [hog]",
)  # fmt: skip
"""Call sites that are asked for."""
_WORDS: Final = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xf0\xff\xff\xff",
    b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\x80" * 9 + b"\x01", b"\xff" * 12, b"\x01\0\0\0",
)  # fmt: skip
"""What lengths, offsets and LEB128 numbers are damaged to."""


@functools.cache
def _pairs() -> list[tuple[bytes, bytes]]:
    """vmlinux and module of each architecture and compiler."""
    found = []
    for path in sorted(_HERE.glob("vmlinux-*.xz")):
        kind = path.name.removeprefix("vmlinux-").removesuffix(".xz")
        module = next(p for n in (kind, f"{kind}.ko") if (p := _HERE / f"hog-{n}.xz").exists())
        found.append((lzma.decompress(path.read_bytes()), lzma.decompress(module.read_bytes())))
    return found


@functools.cache
def _places(whole: bytes) -> list[tuple[int, int]]:
    """Where a file's parts are: its header, sections, and the table of them."""
    from collectors.dwarf.elf import ElfFile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(whole)
        sections = ElfFile(path).sections
    table = len(whole) - 40 * len(sections)
    named = [(s.offset, s.offset + s.size) for s in sections if s.size and s.kind != 8]
    return [(0, 52), (max(table, 0), len(whole)), *named]


def elf_seeds() -> list[Case]:
    """Each vmlinux with its module."""
    return [
        Case("elf", {"vmlinux": vmlinux, "fs/hog.ko": module}, "vmlinux", "elf")
        for vmlinux, module in _pairs()
    ]


def make_elf(rng: random.Random) -> Case:
    """One with damage in the parts of a file, every part as often as another."""
    files = dict(zip(("vmlinux", "fs/hog.ko"), rng.choice(_pairs()), strict=True))
    name = rng.choice(list(files))
    made = bytearray(files[name])
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        start, stop = rng.choice(_places(files[name]))
        at = rng.randrange(start, max(stop, start + 1))
        word = rng.choice(_WORDS) if rng.random() < 0.6 else rng.randbytes(rng.choice((1, 1, 4)))
        made[at : at + len(word)] = word
    if rng.random() < 0.05:
        del made[rng.randrange(len(made)) :]
    files[name] = bytes(made)
    return Case("elf", files, "vmlinux", "elf")
