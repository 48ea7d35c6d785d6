"""Opening captures: compression, folders, archives, stdin, and everything that is none of them."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import zstandard

from collectors import FORMATS, HmtraceError, open_capture
from collectors.input import opening, unpack
from collectors.input.opening import open_source
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
EVENTS = [
    Event("bash", 7, i % 2, 10**9 + i * 1000, f"p: (kmap_high+0x0/0x260) page={i:#x}")
    for i in range(500)
]
TEXT = (ftracetext.header(5, entries=500) + ftracetext.tracefs(EVENTS)).encode()
COMPRESSORS = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "two members": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
    "padded": lambda data: gzip.compress(data) + bytes(512),
    "zst frames": lambda data: zstandard.compress(data[:5000]) + zstandard.compress(data[5000:]),
}


def test_importing_is_cheap() -> None:
    code = (
        "import sys, collectors; "
        "print(*sorted({'polars', 'numba', 'zstandard'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == ""


@pytest.mark.parametrize("name", [None, *COMPRESSORS])
def test_compressed_files_are_read_whatever_their_name(tmp_path: Path, name: str | None) -> None:
    data = TEXT if name is None else COMPRESSORS[name](TEXT)
    path = tmp_path / "some.name"
    path.write_bytes(data)
    steps: list[tuple[int, int]] = []
    capture = open_capture(path, progress=lambda done, total: steps.append((done, total)))
    assert capture.raw_events == {"kmap_high": 500}
    assert capture.origin.bytes == len(TEXT)
    assert capture.origin.format == "ftrace-text"
    assert capture.events.collect().height == 500
    assert capture.span_ns == 499_000


@pytest.mark.parametrize("name", ["gz", "xz", "zst"])
def test_truncated_streams_say_how_much_could_be_read(tmp_path: Path, name: str) -> None:
    data = COMPRESSORS[name](TEXT)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(HmtraceError, match=r"ends early.*could be read") as caught:
        open_capture(path)
    assert caught.value.exit_code == 3
    assert caught.value.source == str(path)
    assert caught.value.offset == len(data) * 2 // 3


@pytest.mark.parametrize("name", ["gz", "xz", "zst"])
def test_damaged_streams(tmp_path: Path, name: str) -> None:
    data = bytearray(COMPRESSORS[name](TEXT))
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0xA5
    path = tmp_path / "damaged"
    path.write_bytes(bytes(data))
    with pytest.raises(HmtraceError, match=r"damaged|ends early") as caught:
        open_capture(path)
    assert caught.value.exit_code == 3


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.zst"
    path.write_bytes(zstandard.compress(bytes(64 << 20)))
    with pytest.raises(HmtraceError, match="times its size: refused"):
        open_capture(path)
    small = io.BytesIO(gzip.compress(bytes(1 << 20)))
    with pytest.raises(HmtraceError, match="refused"):
        unpack.decompress("gzip", small, bytearray().extend, source="x", max_bytes=1000)


def test_full_disk_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_options: object) -> int:
        raise OSError(28, "No space left on device")

    path = tmp_path / "t.gz"
    path.write_bytes(gzip.compress(TEXT))
    monkeypatch.setattr(opening, "decompress", full)
    with pytest.raises(HmtraceError, match="No space left") as caught:
        open_capture(path)
    assert "TMPDIR" in (caught.value.hint or "")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    archive = tmp_path / "c.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(_folder(tmp_path), "capture")
    capture = open_capture(archive)
    assert capture.raw_events == {"kmap_high": 500}
    del capture
    assert list(scratch.iterdir()) == []


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "capture"
    folder.mkdir()
    (folder / "trace.txt.gz").write_bytes(gzip.compress(TEXT))
    (folder / "report.txt").write_bytes(b"cpus=2\n")
    (folder / "truth.txt.gz").write_bytes(b"not to be opened")
    (folder / "pkmap.end").write_bytes(b"not to be opened")
    (folder / "trace_clock").write_text("local [mono]\n")
    (folder / "cmdline").write_text("root=/dev/sda vmalloc=192M\n")
    return folder


def test_a_folder_gives_its_trace_and_its_facts(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    opened: list[str] = []
    real = Path.open

    def spy(self: Path, *args: object, **options: object) -> object:
        opened.append(self.name)
        return real(self, *args, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", spy)
        capture = open_capture(folder)
    assert capture.origin.trace == str(folder / "trace.txt.gz")
    assert capture.origin.path == str(folder)
    assert capture.clock == "mono"
    assert capture.facts["vmalloc"].value == 192 << 20
    assert not {name for name in opened if name.startswith(("truth", "pkmap.end"))}


def test_a_named_file_uses_the_machines_files_beside_it(tmp_path: Path) -> None:
    capture = open_capture(_folder(tmp_path) / "report.txt")
    assert capture.origin.format == "trace-cmd-report"
    assert capture.facts["vmalloc"].value == 192 << 20
    assert any("empty" in note for note in capture.notes)


def test_traces_are_chosen_by_richness_and_content(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "trace.dat").write_bytes(b"this is no trace.dat")
    capture = open_capture(folder)
    assert capture.origin.trace.endswith("trace.txt.gz")
    assert any("trace.dat" in note and "passed over" in note for note in capture.notes)
    (folder / "trace.txt.gz").unlink()
    assert open_capture(folder).origin.trace.endswith("report.txt")
    (folder / "report.txt").rename(folder / "report-head.txt")
    assert open_capture(folder).origin.trace.endswith("report-head.txt")


def test_judges_are_refused_even_by_name(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    with pytest.raises(HmtraceError, match="judge"):
        open_capture(folder / "truth.txt.gz")


def test_an_archive_is_read_as_the_folder_in_it(tmp_path: Path) -> None:
    archive = tmp_path / "capture.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(_folder(tmp_path), "capture")
    capture = open_capture(archive)
    assert capture.raw_events == {"kmap_high": 500}
    assert capture.origin.trace == f"{archive}:trace.txt.gz"
    assert capture.facts["vmalloc"].value == 192 << 20


def test_hostile_archives_write_nowhere_else(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    outside = tmp_path / "outside"
    with tarfile.open(archive, "w") as tar:

        def add(name: str, data: bytes = b"", **fields: object) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add("c/trace", TEXT)
        add("../outside", b"1")
        add(str(outside), b"2")
        add("c/../../outside", b"3")
        add("c/link", type=tarfile.SYMTYPE, linkname=str(outside))
        add("c/link", b"4")
        add("c/hard", type=tarfile.LNKTYPE, linkname="c/trace")
        add("c/fifo", type=tarfile.FIFOTYPE)
        add("c/trace/below", b"5")
    capture = open_capture(archive)
    assert not outside.exists()
    assert capture.raw_events == {"kmap_high": 500}
    assert any("passed over" in note for note in capture.notes)


def test_damaged_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(_folder(tmp_path), "capture")
    path = tmp_path / "cut.tar"
    path.write_bytes(buffer.getvalue()[:1500])
    with pytest.raises(HmtraceError) as caught:
        open_capture(path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_stdin(monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pack(TEXT))))
    capture = open_capture("-")
    assert (capture.origin.path, capture.origin.trace) == ("-", "<stdin>")
    assert capture.raw_events == {"kmap_high": 500}


def test_a_fifo_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())",
            str(fifo),
        ],
        stdin=subprocess.PIPE,
    )
    assert writer.stdin is not None
    writer.stdin.write(TEXT)
    writer.stdin.close()
    assert open_capture(fifo).raw_events == {"kmap_high": 500}
    assert writer.wait(10) == 0


BAD = {
    "empty": (b"", "the file is empty"),
    "empty gz": (gzip.compress(b""), "the file is empty"),
    "garbage": (bytes(range(256)) * 20, "binary data"),
    "zeros": (bytes(5000), "binary data"),
    "prose": (b"Once upon a time\nthere was a page.\n" * 50, "no line of this text is a trace"),
    "utf-16": (TEXT.decode().encode("utf-16"), "UTF-16"),
    "elf": (b"\x7fELF\x01\x01\x01" + bytes(500), "an ELF file"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_trace_is_refused_in_words(tmp_path: Path, name: str) -> None:
    data, words = BAD[name]
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(HmtraceError, match=words) as caught:
        open_capture(path)
    assert caught.value.exit_code == 3
    assert caught.value.source == str(path)


def test_missing_unreadable_and_empty_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HmtraceError, match="no such file") as caught:
        open_capture(tmp_path / "nowhere")
    assert caught.value.exit_code == 3
    with pytest.raises(HmtraceError, match="no trace in this folder"):
        open_capture(tmp_path)

    def forbidden(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "trace"
    path.write_bytes(TEXT)
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(HmtraceError, match="permission denied"):
        open_capture(path)


def test_folder_of_a_recorder_without_an_event(tmp_path: Path) -> None:
    (tmp_path / "recorder").write_text("recorder 0.1.0\nlost 0\n")
    with pytest.raises(HmtraceError, match="its recorder recorded no event"):
        open_capture(tmp_path)


def test_a_trace_without_mapping_events_opens_and_says_so(tmp_path: Path) -> None:
    events = [Event("bash", 1, 0, 10**9, "tlb_flush: pages:1 reason:x (3)")]
    path = tmp_path / "t"
    path.write_text(ftracetext.tracefs(events))
    capture = open_capture(path)
    assert capture.events.collect().get_column("op").to_list() == ["tlb_flush"]
    assert any("no mapping event" in note for note in capture.notes)


def test_an_empty_trace_opens_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(ftracetext.header(5, entries=0))
    capture = open_capture(path)
    assert (capture.events.collect().height, capture.span_ns) == (0, 0)
    assert any("the trace is empty" in note for note in capture.notes)


def test_odd_bytes_in_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "t"
    lines = TEXT.splitlines(keepends=True)
    body = lines[20:]
    path.write_bytes(
        b"".join(lines[:20])
        + b"\0" * 300
        + b"\n"
        + b"x" * (9 << 20)
        + b"\n"
        + b"".join(body).replace(b"\n", b"\r\n").rstrip(b"\r\n")
    )
    capture = open_capture(path)
    assert capture.raw_events == {"kmap_high": 499}
    assert "the text ends within a line: it was cut off, that line was not read" in capture.notes
    (note,) = [n for n in capture.notes if "could not be read" in n]
    assert "2 of" in note
    assert "line 21" in note
    assert "\0" not in note


def test_a_file_of_newlines_or_one_huge_line_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for data in (b"\n" * (6 << 20), b"y" * (6 << 20), b"# tracer: nop" + b"-" * (6 << 20)):
        path.write_bytes(data)
        try:
            capture = open_capture(path)
        except HmtraceError as error:
            assert error.exit_code == 3  # noqa: PT017 - either is right, a crash is not
        else:
            assert capture.events.collect().height == 0


def test_real_capture_as_folder_text_and_archive_agree(tmp_path: Path) -> None:
    folder = tmp_path / "waiters"
    shutil.copytree(WAITERS, folder)
    (folder / "trace.dat").unlink(missing_ok=True)
    by_folder = open_capture(folder)
    by_file = open_capture(WAITERS / "trace.txt.gz")
    assert by_folder.raw_events == by_file.raw_events
    assert by_folder.raw_events["kmap_high"] == by_folder.raw_events["kmap_high (return)"] == 520
    assert by_folder.raw_events["flush_all_zero_pkmaps"] == 61
    assert by_folder.lost.events == 0
    assert by_folder.facts["release"].value.startswith("6.1.0")
    assert by_folder.events.collect().equals(by_file.events.collect())


def test_sources_can_be_opened_without_reading() -> None:
    source = open_source(WAITERS / "trace.txt.gz", FORMATS)
    assert source.head.startswith(b"# tracer: nop")
    assert source.read_meta("truth.txt") is None
    assert source.read_meta("pkmap.end") is None
    assert b"kmap_high" in (source.read_meta("kallsyms") or b"")


@pytest.mark.parametrize("log", [None, "[    2.000000] smpboot: CPU 1 is now offline\n"])
def test_hotplug_that_nothing_tells_of_is_said(log: str | None, tmp_path: Path) -> None:
    went = [
        Event("cpuhp/1", 14, 1, 2 * 10**9 + n, f"cpuhp_{what}")
        for n, what in enumerate(
            (
                "enter: cpu: 0001 target: 149 step: 234 (sched_cpu_deactivate)",
                "exit: cpu: 0001  state: 233 step: 234 ret: 0",
                "enter: cpu: 0001 target: 149 step:  86 (takedown_cpu)",
            )
        )
    ]
    (tmp_path / "trace").write_text(ftracetext.tracefs([*EVENTS, *went]))
    if log is not None:
        (tmp_path / "dmesg.end").write_text(log)
    said = [note for note in open_capture(tmp_path).notes if "hotplug" in note]
    assert [note.split(",")[0] for note in said] == ["2 events of CPU hotplug"] * (log is None)
