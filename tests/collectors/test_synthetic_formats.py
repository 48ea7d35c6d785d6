"""One simulation in every format: the readers get the same events out of all of them."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import polars as pl
import pytest

from collectors import open_capture
from collectors.events import Ctx
from tests.collectors.synthetic_captures import WRITERS, board_of, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from collectors.capture import Capture

TRACE_CMD = shutil.which("trace-cmd")
EVENTS = 6000


@pytest.fixture(scope="module", params=["i386", "arm"])
def captures(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Capture]:
    root = tmp_path_factory.mktemp("formats")
    board = board_of(request.param)
    truths = [simulate(root / f, "mixed", board, f, events=EVENTS) for f in WRITERS]
    assert all(truth == truths[0] for truth in truths)  # the writer changes nothing
    found = {form: open_capture(root / form) for form in WRITERS}
    assert found["trace.dat-v7"].events.collect().height > EVENTS // 3
    return found


def plain(capture: Capture, *without: str) -> pl.DataFrame:
    events = capture.events.collect().with_columns(pl.col("comm", "site").cast(pl.String))
    # a text shows a site with the size of its function
    return events.with_columns(pl.col("site").str.replace("/0x.*", "")).drop(without)


def test_formats_are_recognised(captures: dict[str, Capture]) -> None:
    assert {form: c.origin.format for form, c in captures.items()} == {f: f for f in WRITERS}


def test_every_format_gives_the_same_table(captures: dict[str, Capture]) -> None:
    reference = captures["trace.dat-v7"]
    assert plain(captures["trace.dat-v6"]).equals(plain(reference))
    # the kernel's text has no address of a call site where it shows the symbol
    text = plain(captures["ftrace-text"])
    assert text.drop("caller").equals(plain(reference, "caller"))
    # perf script shows no flags, and another name for the idle task
    perf = plain(captures["perf-script"])
    assert perf.get_column("ctx").unique().to_list() == [Ctx.UNKNOWN]
    assert perf.drop("ctx", "comm").equals(plain(reference, "ctx", "comm"))
    assert set(perf.get_column("comm")) ^ set(plain(reference).get_column("comm")) == {
        "<idle>",
        "swapper",
    }


def test_nothing_is_lost_or_doubted(captures: dict[str, Capture]) -> None:
    for form, capture in captures.items():
        assert capture.raw_events == captures["trace.dat-v7"].raw_events
        assert not capture.lost.intervals
        assert not capture.facts.contradictions
        assert not capture.facts.notes
        assert all("contexts" in note for note in capture.notes), form


def test_digests_of_addresses(tmp_path: Path) -> None:
    """The truth's digests are those of the addresses that are read, in order of return."""
    truth = simulate(tmp_path, "mixed", board_of("arm"), events=EVENTS)
    events = open_capture(tmp_path).events.collect()
    assert len(truth["addresses"]) >= 5
    for op, told in truth["addresses"].items():
        rows = events.filter((pl.col("op") == op) & pl.col("end_seq").is_not_null())
        addresses = rows.sort("end_seq").get_column("vaddr").to_list()
        packed = b"".join(address.to_bytes(4, "little") for address in addresses)
        assert told == {"count": len(addresses), "sha256": hashlib.sha256(packed).hexdigest()}


def test_microseconds_as_the_kernel_rounds_them(tmp_path: Path) -> None:
    from collectors.synthetic.outputs.text import seconds

    assert seconds((12_000_000_499 + 500) // 1000, 6) == "   12.000000"
    assert seconds((12_000_000_500 + 500) // 1000, 6) == "   12.000001"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    board = board_of()
    for number, seed in enumerate((5, 5, 6)):
        simulate(tmp_path / str(number), "mixed", board, seed=seed, events=2000)
    first, second, other = ((tmp_path / n / "trace.dat").read_bytes() for n in "012")
    assert first == second != other


@pytest.mark.skipif(TRACE_CMD is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize("version", ["6", "7"])
def test_trace_cmd_reads_the_same_events(tmp_path: Path, version: str) -> None:
    truth = simulate(tmp_path, "mixed", board_of(), f"trace.dat-v{version}", events=3000)
    done = subprocess.run(
        [str(TRACE_CMD), "report", "-t", str(tmp_path / "trace.dat")],
        capture_output=True, check=True, timeout=300, text=True,
    )  # fmt: skip
    line = re.compile(r"^\s*(.{1,16}?)-(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d{9}): +(\w+): +(.*)$")
    shown = [m.groups() for m in map(line.match, done.stdout.splitlines()) if m]
    assert len(shown) == truth["recorded"]
    simulate(tmp_path / "text", "mixed", board_of(), "ftrace-text", events=3000)
    text = re.compile(r"^\s*(.{1,16}?)-(\d+)\s+\[(\d+)\] \S+ +(\d+)\.(\d{9}): (\w+): (.*)$")
    written = (tmp_path / "text" / "trace.txt").read_text().splitlines()
    own = [m.groups() for m in map(text.match, written) if m]
    for theirs, ours in zip(shown, own, strict=True):
        assert theirs[:6] == ours[:6]
        if "sched_switch" not in ours:  # trace-cmd's plugin has words of its own for it
            assert theirs[6].partition(") ")[2] == ours[6].partition(") ")[2]
