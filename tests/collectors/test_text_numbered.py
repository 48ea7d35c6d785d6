"""tracefs text of options raw and hex: the rows of the ordinary text, without arguments."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from collectors import open_capture, text
from collectors.errors import HmtraceError
from collectors.input.source import Source
from collectors.probes import FUNCTION_OF, FUNCTIONS, KIND_LOST, KIND_MARK

if TYPE_CHECKING:
    from collectors.capture import Capture

FIXTURE = Path(__file__).parents[2] / "fixtures" / "i386-minix-pae-smp2"
HEADER = "# tracer: nop\n#\n"
KMAP, VFREE = FUNCTION_OF["kmap_high"], FUNCTION_OF["vfree"]
KALLSYMS = (
    "c1000000 T _stext\nc1179100 t tracing_mark_write\nc126f820 T kmap_high\n"
    "c1270000 T vfree\nc1280000 T sys_open\nf8000000 t my_driver [mine]\n"
)


def ordinary(events: int) -> bytes:
    """The ordinary text of the same buffer, cut after so many events."""
    lines = gzip.decompress((FIXTURE / "trace.txt.gz").read_bytes()).splitlines(keepends=True)
    begin = next(n for n, line in enumerate(lines) if not line.startswith(b"#"))
    return b"".join(lines[: begin + events])


def beside(folder: Path, content: str | bytes, **files: str) -> Source:
    """A text with files beside it."""
    for name, data in files.items():
        (folder / name).write_text(data)
    data = content.encode() if isinstance(content, str) else content
    return Source.from_bytes(data, "trace.txt", folder)


@pytest.mark.parametrize(("option", "events"), [("raw", 5988), ("hex", 2994)])
def test_the_same_rows_as_the_ordinary_text(option: str, events: int) -> None:
    numbers = text.read(Source.from_bytes(_gunzip(f"trace_{option}.txt.gz"), "x", FIXTURE))
    words = text.read(Source.from_bytes(ordinary(events), "x", FIXTURE))
    assert sum(numbers.raw.counts.values()) == sum(words.raw.counts.values()) == events
    ours, theirs = numbers.raw.rows, words.raw.rows
    if option == "hex":  # does not show markers
        theirs = theirs[theirs["kind"] != KIND_MARK]
    for column in ("kind", "cpu", "pid"):
        assert (ours[column] == theirs[column]).all(), column
    comms = [np.array(r.raw.comms, object) for r in (numbers, words)]
    assert (comms[0][ours["comm"]] == comms[1][theirs["comm"]]).all()
    # raw and hex give nanoseconds, which the kernel rounds in the ordinary text
    assert (abs(ours["ts"] - theirs["ts"]) <= 500).all()
    assert len(set((ours["ts"] - theirs["ts"]).tolist())) > 100
    assert not ours["present"][ours["kind"] != KIND_MARK].any()
    assert (ours["ctx"] == 128).all()
    assert numbers.raw.marks == (["pkdump begin"] if option == "raw" else [])
    assert (numbers.clock, numbers.clock_is_ns, numbers.cpus) == ("global", True, 2)
    assert abs(numbers.span_ns - words.span_ns) < 1000
    counts = dict(words.raw.counts)  # whose print it was, only kallsyms tells, or the words
    assert numbers.raw.counts == {"print": counts.pop("tracing_mark_write"), **counts}


def _gunzip(name: str) -> bytes:
    return gzip.decompress((FIXTURE / name).read_bytes())


def _table(capture: Capture) -> pl.DataFrame:
    return capture.events.select(
        "op", "cpu", "pid", "seq", "end_seq", "parent", pl.col("comm").cast(pl.String)
    ).collect()


def test_the_table_is_that_of_the_ordinary_text(tmp_path: Path) -> None:
    for name in ("event_formats.gz", "kprobe_events", "saved_cmdlines", "trace_clock"):
        shutil.copy(FIXTURE / name, tmp_path)
    (tmp_path / "words.txt").write_bytes(ordinary(5988))
    (tmp_path / "trace_raw.txt").write_bytes(_gunzip("trace_raw.txt.gz"))
    words, numbers = open_capture(tmp_path / "words.txt"), open_capture(tmp_path / "trace_raw.txt")
    assert _table(numbers).equals(_table(words))
    table = numbers.events.collect()
    for name in ("page", "pfn", "vaddr", "caller", "site", "next_pid", "blocked", "reason"):
        assert table[name].null_count() == table.height, name
    (note,) = [n for n in numbers.notes if "option raw" in n]
    assert "no arguments" in note
    assert any("event_formats.gz beside it says which they are" in n for n in numbers.notes)


def test_without_descriptions_events_keep_their_numbers(tmp_path: Path) -> None:
    lines = "".join(f"112 0 {10**9 + n} type: {1580 + n % 2}\n" for n in range(50))
    got = text.read(beside(tmp_path, HEADER + lines))
    assert got.raw.counts == {"event type 1580": 25, "event type 1581": 25}
    assert not len(got.raw.rows)
    assert any("have the numbers 1580, 1581: put" in note for note in got.notes)


FORMATS = """name: anything
ID: 1580
format:
\tfield:unsigned long __probe_ip;\toffset:8;\tsize:4;\tsigned:0;
name: sched_switch
ID: 370
format:
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
"""


def test_every_kind_of_line(tmp_path: Path) -> None:
    lines = [
        "5 0 1000000001 type: 1580",
        "CPU:1 [LOST 7 EVENTS]",
        "5 1 1000000002 # c1179121 begin of it: # 3",
        "5 1 1000000003 : c1280010 : count 5",
        "5 1 1000000004 # f8000004 from trace_printk()",
        "5 1 1000000005 # 77 buf: 01 02",
        "0 0 1000000006 c126f824 c1280000",
        "0 0 1000000007 c1280004 c1000010",
        "0 0 1000000008 type: 370",
        "5 1 1000000009 type: 4",
        "5 1 99999999999999999999 type: 4",
        "",
    ]
    source = beside(
        tmp_path,
        HEADER + "\n".join(lines),
        kallsyms=KALLSYMS,
        event_formats=FORMATS,
        kprobe_events="p:hm/anything vfree addr=%ax:x32\n",
        saved_cmdlines="5 a name\n",
        trace_clock="[local] global\n",
    )
    got = text.read(source)
    rows = got.raw.rows
    found = [
        (
            int(r["ts"]) - 10**9,
            int(r["kind"]),
            int(r["cpu"]),
            int(r["pid"]),
            got.raw.comms[r["comm"]],
        )
        for r in rows
    ]
    assert found == [
        (1, 2 * VFREE, 0, 5, "a name"),
        (1, KIND_LOST, 1, 0, ""),
        (2, KIND_MARK, 1, 5, "a name"),
        (6, 2 * KMAP, 0, 0, "<idle>"),
        (8, 2 * len(FUNCTIONS), 0, 0, "<idle>"),
    ]
    assert rows["caller"][3] == 0xC1280000
    assert got.raw.marks == ["begin of it: # 3"]
    assert got.lost.events == 7
    assert got.raw.counts == {
        "kernel_stack": 1, "kmap_high": 1, "my_driver": 1, "raw_data": 1, "sched_switch": 1,
        "sys_open": 2, "tracing_mark_write": 1, "vfree": 1,
    }  # fmt: skip
    assert any("1 of 13 lines could not be read; the first is line 13" in n for n in got.notes)


@pytest.mark.parametrize("option", ["raw", "hex"])
def test_pieces_and_threads_change_nothing(option: str) -> None:
    data = _gunzip(f"trace_{option}.txt.gz")
    from collectors.text import reader

    whole = reader.read(Source.from_bytes(data, "x", FIXTURE)).raw
    for chunk, threads in ((500, 3), (4096, 2)):
        got = reader.read_raw(Source.from_bytes(data, "x", FIXTURE), threads=threads, chunk=chunk)[
            0
        ]
        assert (got.rows == whole.rows).all()
        assert (got.comms, got.counts) == (whole.comms, whole.counts)
    streamed = reader.stream(Source.from_bytes(data, "x", FIXTURE), chunk=700).whole().raw
    for column in ("ts", "kind", "pid", "cpu"):
        assert (streamed.rows[column] == whole.rows[column]).all()


def test_damaged_files_beside_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "trace.dat").write_bytes(b"\x17\x08\x44tracing6\0\0\x04" + bytes(40))
    (tmp_path / "perf.data.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    source = beside(tmp_path, "5 0 1 type: 1580\n" * 3, event_formats=FORMATS)
    assert text.read(source).raw.counts == {"anything": 3}


def test_a_text_of_numbers_that_is_no_trace_is_refused() -> None:
    with pytest.raises(HmtraceError, match="no line of this text"):
        text.read(Source.from_bytes(b"1 2 3 4\n5 6 7 8\n", "x"))
