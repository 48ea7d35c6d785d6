"""Pages of ring buffers beside their descriptions: what they hold is what a trace.dat would say."""

from __future__ import annotations

import gzip
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from collectors import open_capture, write_parquet
from collectors.errors import HmtraceError
from tests.writers import ringbuffers, tracedat
from tests.writers.tracedat import BufferSpec, FileSpec, Item

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

PAGE = 0xF600_1000
ADDRESS = 0xFF00_1000
KALLSYMS = "c1000000 T startup_32\nc126f820 T kmap_high\nc126f900 t other\n"
MACHINES = [(order, word) for order in ("little", "big") for word in (4, 8)]


def spec_of(order: Any, word: int) -> FileSpec:
    """Two CPUs, several pages each, and a task that is switched to."""
    events = tracedat.kernel_events(word)

    def item(ts: int, name: str, pid: int, *values: Any) -> Item:
        return Item("event", ts, events[name].payload(order, pid, list(values)))

    cpus = {
        cpu: [
            one
            for number in range(200)
            for one in (
                item(1000 * number + cpu, "mapper", 7 + cpu, 0xC126F820, PAGE + number),
                item(1000 * number + 500 + cpu, "mapper_back", 7 + cpu, 0xC126F820, 0xC1234567,
                     ADDRESS + 4096 * (number % 8)),
            )
        ]
        for cpu in (0, 2)
    }  # fmt: skip
    comms = {7: "bash", 9: "a b: c"}
    return FileSpec([BufferSpec(cpus)], list(events.values()), 6, order, word, comms=comms)


def folder_of(spec: FileSpec, folder: Path) -> Path:
    """What the recorder would copy of such a machine."""
    folder.mkdir()
    for name, content in ringbuffers.files(replace(spec, kallsyms=KALLSYMS)).items():
        (folder / name).write_bytes(content)
    return folder


def rows(path: Path) -> pl.DataFrame:
    return open_capture(path).events.collect()


@pytest.mark.parametrize(("order", "word"), MACHINES)
def test_folder_reads_as_the_trace_dat_of_the_same(tmp_path: Path, order: Any, word: int) -> None:
    spec = spec_of(order, word)
    (tmp_path / "dat").mkdir()
    (tmp_path / "dat/trace.dat").write_bytes(tracedat.write(spec))
    (tmp_path / "dat/kallsyms").write_text(KALLSYMS)
    folder = folder_of(spec, tmp_path / "raw")
    found = rows(folder)
    assert len(found) == 400
    assert found.equals(rows(tmp_path / "dat"))
    assert found["vaddr"][0] == ADDRESS
    assert found["comm"][0] == "bash"
    capture = open_capture(folder)
    assert capture.clock == "mono"
    assert capture.facts.snapshot().release == "6.1.0-test"


def test_archive_and_packed_pages(tmp_path: Path) -> None:
    folder = folder_of(spec_of("little", 4), tmp_path / "hmrecord.7")
    plain = rows(folder)
    with tarfile.open(tmp_path / "cap.tar.gz", "w:gz") as packed:
        packed.add(folder, "hmrecord.7")
    assert rows(tmp_path / "cap.tar.gz").equals(plain)
    pages = folder / "trace_pipe_raw.cpu0"
    (folder / "trace_pipe_raw.cpu0.gz").write_bytes(gzip.compress(pages.read_bytes()))
    pages.unlink()
    assert rows(folder).equals(plain)


def test_what_the_recorder_noted_is_kept_in_a_file(tmp_path: Path) -> None:
    folder = folder_of(spec_of("little", 4), tmp_path / "raw")
    (folder / "recorder").write_text("recorder 0.1.0\nmissing a b\nsnapshot agreed=yes\n")
    (folder / "pool_state").write_text(
        " x-1 [000] d... 1.0: slots512: (f+0x0/0x9) last=4 c0={0,2}\n"
    )
    told = write_parquet(folder, tmp_path / "made.parquet").facts.snapshot()
    again = open_capture(tmp_path / "made.parquet").facts.snapshot()
    assert again == told
    assert again.recording is not None
    assert again.recording.missing == ("a", "b")
    assert again.pool_state == (4, ((1, 2, None),))


def test_one_cpu_alone(tmp_path: Path) -> None:
    folder = folder_of(spec_of("little", 4), tmp_path / "raw")
    assert set(rows(folder / "trace_pipe_raw.cpu2")["cpu"]) == {2}


def test_page_that_was_cut_is_left_out_and_told(tmp_path: Path) -> None:
    folder = folder_of(spec_of("little", 4), tmp_path / "raw")
    pages = folder / "trace_pipe_raw.cpu0"
    pages.write_bytes(pages.read_bytes()[:-96])
    capture = open_capture(folder)
    assert 200 < len(capture.events.collect()) < 400
    assert "trace_pipe_raw.cpu0 ends within a page: 4000 bytes are left out" in capture.notes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("header_page", None, "no header_page that describes them"),
        ("header_page", b"nonsense\n", "describes no page"),
        ("header_page", b"commit;\toffset:8;\tsize:4;\ndata;\toffset:9;\tsize:4;\n", "no page"),
        ("formats.*", None, "no formats of their events"),
        ("trace_pipe_raw.cpu*", b"\xff" * 4096, "hold no page"),
        ("trace_pipe_raw.cpu*", b"", "hold no page"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    folder = folder_of(spec_of("little", 4), tmp_path / "raw")
    for path in folder.glob(name):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    with pytest.raises(HmtraceError, match=words) as failed:
        open_capture(folder)
    assert failed.value.exit_code == 3
