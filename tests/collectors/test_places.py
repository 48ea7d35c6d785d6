"""Where call sites are, by kallsyms and files with debugging information."""

from __future__ import annotations

import lzma
import stat
import struct
import tempfile
from pathlib import Path

import pytest

from collectors.compiled import store
from collectors.dwarf.debug import DebugFile, Frame
from collectors.dwarf.elf import ElfFile
from collectors.errors import HmtraceError
from collectors.symbols import kept, places
from collectors.symbols.kept import frames_of
from collectors.symbols.places import SiteFinder, loaded_modules, spot_of
from collectors.symbols.table import Symbols

HERE = Path(__file__).parent / "elf"
UNMAP = (
    Frame("kmap_atomic_prot", "list.h", 15),
    Frame("kmap_atomic", "list.h", 19),
    Frame("zap_pte", "user.c", 4),
    Frame("zap_pmd", "user.c", 11),
    Frame("unmap_range", "user.c", 16),
)
"""Of the first call of local_prot() in unmap_range()."""
READ = (Frame("kmap", "list.h", 9), Frame("read_dir", "user.c", 20))
"""Of the call of kmap_high() in read_dir()."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """vmlinux, and its module in a folder below; nothing is kept yet."""
    vmlinux = tmp_path / "first"
    vmlinux.write_bytes(lzma.decompress((HERE / "vmlinux-dwarf5.xz").read_bytes()))
    DebugFile(vmlinux).frames([0xC1000040])  # with the loops that were compiled before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    store._is_usable.cache_clear()
    place = tmp_path / "kernel"
    (place / "fs" / "hog").mkdir(parents=True)
    for name, path in (
        ("vmlinux-dwarf5", place / "vmlinux"),
        ("hog-dwarf5.ko", place / "fs" / "hog" / "hog-dir.ko.debug"),
    ):
        path.write_bytes(lzma.decompress((HERE / f"{name}.xz").read_bytes()))
    return place


def calls(path: Path) -> dict[str, int]:
    """Return addresses of the first calls in two functions, as i386 has them (e8 and 4 bytes)."""
    file = DebugFile(path)
    own = Symbols.from_elf(file.file)
    text = next(s for s in file.file.sections if s.name == ".text")
    code = file.file.section(".text").tobytes()
    found = {}
    for caller, called in (("unmap_range", "local_prot"), ("read_dir", "kmap_high")):
        at = (own.address_of(caller) or 0) - text.address
        while True:
            at = code.index(b"\xe8", at) + 5
            target = text.address + at + struct.unpack_from("<i", code, at - 4)[0]
            if target == own.address_of(called):
                break
        found[caller] = text.address + at
    return found


def kallsyms(path: Path, slide: int = 0) -> Symbols:
    """kallsyms of a kernel that was moved."""
    own = Symbols.from_elf(DebugFile(path).file)
    start = 0xC1000000
    lines = [f"{start + slide:08x} T _text"]
    lines += [f"{int(a) + slide:08x} t {own.name(n)}" for n, a in enumerate(own.addresses)]
    return Symbols.from_kallsyms("\n".join(lines).encode() + b"\n")


def test_the_calls_of_a_kernel_that_was_moved(folder: Path) -> None:
    """The line of the call, not of what comes behind it; `_text` is not in this vmlinux."""
    vmlinux, sites = folder / "vmlinux", calls(folder / "vmlinux")
    own = Symbols.from_elf(DebugFile(vmlinux).file)
    at = {name: sites[name] - (own.address_of(name) or 0) for name in sites}
    texts = {name: f"{name}+{at[name]:#x}/0x90" for name in sites}
    found = SiteFinder(kallsyms(vmlinux), vmlinux).of([*texts.values(), f"{sites['read_dir']:#x}"])
    assert found[texts["unmap_range"]].frames == UNMAP
    assert found[texts["read_dir"]][:4] == ("read_dir", "", sites["read_dir"], READ)
    assert found[f"{sites['read_dir']:#x}"] == found[texts["read_dir"]]


def test_kaslr_is_undone(folder: Path) -> None:
    vmlinux, slide = folder / "vmlinux", 0x3400000
    _with_mark(vmlinux)
    places = SiteFinder(kallsyms(vmlinux, slide), vmlinux)
    site = f"{calls(vmlinux)['unmap_range'] + slide:#x}"
    assert places.of([site])[site].frames == UNMAP
    assert places.notes == []


def _with_mark(path: Path) -> None:
    """Call the first symbol of the code _text, as a kernel does."""
    content = path.read_bytes()
    assert content.count(b"\0take_slot\0") == 2  # of symbols, and of the debugging information
    file = DebugFile(path).file
    at = next(s.offset for s in file.sections if s.name == ".strtab")
    at = content.index(b"\0take_slot\0", at)
    path.write_bytes(content[: at + 1] + b"_text\0\0\0\0" + content[at + 10 :])


def test_another_kernel_is_refused(folder: Path) -> None:
    vmlinux = folder / "vmlinux"
    other = Symbols.from_kallsyms(b"c1000000 T _text\nc1000010 T kmap\nc1000100 T kunmap\n")
    with pytest.raises(HmtraceError, match=r"is of another kernel: \d of \d symbols") as caught:
        SiteFinder(other, vmlinux)
    assert caught.value.exit_code == 3


def test_a_site_of_a_module_is_found_by_its_symbol(folder: Path) -> None:
    """Wherever it was loaded: kallsyms may have been read before."""
    vmlinux = folder / "vmlinux"
    path = folder / "fs/hog/hog-dir.ko.debug"
    module = ElfFile(path)
    names = Symbols.from_elf(module)
    text = path.read_bytes()[module.offset_of(".text", 0) :]
    start = (names.address_of("unmap_range") or 0) % (1 << 20)
    offset = text.index(b"\xe8", start) + 5 - start  # relocated: its target is not known
    places = SiteFinder(kallsyms(vmlinux), vmlinux)
    site = f"unmap_range+{offset:#x}/0xc0 [hog_dir]"
    found = places.of([site, "other+0x10/0x20 [ext4]", "gone+0x10/0x20 [hog_dir]"])
    assert found[site][:4] == ("unmap_range", "hog_dir", None, UNMAP)
    assert found["gone+0x10/0x20 [hog_dir]"].frames == ()
    assert found["other+0x10/0x20 [ext4]"][:4] == ("other", "ext4", None, ())
    assert places.notes == ["no debugging file of module ext4 lies beside the vmlinux"]


def test_symbols_alone_name_the_function() -> None:
    told = Symbols.from_kallsyms(b"c1000000 T _text\nc1000010 T kmap\nc1000100 T kunmap\n")
    places = SiteFinder(told, None)
    assert places.of(["0xc1000020"])["0xc1000020"][:4] == ("kmap", "", 0xC1000020, ())
    assert places.of(["0xc1000020"])["0xc1000020"].text == "kmap+0x10"
    assert places.of(["kmap+0x10/0xf0"])["kmap+0x10/0xf0"][:4] == ("kmap", "", 0xC1000020, ())
    assert places.of(["?"])["?"].address is None


def test_modules_that_were_loaded_meanwhile_are_named() -> None:
    """By kallsyms of the end where there is one, else by where /proc/modules has them."""
    first = Symbols.from_kallsyms(b"c1000000 T _text\nc1000010 T kmap\nc1000100 T kunmap\n")
    modules = loaded_modules("minix 32768 1 - Live 0xf7926000\nhidden 4096 0 - Live 0x00000000\n")
    site = "0xf7929c10"
    assert SiteFinder(first, None, None, modules).of([site])[site][:4] == (
        "", "minix", 0xF7929C10, (),
    )  # fmt: skip
    later = Symbols.from_kallsyms(b"f7929bc0 t dir_get_page\t[minix]\nf792a000 t z\t[minix]\n")
    assert SiteFinder(first, None, later, modules).of([site])[site][:4] == (
        "dir_get_page", "minix", 0xF7929C10, (),
    )  # fmt: skip
    outside = "0xf7930000"
    assert SiteFinder(first, None, later, modules).of([outside])[outside].module == ""


def test_functions_of_one_name_are_told_apart_by_their_size() -> None:
    told = Symbols.from_kallsyms(b"c1000000 T a\nc1000010 t put\nc1000040 t put\nc1000100 T z\n")
    places = SiteFinder(told, None)
    assert places.address_of("put+0x4") is None
    assert places.address_of("put+0x4/0x30") == 0xC1000014
    assert places.address_of("put+0x4/0xc0") == 0xC1000044


def test_a_system_map_names_addresses(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_bytes(b"c1000000 T _text\nc1000010 T kmap\nc1000100 T kunmap\n")
    places = SiteFinder(Symbols.empty(), path)
    assert places.of(["0xc1000020"])["0xc1000020"].symbol == "kmap"
    path.write_bytes(b"no symbols\n")
    with pytest.raises(HmtraceError, match="neither an ELF file nor a table of symbols"):
        SiteFinder(Symbols.empty(), path)


def test_without_kallsyms_the_file_s_addresses_hold(folder: Path) -> None:
    vmlinux = folder / "vmlinux"
    site = f"{calls(vmlinux)['read_dir']:#x}"
    places = SiteFinder(Symbols.empty(), vmlinux)
    assert places.of([site])[site].frames == READ
    assert len(places.notes) == 1


def test_a_file_without_debugging_information_is_refused(folder: Path) -> None:
    vmlinux = folder / "vmlinux"
    vmlinux.write_bytes(vmlinux.read_bytes().replace(b".debug_info\0", b".other_info\0"))
    with pytest.raises(HmtraceError, match="has no debugging information"):
        SiteFinder(Symbols.empty(), vmlinux)


@pytest.mark.parametrize(
    ("text", "spot"),
    [
        ("kmap+0x40 [hog]", ("kmap", 0x40, None, "hog")),
        ("dir_get_page.isra.0+0x50/0x90\t[minix]", ("dir_get_page.isra.0", 0x50, 0x90, "minix")),
        ("kmap_high", ("kmap_high", 0, None, "")),
        ("0xc1234567", None),
        ("(not traced)", None),
        ("", None),
    ],
)
def test_texts_of_sites(text: str, spot: tuple[str, int, int | None, str] | None) -> None:
    assert spot_of(text) == spot


# What is kept ----------------------------------------------------------------------------------


class Counted(DebugFile):
    """Counts the addresses that it is asked for."""

    asked = 0

    def frames(self, addresses):
        addresses = list(addresses)
        Counted.asked += len(addresses)
        return super().frames(addresses)


def test_answers_are_kept_by_the_build_s_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "asked", 0)
    path = folder / "vmlinux"
    first = frames_of(Counted(path), [0xC1000040, 0xC1000090])
    again = frames_of(Counted(path), [0xC1000090, 0xC10000A0])
    assert Counted.asked == 3
    assert (
        again[0xC1000090] == first[0xC1000090] == DebugFile(path).frames([0xC1000090])[0xC1000090]
    )
    (place,) = (folder.parent / "cache/hmtrace/frames").glob("dwarf-*.frames")
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    # of another build: nothing that is kept is taken for it
    content = path.read_bytes()
    here = content.index(bytes.fromhex("68954dd51aa4f06f"))
    path.write_bytes(content[:here] + bytes(8) + content[here + 8 :])
    frames_of(Counted(path), [0xC1000090])
    assert Counted.asked == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"hmtrace frames 1\n" + bytes(32), None],
)
def test_what_is_kept_and_damaged_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setattr(Counted, "asked", 0)
    path = folder / "vmlinux"
    first = frames_of(Counted(path), [0xC1000040])
    (place,) = (folder.parent / "cache/hmtrace/frames").glob("dwarf-*.frames")
    if content is None:  # whole, but of a form that this never writes
        store.keep(place.stem, b'{"c1000040": [["kmap", 7, "x"]]}', store.FRAMES)
    else:
        place.write_bytes(content)
    assert frames_of(Counted(path), [0xC1000040]) == first
    assert Counted.asked == 2


def test_a_folder_of_others_is_not_used(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "hmtrace" / "frames"
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    frames_of(DebugFile(folder / "vmlinux"), [0xC1000040])
    assert list(cache.iterdir()) == []


def test_so_many_addresses_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_ADDRESSES", 10)
    monkeypatch.setattr(Counted, "asked", 0)
    path = folder / "vmlinux"
    frames_of(Counted(path), range(0xC1000000, 0xC1000014))
    frames_of(Counted(path), range(0xC100000A, 0xC1000014))
    assert Counted.asked == 20
    frames_of(Counted(path), range(0xC1000000, 0xC1000014))
    assert Counted.asked == 30


def test_files_are_named_from_the_top_of_the_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the source was built is found by a function whose file is known."""

    def elsewhere(file: DebugFile, addresses: list[int]) -> dict[int, tuple[Frame, ...]]:
        found = frames_of(file, addresses)
        return {
            address: tuple(f._replace(file=f"build/of/it/{f.file}") for f in frames)
            for address, frames in found.items()
        }

    monkeypatch.setattr(places, "frames_of", elsewhere)
    site = f"{calls(folder / 'vmlinux')['read_dir']:#x}"
    found = SiteFinder(Symbols.empty(), folder / "vmlinux").of([site])[site]
    assert [frame.file for frame in found.frames] == ["build/of/it/list.h", "build/of/it/user.c"]
    monkeypatch.setattr(places, "_KNOWN_FILES", {"vmap": "none.c", "kmap_high": "core.c"})
    found = SiteFinder(Symbols.empty(), folder / "vmlinux").of([site])[site]
    assert found.frames == READ


def test_a_damaged_answer_is_asked_for_anew(folder: Path) -> None:
    """Sizes and landmarks, as frames: what was kept is read as hostile as any input."""
    file = DebugFile(folder / "vmlinux")
    sizes, marks = kept.kernel_sizes(file), kept.landmarks_of(file)
    assert marks.sample[0][1]
    for what in ("sizes", "landmarks"):
        name = kept._name_of(file, what)
        assert name is not None
        for content in (b"[1, 2]", b"{", b'[{"_text": "x"}, []]', b'[[], [["a", 1]]]', b"7"):
            assert store.keep(name, content, store.FRAMES)
            assert (kept.kernel_sizes(file), kept.landmarks_of(file)) == (sizes, marks)
