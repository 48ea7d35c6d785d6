"""Text of the function_graph tracer: its columns, its comments, what ends what."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import collectors
from collectors.input.source import Source
from collectors.text.reader import read
from tests.writers import graphtext
from tests.writers.graphtext import Call

FIXTURES = Path(__file__).parents[2] / "fixtures"
FOLDER = FIXTURES / "i386-func-minix-pae-smp2"


def table(text: str) -> tuple[pl.DataFrame, Any]:
    """Event table and capture of a text."""
    from collectors.build import build_capture

    source = Source.from_bytes(text.encode())
    capture = build_capture(source, read(source))
    return capture.events.collect(), capture


CALLS = [
    Call(
        "minix_lookup",
        inner=[
            Call(
                "kmap_high",
                inner=[Call("flush_all_zero_pkmaps", inner=[Call("flush_tlb_kernel_range")])],
            ),
            Call("kunmap_high"),
            Call("schedule", inner=[Call("__kmap_local_sched_out")]),
        ],
    ),
    Call("kmap_high"),
    Call("vm_map_ram", inner=[Call("alloc_vmap_area")]),
]


@pytest.mark.parametrize("with_header", [True, False])
@pytest.mark.parametrize(
    "columns",
    [
        "abs rel cpu task flags times",
        "abs cpu task times",
        "cpu times",
        "cpu task times",
        "rel cpu times",
        "abs cpu task flags",
        "abs cpu",
        "times",
        "task times",
    ],
)
def test_every_choice_of_columns(*, columns: str, with_header: bool) -> None:
    chosen = set(columns.split())
    text, expected = graphtext.write(CALLS, chosen, with_header=with_header, cpu=1, pid=112)
    rows, capture = table(text)
    assert len(expected) == rows.height == 8
    for row, call in zip(rows.iter_rows(named=True), expected, strict=True):
        assert row["op"] == call["op"]
        assert row["site"] == call["site"]
        assert row["cpu"] == (1 if "cpu" in chosen else 0)
        assert (row["pid"], row["comm"]) == ((112, "bash") if "task" in chosen else (None, None))
        assert row["ctx"] == (4 if "flags" in chosen else 128)
        assert row["end_seq"] is not None
        assert row["duration"] == (call["duration"] if "times" in chosen else None)
        if "abs" in chosen:
            assert row["ts"] == call["ts"] // 1000 * 1000
            if "times" in chosen:
                assert abs(row["end_ts"] - row["ts"] - row["duration"]) <= 1000
    assert capture.clock_is_ns == bool(chosen & {"abs", "rel"})
    assert any("no arguments" in note for note in capture.notes)
    assert any("funcgraph-proc" in note for note in capture.notes) == ("task" not in chosen)
    assert any("funcgraph-abstime" in note for note in capture.notes) != capture.clock_is_ns
    assert any("funcgraph-cpu" in note for note in capture.notes) == ("cpu" not in chosen)
    assert not any("could not be read" in note for note in capture.notes)


def test_the_real_one_has_the_calls_of_its_trace_dat() -> None:
    text = collectors.open_capture(FOLDER / "trace_graph.txt.gz")
    rows = text.events.collect()
    data = gzip.decompress((FOLDER / "trace_graph.txt.gz").read_bytes())
    assert data.count(b"kmap_high()") == rows.filter(pl.col("op") == "kmap").height > 0
    assert rows.get_column("duration").null_count() <= 2
    assert rows.get_column("pid").null_count() < rows.height
    nested = rows.filter(pl.col("site") == "__purge_vmap_area_lazy")
    assert nested.height == data.count(b"|    flush_tlb_kernel_range")
    assert any("durations are known" in note or "durations" in note for note in text.notes)


def test_ends_that_name_themselves_and_results() -> None:
    text = (
        "# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n"
        "# |     |   |                     |   |   |   |\n"
        " 0)   3.100 us    |  } /* kmap_high <-minix_lookup ret=0xff800000 */\n"
        " 0)   0.123 us    |  kmap_high(); /* = 0xff801000 */\n"
        " 0)   0.123 us    |  kunmap_high [minix](); /* = 0xff801000 */\n"
        " 0)               |  kmap_high(page=0xc0de, prot=1) { /* <-dir_get_page */\n"
        " 0)               |    /* a marker */\n"
        " 0)   ==========> |\n"
        " 0)               |  alloc_vmap_area() {\n"
        " 0)   <========== |\n"
        " 0) + 10.120 us   |  } /* = -12 */\n"
        " 0)   9.000 us    |  } /* kmap_high = 0xff802000 */\n"
    )
    rows, capture = table(text)
    assert rows.get_column("vaddr").to_list() == [0xFF800000, 0xFF801000, None, 0xFF802000, 0]
    assert rows.get_column("entry_traced").to_list() == [False, True, True, True, True]
    assert rows.get_column("duration").to_list() == [3100, 123, 123, 9000, 10120]
    assert rows.get_column("site").to_list() == [None, None, None, "dir_get_page", None]
    assert [n for n in capture.notes if "could not be read" in n] == []


def test_switches_of_tasks_tell_who_runs() -> None:
    text = (
        " 0)   0.123 us    |  kmap_high();\n"
        " ------------------------------------------\n"
        " 0)  kswapd0-50   =>   bash-112   \n"
        " ------------------------------------------\n\n"
        " 0)   0.123 us    |  kmap_high();\n"
        " 1)   0.123 us    |  kmap_high();\n"
    )
    rows, _ = table(text)
    assert rows.get_column("pid").to_list() == [None, 112, None]
    assert rows.get_column("comm").cast(pl.String).to_list() == [None, "bash", None]


def test_events_between_calls_are_read_too() -> None:
    text = (
        " 0)               |  kmap_high() {\n"
        " 0)               |    /* kmap_high: (kmap_high+0x0/0x260) page=0xf69b9db0 */\n"
        " 0)               |    /* sched_switch: prev_comm=a prev_pid=5 prev_prio=120 prev_state=D"
        " ==> next_comm=b next_pid=7 next_prio=120 */\n"
        " 0)   0.123 us    |  }\n"
    )
    rows, _ = table(text)
    assert rows.get_column("op").to_list() == ["kmap", "kmap", "switch"]
    assert rows.get_column("page").to_list() == [None, 0xF69B9DB0, None]
    assert rows.row(2, named=True)["next_pid"] == 7


def test_a_value_that_is_no_number_is_counted_once_whatever_calls_come_behind_it() -> None:
    text = (
        " 0)               |  kmap_high() {\n"
        " 0)               |    /* kmap_high: (kmap_high+0x0/0x260) page=nonsense */\n"
        " 0)   0.123 us    |    kunmap_high();\n"
        " 0)   0.123 us    |    kunmap_high();\n"
        " 0)   9.000 us    |  }\n"
    )
    _, reading = table(text)
    assert "1 arguments are no numbers and were left out" in reading.notes


def test_return_probes_between_calls_are_counted_once() -> None:
    probe = "kmap_high_ret: (f+0x4/0x90 <- kmap_high) vaddr=0xff001000"
    text = f" 0)               |  kmap_high() {{\n 0)               |    /* {probe} */\n"
    _, capture = table(text + " 0)   0.123 us    |  }\n 0)   0.100 us    |  kunmap_high();\n")
    assert capture.raw_events == {
        "kmap_high": 1,
        "kmap_high (return)": 2,
        "kunmap_high": 1,
        "kunmap_high (return)": 1,
    }


def test_trace_cmd_report_gives_the_same_calls() -> None:
    text, expected = graphtext.write(CALLS, {"report"}, with_header=True, cpu=1, pid=112)
    rows, _ = table(text)
    assert rows.get_column("op").to_list() == [call["op"] for call in expected]
    assert rows.get_column("site").to_list() == [call["site"] for call in expected]
    assert rows.get_column("duration").to_list() == [call["duration"] for call in expected]
    assert set(rows.get_column("pid").to_list()) == {112}
