"""Line forms of tracefs and trace-cmd, one by one; losses, clocks, addresses, notes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from collectors.input.source import Source
from collectors.probes import FUNCTION_OF, KIND_LOST, KIND_STARTED, KIND_SWITCH, TRACEPOINTS
from collectors.raw import FAULT, UNKNOWN_CPU
from collectors.text import is_report
from collectors.text.reader import read
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"
KMAP = 2 * FUNCTION_OF["kmap_high"]
LEFT = "            bash-112     [001] d..2.    14.641028: "


def reading(text: str | bytes, folder: Path | None = None) -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    return read(Source.from_bytes(data, folder=folder))


def one(body: str, **options: Any) -> Any:
    """Row and reading of a single event."""
    result = reading(f"{LEFT}{body}\n", **options)
    assert len(result.raw.rows) == 1, result
    return result.raw.rows[0], result


def fixture(name: str) -> Any:
    path = FIXTURES / name
    return reading(gzip.decompress(path.read_bytes()), path.parent)


def test_kprobe_and_kretprobe() -> None:
    row, result = one("p: (kmap_high+0x0/0x260) page=0xf69b9db0")
    assert (row["kind"], row["pid"], row["cpu"], row["ctx"]) == (KMAP, 112, 1, 1 | 16)
    assert (row["ts"], row["values"][0], row["present"]) == (14_641_028_000, 0xF69B9DB0, 1)
    assert result.raw.counts == {"kmap_high": 1}
    row, result = one("r: (dir_get_page.isra.0+0x50/0x60 [minix] <- kmap_high) vaddr=0xff127000")
    assert row["kind"] == KMAP + 1
    assert result.raw.sites[row["site"]] == "dir_get_page.isra.0+0x50 [minix]"
    row, _ = one("r: (0xf7888797 <- kmap_high) arg1=0xff127000")
    assert (row["caller"], row["site"], row["values"][0]) == (0xF7888797, 0, 0xFF127000)


def test_the_probed_function_decides_not_the_name() -> None:
    row, _ = one("kunmap_high: (kmap_high+0x0/0x260) page=0x1")
    assert row["kind"] == KMAP
    inside = reading(f"{LEFT}kmap_high: (kmap_high+0x65/0x260) page=0x1\n")
    assert not len(inside.raw.rows)
    assert inside.raw.counts == {"kmap_high": 1}
    tracepoint, result = one("alloc_vmap_area: va_start: 4039180288 size=12288 align=1")
    assert tracepoint["kind"] == TRACEPOINTS["alloc_vmap_area"]
    assert (tracepoint["values"][:2].tolist(), tracepoint["caller"]) == ([12288, 1], 4039180288)
    assert result.raw.counts == {"alloc_vmap_area (tracepoint)": 1}
    suffixed, _ = one("x: (alloc_vmap_area.constprop.0+0x0/0x9) size=0x3000")
    assert suffixed["kind"] == 2 * FUNCTION_OF["alloc_vmap_area"]


@pytest.mark.parametrize(
    ("text", "value", "present"),
    [
        ("0x10", 16, True),
        ("4096", 4096, True),
        ("-16", 0xFFFFFFF0, True),
        ("(fault)", 0, False),
        ("0x", 0, False),
        ("9" * 100, 0, False),
        ("0x" + "f" * 100, 0, False),
        ("0xffffffffffffffff", 2**64 - 1, True),
        ("{0x1,0x2}", 0, False),
        ('"two words"', 0, False),
        ("", 0, False),
    ],
)
def test_values(text: str, value: int, *, present: bool) -> None:
    row, _ = one(f"p: (__purge_vmap_area_lazy+0x0/0x1) start={text} end=0x77")
    assert row["values"][0] == value
    assert bool(row["present"] & 1) is present
    assert (row["values"][1], row["present"] & 2) == (0x77, 2)
    assert bool(row["present"] & FAULT) is (text == "(fault)")


def test_stale_values_of_a_failed_allocation_are_kept_for_the_assembler() -> None:
    row, _ = one("r: (f+0x1/0x2 <- alloc_vmap_area) va=0xfffffff0 va_start=0xf8000000 va_end=0x1")
    assert row["values"].tolist()[:3] == [0xFFFFFFF0, 0xF8000000, 1]


def test_numbers_of_a_hundred_digits_make_a_line_unreadable() -> None:
    good = f"{LEFT}p: (kmap_high+0x0/0x1) page=0x1\n"
    for bad in ("bash-" + "1" * 100 + " [000] 1.0: x: y", "bash-1 [000] " + "1" * 100 + ".5: x: y"):
        result = reading(good + bad + "\n" + good)
        assert len(result.raw.rows) == 2
        assert any("1 of 3 lines could not be read; the first is line 2" in n for n in result.notes)


def test_lost_and_started_markers() -> None:
    event = "p: (kmap_high+0x0/0x1) page=0x1\n"
    text = (
        f"{LEFT}{event}CPU:1 [LOST 23 EVENTS]\n##### CPU 0 buffer started ####\n"
        f"CPU:1 [LOST EVENTS]\nCPU:3 [7 EVENTS DROPPED]\nCPU:3 [SUBBUFFER START]\n"
        f"{LEFT.replace('14.6', '15.6')}{event}"
    )
    result = reading(text)
    assert [int(k) for k in result.raw.rows["kind"]] == [
        KMAP,
        KIND_LOST,
        KIND_STARTED,
        KIND_LOST,
        KIND_LOST,
        KMAP,
    ]
    first, unknown, dropped = result.lost.intervals
    assert (first.cpu, first.count, first.after_seq) == (1, 23, 1)
    assert (first.start_ts, first.end_ts) == (14_641_028_000, 15_641_028_000)
    assert (unknown.count, dropped.cpu, dropped.count, dropped.end_ts) == (None, 3, 7, None)
    assert (result.lost.events, result.lost.unknown) == (30, 1)


def test_overwritten_buffer() -> None:
    events = [Event("bash", 1, 0, 10**9, "p: (kmap_high+0x0/0x1) page=0x1")]
    text = ftracetext.header(5, entries=1, written=10) + ftracetext.tracefs(events)
    result = reading(text)
    assert result.raw.rows["kind"].tolist() == [KIND_LOST, KMAP]
    assert result.raw.rows["cpu"][0] == UNKNOWN_CPU
    (interval,) = result.lost.intervals
    assert (interval.cpu, interval.count, interval.start_ts) == (None, 9, None)
    assert interval.reason == "ring buffer overwritten"


def test_overwritten_buffer_by_cpu_where_stats_say_so() -> None:
    result = fixture("i386-lost-overrun-pae-smp2/trace.txt.gz")
    assert [(i.cpu, i.count) for i in result.lost.intervals] == [(0, 47327), (1, 30141)]
    assert result.lost.events == 96029 - 18561
    assert result.raw.rows["kind"].tolist().count(KIND_STARTED) == 1


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("i386-hog-a-waiters-pae-smp2/report.txt.gz", 42902),
        ("i386-hog-a-waiters-pae-smp2/report-R.txt.gz", 42902),
        ("i386-hog-a-waiters-pae-smp2/report-l.txt.gz", 42902),
        ("i386-hog-a-waiters-pae-smp2/report-t.txt.gz", 42902),
    ],
)
def test_reports_say_what_the_kernels_text_says(name: str, events: int) -> None:
    kernel = fixture("i386-hog-a-waiters-pae-smp2/trace.txt.gz")
    report = fixture(name)
    assert report.format == "trace-cmd-report"
    assert sum(report.raw.counts.values()) == events
    assert report.notes == ()
    assert report.cpus == 2
    # Between the two printings the buffer was read in another order where stamps tie; per task
    # and kind the sequence of values is the same.
    for kind in (KMAP, KMAP + 1, KMAP + 2, KIND_SWITCH):
        for column in ("pid", "cpu", "values"):
            ours, theirs = kernel.raw.rows, report.raw.rows
            a = ours[ours["kind"] == kind]
            b = theirs[theirs["kind"] == kind]
            assert a[column].tolist() == b[column].tolist(), (kind, column)


def test_report_without_kallsyms_uses_kprobe_events_then_names(tmp_path: Path) -> None:
    text = (
        "cpus=1\n"
        + "            sh-1    [000]     1.000000: mine:                 (c126e9f0) page=0x5\n"
    )
    (tmp_path / "kprobe_events").write_text("p:hm/mine kunmap_high page=%ax:x32\n")
    row = reading(text, tmp_path).raw.rows[0]
    assert row["kind"] == 2 * FUNCTION_OF["kunmap_high"]
    assert not len(reading(text).raw.rows)
    named = reading(text.replace("mine:", "kmap_local_page:"))
    assert named.raw.rows[0]["kind"] == 2 * FUNCTION_OF["__kmap_local_page_prot"]
    assert any("guessed from the event names kmap_local_page" in note for note in named.notes)


def test_report_forms() -> None:
    left = "            sh-1     [000]     1.000000: "
    text = (
        "version = 7\nCPU 1 is empty\ncpus=2\n"
        f"{left}(+966)   kmap_high:            __probe_ip=c126e9f0 page=0x5\n"
        "      sh-1     0-0x11    1.000001: kmap_high_ret:  __probe_func=c126e9f0 "
        "__probe_ret_ip=c1000001 vaddr=0xff000000\n"
        f"trace.dat: {'sh':>16}-1     [000]1000000000001: kmap_high: (c126e9f0) page=0x6\n"
        f"{left}function:             kmap_high <-- minix_x\n"
    )
    assert is_report(text.encode())
    result = reading(text)
    rows = result.raw.rows
    assert rows["kind"].tolist() == [KMAP, KMAP + 1, KMAP, KMAP]
    assert rows["ctx"].tolist() == [128, 1 | 4, 128, 128]
    assert rows["values"][:, 0].tolist() == [5, 0xFF000000, 6, 0]
    assert rows["caller"].tolist() == [0, 0xC1000001, 0, 0]
    assert {result.raw.comms[c] for c in rows["comm"]} == {"sh"}
    assert result.raw.sites[rows["site"][3]] == "minix_x"


def test_latency_formats_agree_with_the_ordinary_one() -> None:
    ordinary = fixture("i386-minix-pae-smp2/trace.txt.gz").raw.rows
    for name in ("trace_latency", "trace_latverbose"):
        other = fixture(f"i386-minix-pae-smp2/{name}.txt.gz").raw.rows
        n = len(other)
        assert n > 5000
        for column in ("kind", "pid", "cpu", "ctx", "values", "present"):
            assert other[column].tolist() == ordinary[column][:n].tolist(), (name, column)
        offset = ordinary["ts"][:n] - other["ts"]
        assert int(offset.max() - offset.min()) <= 1000  # rounding of microseconds


def test_names_that_look_like_the_left_half_of_a_line() -> None:
    # A real 5.10 kernel ran tasks called "nl\nx" and "abc-1 [0] 1.0:". Its line ends in the name.
    switch = "sched_switch: prev_comm=nl\nx prev_pid=267 prev_prio=120 prev_state=X ==> "
    text = f"{LEFT}p: (kmap_high+0x0/0x260) page=0x1\n{LEFT}{switch}next_comm=abc-1 [0] 1.0: a=1\n"
    result = reading(text)
    assert sum(result.raw.counts.values()) == len(result.raw.rows)
    assert set(result.raw.rows["ts"]) == {14_641_028_000}
    odd = text.replace("    bash-112", "a-1 [0] 2.0:-112")
    assert reading(odd).raw.counts == result.raw.counts


def test_function_tracer_has_counts_and_sites_only() -> None:
    result = fixture("i386-func-minix-pae-smp2/trace.txt.gz")
    assert result.raw.counts["kmap_high"] == 8071
    rows = result.raw.rows
    assert not rows["present"].any()
    assert "dir_get_page.isra.0" in {result.raw.sites[s] for s in set(rows["site"].tolist())}
    assert any("no arguments" in note for note in result.notes)
    report = fixture("i386-func-minix-pae-smp2/report.txt.gz")
    assert report.raw.counts == result.raw.counts


def test_function_lines_with_offsets_addresses_and_modules() -> None:
    text = "".join(
        f"{LEFT}{body}\n"
        for body in (
            "kmap_high <-dir_get_page [minix]",
            "kmap_high+0x4/0x260 <-caller+0x1/0x2",
            "kmap_high <c126e9f0> <-caller <c1000000>",
            "other [mod] <-caller",
            "sys_close -> 0x0",
            "<stack trace>",
        )
    )
    result = reading(text + " => dir_get_page+0x1/0x2\n => x\n")
    assert result.raw.rows["kind"].tolist() == [KMAP] * 3
    assert result.raw.counts["kernel_stack"] == 1
    assert result.raw.sites[result.raw.rows["site"][0]] == "dir_get_page [minix]"
    assert not any("could not be read" in note for note in result.notes)


def test_counter_clock() -> None:
    text = "            bash-112     [001] d..2. 123456789: p: (kmap_high+0x0/0x1) page=0x1\n"
    result = reading(text)
    assert (result.clock_is_ns, result.raw.rows["ts"][0]) == (False, 123456789)
    assert any("durations are not" in note for note in result.notes)


def test_raw_stamps_of_a_nanosecond_clock_are_times(tmp_path: Path) -> None:
    (tmp_path / "trace_clock").write_text("local [mono] counter\n")
    text = "            bash-112     [001] d..2. 123456789: p: (kmap_high+0x0/0x1) page=0x1\n"
    result = reading(text, tmp_path)
    assert (result.clock, result.clock_is_ns) == ("mono", True)


def test_many_different_heads_arguments_and_tasks() -> None:
    lines = [
        f"{f't{i}':>16}-{i:<7d} [000] d..1. 1.000000: r{i % 5}: "
        f"(site{i}+0x1/0x2 <- kmap_high) a{i}=1 ret={i:#x}\n"
        for i in range(3000)
    ]
    result = reading("".join(lines))
    rows = result.raw.rows
    assert len(rows) == 3000
    assert rows["values"][:, 0].tolist() == list(range(3000))
    assert [result.raw.comms[c] for c in rows["comm"]] == [f"t{i}" for i in range(3000)]
    assert result.raw.sites[rows["site"][2999]] == "site2999+0x1"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\0" * 5000])
def test_a_line_that_is_cut_off_gives_no_value_and_is_told(end: str) -> None:
    line = f"{LEFT}p: (kmap_high+0x0/0x1) page=0xf6000028"
    for cut in (1, 40, len(line) - 2, len(line)):
        result = reading(line + "\n" + line[:cut] + end)
        whole = end.endswith("\n")
        told = [note for note in result.notes if "ends within a line" in note]
        assert len(told) == (not whole)
        if not whole:
            assert result.raw.rows["values"][:, 0].tolist() == [0xF6000028]
        elif cut == len(line):
            assert result.raw.rows["values"][:, 0].tolist() == [0xF6000028] * 2


def test_a_damaged_first_line_does_not_hide_the_probe_of_its_name() -> None:
    good = f"{LEFT}p: (kmap_high+0x0/0x1) page=0x1\n"
    result = reading(good.replace("+0x0/", "+0x\0/").encode() + good.encode() * 3)
    assert result.raw.rows["kind"].tolist() == [KMAP] * 3


def test_events_whose_payload_begins_with_a_parenthesis_stay_cheap() -> None:
    lines = "".join(f"{LEFT}initcall: ({i} x) y\n" for i in range(5000))
    result = reading(lines)
    assert result.raw.counts == {"initcall": 5000}


def test_damaged_argument_names_do_not_stop_the_reading() -> None:
    lines = [f"{LEFT}p: (kmap_high+0x0/0x1) a{i}={i} page={i:#x}\n" for i in range(1000)]
    result = reading("".join(lines))
    assert result.raw.rows["values"][:, 0].tolist()[:100] == list(range(100))
    assert len(result.raw.rows) == 1000
    assert any("no numbers" in note for note in result.notes)


def test_printk_of_unknown_callers_is_one_kind() -> None:
    lines = f"{LEFT}0xf7923122: hog\n{LEFT}0xf7923123: hog\n{LEFT}tracing_mark_write+0x8/0x9: x\n"
    assert reading(lines).raw.counts == {"trace_printk": 2, "tracing_mark_write": 1}
