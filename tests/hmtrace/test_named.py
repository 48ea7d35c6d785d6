"""Captures by folder, by pattern and by URL."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from collectors.input import remote
from hmtrace.cli import app
from hmtrace.cli.named import named

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).parents[2] / "fixtures"
FAILING = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
TWIN = FIXTURES / "i386-twin-vmap-vmalloc128"
SECRET = "S3cr3t"


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """A folder of two captures, a workload file and what is none."""
    folder = tmp_path / "boards"
    for name, fixture in (("b1", FAILING), ("b2", TWIN)):
        shutil.copytree(fixture, folder / name)
    (folder / "b3.workload").write_bytes(b"hmtrace-workload 1\n")
    (folder / "README.md").write_text("boards\n")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def memory() -> Iterator[Any]:
    """Files in the memory of this process, as on a server."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def put(system: Any, folder: Path, url: str) -> None:
    for path in folder.iterdir():
        if path.is_file():
            system.pipe(f"{url}/{path.name}", path.read_bytes())


def test_a_folder_of_captures_stands_for_those_in_it(boards: Path) -> None:
    wanted = [str(boards / name) for name in ("b1", "b2", "b3.workload")]
    assert named([str(boards)]) == wanted
    assert named([f"file://{boards}"]) == wanted
    assert named([str(boards / "b1"), str(boards)]) == wanted  # none twice


def test_a_capture_is_itself(boards: Path) -> None:
    one = str(boards / "b1")
    for word in (one, "-", "missing", str(boards / "b1" / "trace.txt.gz"), str(boards / "empty")):
        assert named([word]) == [word]


def test_a_pattern_stands_for_what_fits(boards: Path) -> None:
    assert named([str(boards / "b*")]) == named([str(boards)])
    assert named([str(boards / "*")])[:2] == [str(boards / "b1"), str(boards / "b2")]
    assert named([str(boards.parent / "*")]) == named([str(boards)])
    with pytest.raises(HmtraceError, match="fits") as told:
        named([str(boards / "x*")])
    assert told.value.exit_code == 2


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    odd = tmp_path / "trace[1]*.txt"
    odd.write_text("")
    assert named([str(odd)]) == [str(odd)]


def test_a_capture_folder_by_url_gives_the_same_document(memory: Any) -> None:
    put(memory, FAILING, "/boards/17")
    here = json.loads(run("report", FAILING, "--format", "json").stdout)
    result = run("report", "memory://boards/17", "--format", "json")
    assert result.exit_code == 0, result.output
    there = json.loads(result.stdout)
    assert there["source"]["path"] == "memory://boards/17"
    assert there["source"]["sha256"] == here["source"]["sha256"]
    for document in (here, there):
        document["source"] = None
    assert there == here


def test_a_trace_by_url_has_the_files_beside_it(memory: Any) -> None:
    put(memory, FAILING, "/boards/17")
    (trace,) = (name for name in memory.store if "/trace.txt" in name)
    result = run("info", f"memory:/{trace}", "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kernel"]["release"] == "6.1.0-50-686-pae"


def test_folders_and_patterns_by_url(memory: Any) -> None:
    put(memory, FAILING, "/boards/17")
    put(memory, TWIN, "/boards/18")
    memory.pipe("/boards/19.workload", b"hmtrace-workload 1\n")
    wanted = ["memory://boards/17", "memory://boards/18", "memory://boards/19.workload"]
    assert named(["memory://boards"]) == wanted
    assert named(["memory://boards/1*"]) == wanted
    assert named(["memory://boards/17"]) == wanted[:1]


def test_copies_do_not_stay(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    put(memory, FAILING, "/boards/17")
    assert run("info", "memory://boards/17").exit_code == 0
    memory.pipe("/boards/bad/trace.dat", b"\x17\x08\x44tracing6\0")
    assert run("info", "memory://boards/bad").exit_code
    import gc

    gc.collect()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("hmtrace-")] == []


def test_what_is_too_large_is_not_copied(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(memory, FAILING, "/boards/17")
    monkeypatch.setenv(remote.LIMIT, "0")
    with pytest.raises(HmtraceError, match="it is not copied here") as told:
        remote.fetch("memory://boards/17", lambda names: ([names[0]], []))
    assert remote.LIMIT in str(told.value.hint)


def test_without_fsspec_the_hint_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    for command in ("report", "advise"):
        result = run(command, "s3://boards/17")
        assert isinstance(result.exception, HmtraceError)
        assert result.exception.exit_code == 2
        assert "pip install fsspec" in str(result.exception.hint)


@pytest.mark.parametrize(
    "url",
    [
        f"memory://me:{SECRET}@boards/17/trace.dat",
        f"memory://boards/17/trace.dat?X-Amz-Signature={SECRET}",
        f"memory://boards/17/trace.dat#token={SECRET}",
        f"nosuch://me:{SECRET}@host/board?key={SECRET}",
        f"https://me:{SECRET}@localhost:1/board/trace.dat?sig={SECRET}",
        f"s3://{SECRET}@bucket::memory://x?{SECRET}",
    ],
)
@pytest.mark.parametrize("command", ["report", "advise", "sweep"])
def test_secrets_of_a_url_are_never_shown(url: str, command: str, memory: Any) -> None:
    axes = ("--axis", "split=3g,2g") if command == "sweep" else ()
    result = run(command, url, *axes)
    assert result.exit_code
    assert isinstance(result.exception, HmtraceError)
    told = f"{result.output} {result.exception} {result.exception.hint}"
    assert SECRET not in told
    assert result.exception.source is not None


def test_a_web_server_is_asked_for_a_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    shutil.copytree(FAILING, tmp_path / "board")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, directory=str(tmp_path), **options)

        def log_message(self, *words: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/board/trace.txt.gz?sig={SECRET}"
        result = run("info", url, "--format", "json")
        assert result.exit_code == 0, result.output
        assert SECRET not in result.output
        assert all(path.startswith("/board/trace.txt.gz") for path in asked)
    finally:
        server.shutdown()


def test_a_sweep_of_a_url_goes_on_from_what_was_served(
    memory: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, FAILING, "/boards/17")
    words = ("sweep", "memory://boards/17", "--axis", "vmalloc=128M,256M", "--format", "json")
    first = run(*words)
    assert first.exit_code == 0, first.output
    (journal,) = shelf.glob("*/served.ndjson")
    assert len(journal.read_bytes().split(b"\n")) == 3  # a line for each, behind an empty one
    fetched: list[str] = []
    monkeypatch.setattr(remote, "fetch", lambda url, *_: fetched.append(url))
    assert run(*words).stdout == first.stdout
    assert not fetched


@pytest.mark.usefixtures("shelf")
def test_a_capture_that_changes_behind_its_url_is_read_anew(memory: Any) -> None:
    put(memory, FAILING, "/boards/17")
    words = ("sweep", "memory://boards/17", "--axis", "vmalloc=256M", "--format", "json")
    before = json.loads(run(*words).stdout)
    memory.rm("/boards/17", recursive=True)
    put(memory, TWIN, "/boards/17")
    after = json.loads(run(*words).stdout)
    assert before["captures"][0]["source"]["sha256"] != after["captures"][0]["source"]["sha256"]


def test_what_does_not_tell_what_changes_is_read_each_time(memory: Any) -> None:
    put(memory, FAILING, "/boards/17")
    place = remote.RemotePlace.of("memory://boards/17")
    assert place.versions()
    for file in memory.store.values():
        file.created = None
    assert place.versions() is None


@pytest.mark.parametrize(
    ("url", "driver"), [("http://localhost/a.workload", "aiohttp"), ("s3://boards/17", "s3fs")]
)
def test_without_its_driver_the_hint_is_the_command(
    url: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(_: str) -> None:
        raise ImportError

    monkeypatch.setattr("fsspec.core.url_to_fs", without)
    result = run("advise", url)
    assert isinstance(result.exception, HmtraceError)
    assert result.exception.exit_code == 2
    assert str(result.exception.hint) == f"pip install {driver}"


def test_a_trace_and_a_workload_file_from_a_web_server(tmp_path: Path) -> None:
    """Needs the driver of http://, which fsspec alone does not bring."""
    pytest.importorskip("aiohttp")
    folder = tmp_path / "web"
    folder.mkdir()
    assert run("convert", FAILING, "-o", folder / "board.workload").exit_code == 0
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/board.workload"
        there = run("advise", url, "--format", "json")
        missing = run("advise", url.replace("board", "none"))
        server.shutdown()
    assert there.exit_code == 0, there.output
    here = json.loads(run("advise", FAILING, "--format", "json").stdout)
    (advised,) = json.loads(there.stdout)["captures"]
    assert advised["source"]["path"] == url
    assert advised["splits"] == here["captures"][0]["splits"]
    assert isinstance(missing.exception, HmtraceError)
    assert "no such file" in str(missing.exception)
