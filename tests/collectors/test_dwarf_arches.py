"""ELF files of other architectures, byte orders and compilers, beside what their addr2line says."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from collectors.dwarf.debug import DebugFile, Frame
from collectors.dwarf.sizes import KernelSizes, sizes_of
from collectors.symbols.places import SiteFinder
from collectors.symbols.table import Symbols

HERE = Path(__file__).parent / "elf"
TOLD = json.loads(lzma.decompress((HERE / "arches.json.xz").read_bytes()))
ANSWERS, CALLS = TOLD["frames"], TOLD["calls"]
VMLINUX = sorted(name for name in ANSWERS if name.startswith("vmlinux"))
Told = tuple[str, str, int | None]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arches")
    for name in ANSWERS:
        (folder / name).write_bytes(lzma.decompress((HERE / f"{name}.xz").read_bytes()))
    return folder


def bases_of(name: str) -> dict[str, int]:
    """Where the sections of a module were put when addr2line was asked."""
    if name.startswith("vmlinux"):
        return {}
    return {section: start for section, (start, _, _) in ANSWERS[name].items()}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_instruction_has_the_frames_that_addr2line_gives(files: Path, name: str) -> None:
    bases = bases_of(name)
    told = {
        start + step * at: [(f, p.removeprefix("/build/"), n) for f, p, n in frames]
        for start, step, answers in ANSWERS[name].values()
        for at, frames in enumerate(answers)
    }
    found = DebugFile(files / name, bases).frames(told)
    wrong = {
        hex(address): (mine, frames)
        for address, frames in told.items()
        for mine in [[tuple(frame) for frame in found[address]]]
        if mine != frames and not is_padding(mine, frames)
    }
    assert wrong == {}
    assert sum(len(frames) > 2 for frames in found.values()) > 20


def is_padding(mine: list[Told], theirs: list[Told]) -> bool:
    """Behind the code of a function there is none; addr2line names the symbol before."""
    return len(theirs) == 1 and (not mine or mine == [("", *theirs[0][1:])])


@pytest.mark.parametrize("name", VMLINUX)
def test_the_sizes_of_a_kernel(files: Path, name: str) -> None:
    assert sizes_of(DebugFile(files / name)) == KernelSizes(1024, 8, 17, 68)


@pytest.mark.parametrize("name", VMLINUX)
def test_a_return_address_is_of_its_call(files: Path, name: str) -> None:
    """Thumb code has bit 0 set in it; on MIPS the delay slot lies between."""
    (address,) = CALLS[name]
    finder = SiteFinder(Symbols.empty(), files / name)
    place = finder.of([f"{address:#x}"])[f"{address:#x}"]
    assert place.symbol == "read_dir"
    assert place.frames == (Frame("kmap", "list.h", 9), Frame("read_dir", "user.c", 20))


@pytest.mark.parametrize("name", VMLINUX)
def test_symbols_are_even(files: Path, name: str) -> None:
    """As kallsyms has them, of Thumb code too."""
    own = Symbols.from_elf(DebugFile(files / name).file)
    starts = [own.address_of(name) for name in ("kmap_high", "read_dir", "native_set_fixmap")]
    assert all(start and start >= 0xC1000000 for start in starts)
    assert "i386" in name or all(start and start % 2 == 0 for start in starts)
