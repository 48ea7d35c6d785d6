"""A second replay of a trace: the same documents from what the first one kept."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from typer.testing import CliRunner

import collectors
from hmtrace.cli import app, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

WAITERS = Path(__file__).parents[2] / "fixtures" / "i386-hog-a-waiters-pae-smp2"
TARGETS = (
    ("--pkmap", "128"),
    ("--split", "2g", "--placement", "same-pfn"),
    ("--vmalloc", "64M", "--timing", "fixed"),
)
CONVERTED = ("--convert", "kmap=kmap_local")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return copied(tmp_path / "capture")


def copied(folder: Path) -> Path:
    """A capture of ours alone, without the larger forms of its trace, and without symbols."""
    left_out = shutil.ignore_patterns("report*", "trace.txt*", "kallsyms*", "config*")
    shutil.copytree(WAITERS, folder, ignore=left_out)
    return folder


class Known(NamedTuple):
    """A capture that was replayed, what was kept of it, and what was said."""

    capture: Path
    home: Path
    said: dict[str, Any]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Known]:
    """A first replay with some options. Who damages what was kept copies it before."""

    @cache
    def made(*options: str) -> Known:
        folder = tmp_path_factory.mktemp("known")
        capture = copied(folder / "capture")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workloads, "cache_home", lambda: folder / "cache")
            return Known(capture, folder / "cache", replayed(capture, *options))

    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the traces that were read."""
    paths: list[str] = []
    real: Callable[..., Any] = collectors.open_capture

    def counted(path: str, **options: Any) -> Any:
        paths.append(path)
        return real(path, **options)

    monkeypatch.setattr(collectors, "open_capture", counted)
    return paths


def replayed(capture: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["replay", str(capture), *options, "--format", "json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def kept(shelf: Path) -> list[Path]:
    return sorted(shelf.iterdir()) if shelf.exists() else []


def test_a_second_replay_reads_nothing_and_says_the_same(
    capture: Path, shelf: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(workloads.Place, "of", lambda _: None)
        expected = [replayed(capture, *target) for target in TARGETS]
    assert len(reads) == len(TARGETS)
    assert kept(shelf) == []
    first = replayed(capture, *TARGETS[0])
    assert len(kept(shelf)) == 1
    del reads[:]
    assert [replayed(capture, *target) for target in TARGETS] == expected
    assert first == expected[0]
    assert reads == []
    (capture / "answer.json").write_text("{}")
    costs = replayed(capture, *TARGETS[0], "--costs", str(_costs(capture)))
    assert reads == []
    assert costs["baseline"]["pool"] == first["baseline"]["pool"]
    assert costs["baseline"]["cost"] != first["baseline"]["cost"]


def _costs(capture: Path) -> Path:
    path = capture.parent / "costs.toml"
    path.write_text("lock = 12345\n")
    return path


def test_another_trace_or_machine_is_read(capture: Path, shelf: Path, reads: list[str]) -> None:
    first = replayed(capture, *TARGETS[0])
    (capture / "cmdline").write_text("nokaslr vmalloc=256M\n")
    other = replayed(capture, *TARGETS[0])
    assert other["baseline"]["machine"] != first["baseline"]["machine"]
    trace = capture / "trace.dat"
    about = trace.stat()
    trace.touch()
    replayed(capture, *TARGETS[0])
    os.utime(trace, ns=(about.st_atime_ns, about.st_mtime_ns))  # its change still shows
    replayed(capture, *TARGETS[0])
    assert len(reads) == 4
    assert len(kept(shelf)) == 4


@pytest.mark.parametrize("name", ["workload.json", "calls-0.arrow", "pool-page.bin"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_what_is_damaged_is_made_anew(
    name: str, damage: str, known: Callable[..., Known], shelf: Path, reads: list[str]
) -> None:
    capture, home, first = known(*TARGETS[0])
    shutil.copytree(home, shelf.parents[1])
    (folder,) = kept(shelf)
    del reads[:]
    _damage(folder / name, damage)
    assert replayed(capture, *TARGETS[0]) == first
    assert len(reads) == 1
    assert replayed(capture, *TARGETS[0]) == first
    assert len(reads) == 1


def test_what_is_copied_and_not_damaged_is_found(
    known: Callable[..., Known], shelf: Path, reads: list[str]
) -> None:
    capture, home, first = known(*TARGETS[0])
    shutil.copytree(home, shelf.parents[1])
    del reads[:]
    assert replayed(capture, *TARGETS[0]) == first
    assert reads == []


def _damage(file: Path, damage: str) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x41
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if damage == "cut" else data)


def test_a_folder_that_is_a_file(capture: Path, shelf: Path, reads: list[str]) -> None:
    shelf.parent.mkdir(parents=True)
    shelf.write_text("not ours")
    assert replayed(capture, *TARGETS[0]) == replayed(capture, *TARGETS[0])
    assert len(reads) == 2
    assert shelf.read_text() == "not ours"


@pytest.mark.parametrize("what", ["table", "column", "end of a column"])
def test_a_disk_that_fills_up(
    what: str, capture: Path, shelf: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from replay.trace import spool
    from replay.trace.parts import Parts

    expected = replayed(capture, *TARGETS[0])
    shutil.rmtree(shelf)
    real, real_write, written = Parts._write, spool._write_all, Counter[str]()

    def full(parts: Parts, folder: Path, name: str, table: Any) -> None:
        if name.startswith("calls") and folder.parent == shelf:
            raise OSError(28, "No space left on device")
        real(parts, folder, name, table)

    def write_all(file: Any, rows: Any) -> None:
        name = str(file.name)
        written[name] += 1
        if str(shelf) in name and written[name] > (what != "column"):
            file.write(b"half of a row")
            raise OSError(28, "No space left on device")
        real_write(file, rows)

    if what == "table":
        monkeypatch.setattr(Parts, "_write", full)
    else:
        monkeypatch.setattr(spool, "IN_MEMORY", 1 << 10)
        monkeypatch.setattr(spool, "_write_all", write_all)
    assert replayed(capture, *TARGETS[0]) == expected
    assert kept(shelf) == []
    assert len(reads) == 2


def test_the_oldest_go_where_there_are_too_many(
    capture: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed(capture, *TARGETS[0])
    (first,) = kept(shelf)
    os.utime(first, (1, 1))
    size = sum(file.stat().st_size for file in first.iterdir())
    left = shelf / "0123.part"
    left.mkdir()
    os.utime(left, (1, 1))
    monkeypatch.setattr(workloads, "MOST_BYTES", size + size // 2)
    (capture / "notes").write_text("another key")
    replayed(capture, *TARGETS[0])
    assert len(kept(shelf)) == 1
    assert kept(shelf) != [first]


def test_a_conversion_makes_what_was_kept_without(
    capture: Path, shelf: Path, reads: list[str], tmp_path: Path
) -> None:
    fresh = replayed(capture, *CONVERTED)
    (folder,) = kept(shelf)
    assert (folder / "turns" / "turns.json").exists()
    assert fresh["conversion"]["sites"]
    shutil.rmtree(shelf)
    plain = replayed(capture, *TARGETS[0])
    assert not (folder / "turns").exists()
    del reads[:]
    assert replayed(capture, *CONVERTED) == fresh
    assert len(reads) == 1
    assert (folder / "turns" / "turns.json").exists()
    assert replayed(capture, *CONVERTED) == fresh
    assert replayed(capture, *TARGETS[0]) == plain
    assert len(reads) == 1
    assert kept(shelf) == [folder]


def test_a_workload_file_has_what_was_kept_without(
    capture: Path, shelf: Path, tmp_path: Path
) -> None:
    fresh = replayed(capture, *CONVERTED)
    shutil.rmtree(shelf)
    replayed(capture, *TARGETS[0])
    file = tmp_path / "board.workload"
    assert CliRunner().invoke(app, ["convert", str(capture), "-o", str(file)]).exit_code == 0
    shutil.rmtree(shelf)
    for _ in range(2):  # unpacked, and from the cache
        from_file = replayed(file, *CONVERTED)
        assert from_file["conversion"] == fresh["conversion"]
        assert from_file["pool"] == fresh["pool"]
    (folder,) = kept(shelf)
    (folder / "turns" / "turns.json").write_bytes(b"damaged")
    assert replayed(file, *CONVERTED) == from_file
    assert replayed(file, *CONVERTED) == from_file
    assert kept(shelf) == [folder]


@pytest.mark.parametrize("name", ["turns.json", "turns-0.arrow"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_turns_that_are_damaged_are_made_anew(
    name: str, damage: str, known: Callable[..., Known], shelf: Path, reads: list[str]
) -> None:
    plain = known(*TARGETS[0]).said
    capture, home, first = known(*CONVERTED)
    shutil.copytree(home, shelf.parents[1])
    (folder,) = kept(shelf)
    del reads[:]
    _damage(folder / "turns" / name, damage)
    assert apart(replayed(capture, *TARGETS[0])) == apart(plain)
    assert reads == []  # who does not need them does not look
    assert replayed(capture, *CONVERTED) == first
    assert replayed(capture, *CONVERTED) == first
    assert len(reads) == 1
    assert apart(replayed(capture, *TARGETS[0])) == apart(plain)


def apart(document: dict[str, Any]) -> dict[str, Any]:
    """Without the path of its capture."""
    return {name: part for name, part in document.items() if name != "source"}


def test_turns_of_another_workload_are_made_anew(
    capture: Path, shelf: Path, reads: list[str]
) -> None:
    first = replayed(capture, *CONVERTED)
    (folder,) = kept(shelf)
    moved = shutil.move(folder / "turns", shelf.parent / "turns")
    (capture / "notes").write_text("another key")
    replayed(capture, *TARGETS[0])
    (other,) = set(kept(shelf)) - {folder}
    text = (other / "workload.json").read_bytes().partition(b"\n")[2]
    text = text.replace(b'"machine"', b' "machine"')  # the same, told otherwise
    digest = hashlib.blake2b(text).hexdigest().encode()
    (other / "workload.json").write_bytes(digest + b"\n" + text)
    shutil.move(moved, other / "turns")
    del reads[:]
    assert replayed(capture, *CONVERTED)["conversion"] == first["conversion"]
    assert len(reads) == 1


def test_turns_that_another_process_kept_first_stay(
    capture: Path, shelf: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = replayed(capture, *CONVERTED)
    (folder,) = kept(shelf)
    before = (folder / "turns" / "turns.json").stat().st_ino
    with monkeypatch.context() as late:
        late.setattr(workloads.Place, "with_turns", lambda _, found: found)
        assert replayed(capture, *CONVERTED) == first
    assert len(reads) == 2
    assert (folder / "turns" / "turns.json").stat().st_ino == before
    assert kept(shelf) == [folder]
    assert replayed(capture, *CONVERTED) == first
    assert len(reads) == 2


def test_a_sweep_of_conversions_makes_them(capture: Path, shelf: Path, reads: list[str]) -> None:
    axes = ["--axis", "convert=none,kmap=kmap_local", "--axis", "pkmap=128,512"]

    def swept() -> str:
        result = CliRunner().invoke(app, ["sweep", str(capture), *axes, "--format", "json"])
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    fresh = swept()
    shutil.rmtree(shelf)
    replayed(capture, *TARGETS[0])
    assert swept() == fresh
    assert len(reads) == 3


def _at_once(capture: Path, home: Path, answers: Any) -> None:
    workloads.cache_home = lambda: home  # type: ignore[attr-defined]
    answers.put(replayed(capture, *TARGETS[0]))


def test_two_processes_make_the_same_one(capture: Path, shelf: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    home = shelf.parents[1]
    both = [context.Process(target=_at_once, args=(capture, home, answers)) for _ in range(2)]
    for process in both:
        process.start()
    found = [answers.get(timeout=600) for _ in both]
    for process in both:
        process.join()
    assert found[0] == found[1] == replayed(capture, *TARGETS[0])
    assert len(kept(shelf)) == 1
