"""Places that are no files: pipes, loops, folders with a trace's name, files that shrink."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collectors import HmtraceError, open_capture, write_parquet
from collectors.input import opening
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"
TEXT = ftracetext.header(5, entries=9) + ftracetext.tracefs(
    [Event("bash", 7, 0, 10**9 + i, f"p: (kmap_high+0x0/0x260) page={i:#x}") for i in range(9)]
)


def hmtrace(*arguments: object, code: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process of its own, with `code` before it."""
    program = f"import sys; {code}\nfrom hmtrace.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "nowhere", "socket"])
def test_facts_that_are_no_files(tmp_path: Path, kind: str) -> None:
    (tmp_path / "trace").write_text(TEXT)
    for name in ("dmesg", "config", "kallsyms", "state.json", "pkmap.start", "zoneinfo.gz"):
        odd(tmp_path / name, kind)
    capture = open_capture(tmp_path)
    assert capture.raw_events == {"kmap_high": 9}


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "nowhere", "socket"])
def test_traces_in_a_folder_that_are_no_files(tmp_path: Path, kind: str) -> None:
    for name in ("trace.dat", "perf.data", "trace.txt.gz", "report.txt"):
        odd(tmp_path / name, kind)
    with pytest.raises(HmtraceError, match="no trace in this folder"):
        open_capture(tmp_path)
    (tmp_path / "trace").write_text(TEXT)
    assert open_capture(tmp_path).raw_events == {"kmap_high": 9}


def odd(path: Path, kind: str) -> None:
    """Make something that is no file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        here = Path.cwd()
        try:
            os.chdir(path.parent)  # names of sockets are short
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        finally:
            os.chdir(here)
    else:
        path.symlink_to(path.name if kind == "loop" else "missing")


def test_a_loop_of_links_is_an_error_in_words(tmp_path: Path) -> None:
    odd(tmp_path / "trace", "loop")
    with pytest.raises(HmtraceError, match="cannot be read") as caught:
        open_capture(tmp_path / "trace")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_endless_devices_are_refused_at_once(device: str) -> None:
    with pytest.raises(HmtraceError, match="binary data"):
        open_capture(device)


@pytest.mark.parametrize("form", ["parquet", "trace.dat", "gz"])
def test_binary_traces_through_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    trace = FIXTURES / "i386-hog-a-waiters-pae-smp2" / "trace.dat"
    content = trace.read_bytes()
    if form == "gz":
        content = gzip.compress(content)
    if form == "parquet":
        write_parquet(trace, tmp_path / "table")
        content = (tmp_path / "table").read_bytes()
    monkeypatch.setattr(opening, "PIECE", 1 << 14)  # the first piece is full, as of a large trace
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert open_capture("-").raw_events["kmap_high"] == 520


def test_a_capture_without_a_name() -> None:
    with pytest.raises(HmtraceError, match="the name of the capture is empty") as caught:
        open_capture("")
    assert caught.value.exit_code == 2


def test_files_that_do_not_tell_their_size() -> None:
    """As those of tracefs: hmtrace info /sys/kernel/tracing/trace."""
    with pytest.raises(HmtraceError, match=r"/proc/self/status, line 1: no line of this text"):
        open_capture("/proc/self/status")


def test_stdin_is_closed() -> None:
    done = hmtrace("info", "-", code="import os; os.close(0); sys.stdin = None")
    assert done.returncode == 3
    assert done.stderr.endswith(b"hmtrace: <stdin>: is closed: there is nothing to read\n")


_NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"


def test_no_room_for_what_comes_through_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "trace").write_text(TEXT * 99)
    feeder = subprocess.Popen(["cp", tmp_path / "trace", fifo], stderr=subprocess.DEVNULL)
    done = hmtrace("info", fifo, code=_NO_ROOM)
    feeder.wait()
    assert done.returncode == 3
    assert b"fifo: cannot be copied to " in done.stderr
    assert b"hint: set TMPDIR" in done.stderr
    done = hmtrace("synth", "pool-full", code=_NO_ROOM)
    assert done.returncode == 2
    assert b"cannot be simulated in " in done.stderr


@pytest.mark.parametrize("command", ["convert --format csv", "convert --format parquet", "info"])
def test_devices_and_pipes_are_written_to_not_replaced(tmp_path: Path, command: str) -> None:
    (tmp_path / "trace").write_text(TEXT)
    null, fifo = tmp_path / "null.txt", tmp_path / "fifo.txt"
    null.symlink_to(os.devnull)
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
    for target, options in ((null, ()), (null, ("--force",)), (fifo, ("--force",))):
        done = hmtrace(*command.split(), tmp_path / "trace", "-o", target, *options)
        assert done.returncode == 0, done.stderr
    assert len(reader.communicate()[0]) > 200
    assert null.is_symlink()
    assert fifo.is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo.txt", "null.txt", "trace"]
    done = hmtrace("synth", "pool-full", "-o", fifo, "--force")
    assert done.returncode == 2
    assert b"is of another kind than the output" in done.stderr


@pytest.mark.parametrize("command", ["info", "report", "replay", "validate", "convert"])
def test_no_command_replaces_what_it_reads(tmp_path: Path, command: str) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TEXT)
    (tmp_path / "link").symlink_to(trace)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "trace.txt").write_text(TEXT)
    for capture, output in (
        (trace, trace), (tmp_path / "link", trace), (folder, folder / "trace.txt")
    ):  # fmt: skip
        form = ("--format", "csv") if command == "convert" else ()
        done = hmtrace(command, capture, "-o", output, "--force", *form)
        assert done.returncode == 2
        assert b"it is never replaced" in done.stderr
        assert output.read_text() == TEXT


def test_an_endless_machine_description() -> None:
    done = hmtrace("layout", "--machine", "/dev/zero")
    assert done.returncode == 2
    assert b"/dev/zero: is too large for a description" in done.stderr


def test_a_pipe_that_closes_without_a_word(tmp_path: Path) -> None:
    odd(tmp_path / "pipe", "fifo")
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(tmp_path / 'pipe')!r}, 'w')"])
    with pytest.raises(HmtraceError, match="empty"):
        open_capture(tmp_path / "pipe")
    assert writer.wait(10) == 0


@pytest.mark.parametrize("name", ["trace.txt.gz", "trace.dat", "state.json", "config.gz"])
def test_a_folder_of_unreadable_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "trace").write_text(TEXT)
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08\0damaged" if name.endswith("gz") else b"\xff" * 99)
    assert open_capture(tmp_path).origin.trace.endswith("trace")


@pytest.mark.parametrize("kind", ["text", "trace.dat", "perf.data"])
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "growing"
    if kind == "text":
        path.write_text(TEXT * 3000)
    elif kind == "trace.dat":
        shutil.copy(FIXTURES / "i386-hog-a-waiters-pae-smp2" / "trace.dat", path)
    else:
        real = FIXTURES / "i386-minix-pae-smp2-perf" / "perf.data.gz"
        path.write_bytes(gzip.decompress(real.read_bytes()))
    # The file is cut right after it was mapped: the worst moment.
    code = (
        "import os, mmap\nclass Cut(mmap.mmap):\n"
        "    def __new__(cls, *a, **k):\n"
        "        made = super().__new__(cls, *a, **k)\n"
        f"        if a[0] >= 0: os.truncate({str(path)!r}, 4096)\n"  # polars maps memory, too
        "        return made\n"
        "mmap.mmap = Cut"
    )
    done = hmtrace("info", path, code=code)
    assert done.returncode == 3, done.stderr
    assert b"became shorter while it was read" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_gigabyte_without_a_line(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    for head in (b"", b"# tracer: nop\n", TEXT.encode(), b"cpus=2\n", b"PERFILE2"):
        path.write_bytes(head)
        os.truncate(path, 1 << 28 if head else 1 << 30)
        try:
            capture = open_capture(path)
        except HmtraceError as error:
            assert error.exit_code == 3  # noqa: PT017 - either is right, a crash is not
        else:
            assert set(capture.raw_events) <= {"kmap_high"}
