"""Several buffers in a trace.dat, and text instead of pages."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from collectors import HmtraceError, open_capture
from hmtrace.cli import app
from tests.writers import latency, tracedat
from tests.writers.tracedat import BufferSpec, FileSpec, Item

FIXTURE = Path(__file__).parents[2] / "fixtures" / "i386-minix-pae-smp2"
KMAP = 0xC126_F820


def several(version: int = 7) -> bytes:
    """One mapping in the top buffer, two in `a`, three in `b:c`."""
    events = tracedat.kernel_events(4)

    def items(number: int) -> list[Item]:
        payload = events["mapper"].payload("little", 7, [KMAP, 0xF6000000])
        return [Item("event", 1000 + n, payload) for n in range(number)]

    spec = FileSpec(
        [
            BufferSpec({0: items(1)}),
            BufferSpec({0: items(2)}, "a"),
            BufferSpec({0: items(3)}, "b:c"),
        ],
        list(events.values()),
        version=version,
        kallsyms="c126f820 T kmap_high\n",
    )
    return tracedat.write(spec)


@pytest.mark.parametrize("version", [6, 7])
def test_a_colon_chooses_the_buffer(tmp_path: Path, version: int) -> None:
    path = tmp_path / "trace.dat"
    path.write_bytes(several(version))
    for chosen, number in (("", 1), (":", 1), (":a", 2)):
        capture = open_capture(f"{path}{chosen}")
        assert capture.raw_events == {"kmap_high": number}
        assert capture.origin.trace == str(path)
        assert capture.origin.path == f"{path}{chosen}"
    assert any("not read: a, b:c (append `:NAME`" in n for n in open_capture(path).notes)
    assert open_capture(f"{tmp_path}:a").raw_events == {"kmap_high": 2}
    with pytest.raises(HmtraceError, match="no buffer 'x' in the file") as error:
        open_capture(f"{path}:x")
    assert error.value.exit_code == 2


def test_names_with_colons_are_files_first(tmp_path: Path) -> None:
    path = tmp_path / "trace.dat:a"
    path.write_bytes(several())
    assert open_capture(path).raw_events == {"kmap_high": 1}
    assert open_capture(f"{path}:a").raw_events == {"kmap_high": 2}
    with pytest.raises(HmtraceError, match="no such file"):
        open_capture(tmp_path / "nothing:a")


def test_only_a_trace_dat_has_buffers() -> None:
    with pytest.raises(HmtraceError, match="has several") as error:
        open_capture(f"{FIXTURE}/trace.txt.gz:a")
    assert error.value.exit_code == 2


def test_commands_take_a_buffer(tmp_path: Path) -> None:
    path = tmp_path / "trace.dat"
    path.write_bytes(several())
    done = CliRunner().invoke(app, ["info", f"{path}:a", "--format", "json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["raw_events"] == {"kmap_high": 2}
    assert told["source"]["path"] == f"{path}:a"
    out = tmp_path / "out.parquet"
    done = CliRunner().invoke(app, ["convert", f"{path}:a", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(out).height == 2


def latency_text() -> bytes:
    return gzip.decompress((FIXTURE / "trace_latency.txt.gz").read_bytes())


@pytest.mark.parametrize("form", ["v6", *latency.FORMS])
def test_text_of_a_latency_tracer(tmp_path: Path, form: str) -> None:
    """The same events as from the text alone (a real one)."""
    text = tmp_path / "trace.txt"
    text.write_bytes(latency_text())
    path = tmp_path / "trace.dat"
    path.write_bytes(latency.make(form, latency_text()))
    theirs, ours = open_capture(text), open_capture(path)
    assert ours.raw_events == theirs.raw_events
    assert sum(ours.raw_events.values()) > 3000
    columns: Any = [pl.col("comm").cast(pl.String), pl.exclude("comm", "site")]
    assert ours.events.select(columns).collect().equals(theirs.events.select(columns).collect())
    assert ours.origin.format == ("trace.dat-v6" if form == "v6" else "trace.dat-v7")
    assert (ours.clock, ours.facts.get("release")) == ("global", "6.1.0-50-686-pae")
    assert "the file holds the text of a latency trace" in ours.notes


def test_text_that_grows_beyond_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.dat"
    path.write_bytes(latency.make("zstd-block", bytes(80 << 20)))
    with pytest.raises(HmtraceError, match="refused"):
        open_capture(path)
