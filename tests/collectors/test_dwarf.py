"""Functions, lines and inlines of addresses, beside what addr2line says of the same files."""

from __future__ import annotations

import json
import lzma
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from collectors.dwarf.debug import DebugFile, Frame
from collectors.errors import HmtraceError

HERE = Path(__file__).parent / "elf"
BUILD = "/build/"
FILES = ("vmlinux-dwarf4", "vmlinux-dwarf5", "hog-dwarf4.ko", "hog-dwarf5.ko")
BASES = {".text": 0xF8000000, ".init.text": 0xF9000000}
ANSWERS = json.loads(lzma.decompress((HERE / "answers.json.xz").read_bytes()))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    for name in FILES:
        content = lzma.decompress((HERE / f"{name}.xz").read_bytes())
        (folder / name).write_bytes(content)
    return folder


def expected(name: str) -> dict[int, list[tuple[str, str, int | None]]]:
    """What addr2line said, by address."""
    found = {}
    for section, (start, answers) in ANSWERS[name].items():
        base = BASES[section] if name.endswith(".ko") else start
        for at, frames in enumerate(answers):
            found[base + at] = [(f, p.removeprefix(BUILD), line) for f, p, line in frames]
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_byte_has_the_frames_that_addr2line_gives(files: Path, name: str) -> None:
    told = expected(name)
    found = DebugFile(files / name, BASES).frames(told)
    wrong = {
        hex(address): (list(map(tuple, found[address])), frames)
        for address, frames in told.items()
        if list(map(tuple, found[address])) != frames and not _is_padding(frames)
    }
    assert wrong == {}
    assert sum(len(frames) > 1 for frames in found.values()) > 100


def _is_padding(frames: list[tuple[str, str, int | None]]) -> bool:
    """Between functions: addr2line names the symbol before, as no function has it."""
    return len(frames) == 1


def test_between_functions_there_is_none(files: Path) -> None:
    found = DebugFile(files / "vmlinux-dwarf5").frames([0xC0FFFFFF, 0xD0000000, 0])
    assert found == {0xC0FFFFFF: (), 0xD0000000: (), 0: ()}


def test_the_inlines_of_a_call(files: Path) -> None:
    """kmap_atomic_prot() is inlined four deep."""
    told = expected("vmlinux-dwarf5")
    address = next(a for a, frames in told.items() if len(frames) == 5)
    assert DebugFile(files / "vmlinux-dwarf5").frames([address])[address] == (
        Frame("kmap_atomic_prot", "list.h", 14),
        Frame("kmap_atomic", "list.h", 19),
        Frame("zap_pte", "user.c", 4),
        Frame("zap_pmd", "user.c", 11),
        Frame("unmap_range", "user.c", 16),
    )


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("more", [(), ("-O1", "-gno-as-loc-support"), ("-ffunction-sections",)])
def test_what_this_machine_s_compiler_makes(
    tmp_path: Path, version: int, more: tuple[str, ...]
) -> None:
    """64-bit addresses, relocations with addends."""
    if not shutil.which("gcc") or not shutil.which("addr2line"):
        pytest.skip("no gcc, or no addr2line")
    made = tmp_path / "user.o"
    command = ["gcc", "-O2", "-g", f"-gdwarf-{version}", "-ffreestanding", *more, "-c", "user.c"]
    built = subprocess.run([*command, "-o", made], cwd=HERE, check=False, capture_output=True)
    if built.returncode:
        pytest.skip("gcc does not know an option")
    headers = subprocess.run(["readelf", "-SW", made], check=True, capture_output=True, text=True)
    pattern = r"\] (\.\S+) +PROGBITS +\w+ \w+ (\w+) \w+ +AX"
    sections = {name: int(size, 16) for name, size in re.findall(pattern, headers.stdout)}
    bases = {name: 0xFFFFFFFF_A0000000 + (n << 16) for n, name in enumerate(sections)}
    file = DebugFile(made, bases)
    for section, size in sections.items():
        wanted = range(0, size, 3)
        said = subprocess.run(
            ["addr2line", "-f", "-i", "-a", "-j", section, "-e", made],
            input="\n".join(map(hex, wanted)), check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        found = file.frames(bases[section] + at for at in wanted)
        told = re.split(r"^0x0*([0-9a-f]+)\n", said, flags=re.MULTILINE)[1:]
        for at, words in zip(told[::2], told[1::2], strict=True):
            functions = words.splitlines()[::2]
            lines = [re.search(r":(\d+)", line) for line in words.splitlines()[1::2]]
            frames = found[bases[section] + int(at, 16)]
            if len(functions) > 1:
                assert [frame.function for frame in frames] == functions
                assert [frame.line for frame in frames] == [int(m[1]) for m in lines if m]


def test_the_build_id(files: Path) -> None:
    file = DebugFile(files / "vmlinux-dwarf5").file
    assert file.build_id == "68954dd51aa4f06fddfb040e87be7af30d800c0d"
    assert (file.bits, file.big, file.relocatable) == (32, False, False)
    assert DebugFile(files / "hog-dwarf5.ko").file.relocatable


# Damage ----------------------------------------------------------------------------------------


def outcome(path: Path) -> str:
    """What is said of a file: an error's words, or nothing."""
    found: list[HmtraceError] = []
    try:
        DebugFile(path, BASES).frames([0xC1000040, 0xC1000090, 0xF8000040, 0xF9000010])
    except HmtraceError as error:
        found.append(error)
    assert all((error.exit_code, error.source) == (3, str(path)) for error in found)
    return found[0].message if found else ""


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_cut_off(files: Path, tmp_path: Path, name: str) -> None:
    whole = (files / name).read_bytes()
    path = tmp_path / "cut"
    said = set()
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        said.add(outcome(path))
    assert "" not in said
    assert said >= {"is no ELF file"}


@pytest.mark.parametrize("name", FILES)
def test_files_with_damaged_bytes(files: Path, tmp_path: Path, name: str) -> None:
    """Each is refused with its offset, or gives an answer; none takes long."""
    whole = (files / name).read_bytes()
    draw = random.Random(name)
    path = tmp_path / "damaged"
    begin = time.process_time()
    said = set()
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 3, 20))):
            at = draw.randrange(len(data))
            data[at] = draw.choice((0, 0xFF, 0x7F, 0x80, draw.randrange(256)))
        path.write_bytes(data)
        said.add(outcome(path))
    assert len(said) > 5
    assert time.process_time() - begin < 120  # some 5; a loop without an end is meant


def patched(files: Path, path: Path, section: str, at: int, new: bytes) -> Path:
    """A vmlinux with other bytes in a section."""
    data = bytearray((files / "vmlinux-dwarf5").read_bytes())
    elf = DebugFile(files / "vmlinux-dwarf5").file
    here = elf.offset_of(section, at)
    data[here : here + len(new)] = new
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("section", "at", "new", "words"),
    [
        (".debug_info", 0, b"\xf0\xff\xff\x7f", r"it claims 2147483632 bytes"),
        (".debug_info", 4, b"\x09\x00", r"it is of DWARF 9, which is not known"),
        (".debug_info", 7, b"\x03", r"it has addresses of 3 bytes"),
        (".debug_info", 8, b"\xff\xff\xff\x7f", r"\.debug_abbrev is damaged"),
        (".debug_aranges", 0, b"\xff\xff\xff\x70", r"it claims 1895825407 bytes"),
        (".debug_aranges", 6, b"\xff\xff\xff\x70", r"it names a unit that is not there"),
        (".debug_line", 4, b"\x33", r"it has a line program of version 51"),
        (".debug_line", 8, b"\xff\xff\xff\x70", r"it has a header longer than its line program"),
        (".debug_line", 16, b"\0", r"it has a line program without special operations"),
        (".debug_abbrev", 0, b"\xff" * 9, r"it has an abbreviation that is cut off"),
    ],
)
def test_what_cannot_be_is_told_with_its_offset(
    files: Path, tmp_path: Path, section: str, at: int, new: bytes, words: str
) -> None:
    path = patched(files, tmp_path / "vmlinux", section, at, new)
    with pytest.raises(HmtraceError, match=words) as caught:
        DebugFile(path).frames(range(0xC1000000, 0xC1000170, 5))
    assert caught.value.offset
    assert caught.value.hint


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(HmtraceError, match="cannot be read"):
            DebugFile(path)
