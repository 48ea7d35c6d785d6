"""Tracepoints, stack traces and markers in text: what they become in the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from collectors import open_capture
from collectors.traceevent.stacks import caller_in

if TYPE_CHECKING:
    from pathlib import Path

ALLOC = (
    "alloc_vmap_area: va_start: {} size=12288 align=1 vstart=0xf77fe000 vend=0xfeffe000 failed={}"
)
FREE = "free_vmap_area_noflush: va_start=0xf78d6000 nr_lazy=3 nr_lazy_max=16384"
PURGE = "purge_vmap_area_lazy: start=0xf78d6000 end=0xf78d9000 num_purged={}"


def table(
    folder: Path, *bodies: str, cpus: tuple[int, ...] = (), flags: tuple[str, ...] = ()
) -> tuple[list[Any], Any]:
    """Rows and capture of a text with one line a body; bodies that begin with a space follow."""
    lines = []
    for number, body in enumerate(bodies):
        cpu = cpus[number] if cpus else 1
        how = flags[number] if flags else "....."
        left = f"            bash-112     [{cpu:03d}] {how}    14.{number:06d}: "
        lines.append(body if body.startswith(" ") else left + body)
    path = folder / "trace"
    path.write_text("\n".join(lines) + "\n")
    capture = open_capture(path)
    return capture.events.collect().rows(named=True), capture


def test_percpu_chunks(tmp_path: Path) -> None:
    entry = "p: (pcpu_get_vm_areas+0x0/0x1280) {}nr=1 align=0x1000"
    leave = "r: (pcpu_create_chunk+0xcc/0x1ac <- pcpu_get_vm_areas) vms={} {}"
    rows, _ = table(
        tmp_path,
        entry.format("offset=0x0 size=0x28000 "),
        leave.format("0xc60bfd80", "vaddr=0xff7b0000"),
        entry.format(""),
        leave.format("0xc60bfd80", "addr=0xff788000 size=0x28000"),
        entry.format("size=0x28000 "),
        leave.format("0x0", "vaddr=(fault)"),
    )
    said = [(row["vaddr"], row["size"], row["align"], row["pages"]) for row in rows]
    assert {row["op"] for row in rows} == {"percpu_alloc"}
    assert said[:2] == [(0xFF7B0000, 0x28000, 0x1000, 1), (0xFF788000, 0x28000, 0x1000, 1)]
    assert said[2] == (0, 0x28000, 0x1000, 1)


def test_tracepoints_alone_make_the_table(tmp_path: Path) -> None:
    rows, _ = table(
        tmp_path,
        ALLOC.format(0xF78D6000, 0),
        ALLOC.format(0xFEFFE000, 1),
        FREE,
        PURGE.format(1),
        PURGE.format(0),
    )
    assert [row["op"] for row in rows] == ["area_alloc"] * 2 + ["area_free"] + ["area_purge"] * 2
    alloc, failed, freed, purged, empty = rows
    assert (alloc["vaddr"], alloc["size"], alloc["align"]) == (0xF78D6000, 12288, 1)
    assert (alloc["start"], alloc["end"], alloc["caller"]) == (0xF77FE000, 0xFEFFE000, None)
    assert (alloc["seq"], alloc["end_seq"], failed["vaddr"]) == (0, 0, 0)
    assert (freed["vaddr"], freed["nr_lazy"], freed["nr_lazy_max"]) == (0xF78D6000, 3, 16384)
    assert (purged["start"], purged["purged"], purged["pages"]) == (0xF78D6000, 1, 1)
    assert (empty["purged"], empty["pages"]) == (0, 0)


def test_tracepoints_inside_probed_calls_are_folded_into_them(tmp_path: Path) -> None:
    rows, capture = table(
        tmp_path,
        "a: (alloc_vmap_area+0x0/0x9) size=0x3000 align=0x1 vstart=0xf77fe000 vend=0xfeffe000",
        ALLOC.format(0xFEFFE000, 1),
        ALLOC.format(0xF78D6000, 0),
        "r: (x+0x1/0x2 <- alloc_vmap_area) va=0xc1000000 va_start=0xf78d6000 va_end=0xf78d9000",
        "f: (free_vmap_area_noflush+0x0/0x9) va=0xc1000000 va_start=0xf78d6000 va_end=0xf78d9000",
        FREE,
        "p: (__purge_vmap_area_lazy+0x0/0x9) start=0xffffffff end=0x0",
        PURGE.format(1),
        "q: (x+0x1/0x2 <- __purge_vmap_area_lazy) ret=0x1",
    )
    assert [row["op"] for row in rows] == ["area_alloc", "area_free", "area_purge"]
    assert rows[0]["vaddr"] == 0xF78D6000
    assert (rows[1]["nr_lazy"], rows[1]["end"]) == (3, 0xF78D9000)
    assert (rows[2]["purged"], rows[2]["start"], rows[2]["pages"]) == (1, 0xFFFFFFFF, 1)
    assert capture.raw_events["alloc_vmap_area (tracepoint)"] == 2


def test_flushes_of_user_addresses_have_a_reason(tmp_path: Path) -> None:
    rows, _ = table(
        tmp_path,
        "tlb_flush: pages:-1 reason:flush on task switch (0)",
        "tlb_flush: pages:33 reason:local mm shootdown (3)",
        "tlb_flush: pages:1 reason:unheard of (77)",
    )
    assert [row["reason"] for row in rows] == ["task switch", "local mm shootdown", None]
    assert [row["pages"] for row in rows] == [None, 33, 1]


def test_a_stack_goes_to_the_last_event_of_its_cpu(tmp_path: Path) -> None:
    kmap = "p: (kmap_high+0x0/0x260) page=0xf69b9db0"
    stack = (" => kprobe_trace_func", " => kmap_high+0x1/0x2", " => minix_lookup <f7888797>")
    rows, capture = table(
        tmp_path, kmap, kmap, "<stack trace>", *stack, "other: x", "<stack trace>", *stack,
        cpus=(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    )  # fmt: skip
    assert [row["stack"] for row in rows] == [
        "kprobe_trace_func<-kmap_high+0x1<-minix_lookup",
        None,
    ]
    assert rows[0]["site"] == "minix_lookup"
    assert capture.raw_events["kernel_stack"] == 2
    assert not any("could not be read" in note for note in capture.notes)


def test_who_called_is_outside_of_tracing_and_mapping() -> None:
    assert caller_in("trace_x<-kprobe_y<-f<-g") == "f"
    assert caller_in("alloc_vmap_area+0x1<-__get_vm_area_node+0x2<-vmap+0x9<-hog+0x3 [hog]") == (
        "hog+0x3 [hog]"
    )
    assert caller_in("kmap_high") is None


VMALLOC = (
    "vmalloc: (__vmalloc_node_range+0x0/0x4e0) size=8192",
    "alloc: (alloc_vmap_area+0x0/0xa10) size=12288",
    "<stack trace>", " => kprobe_trace_func+0x1/0x2", " => alloc_vmap_area+0x1/0xa10",
    " => __vmalloc_node_range+0x90/0x4e0", " => vmalloc+0x5f/0x70", " => load_it+0x8/0x9 [hog]",
    " => do_one_initcall+0x4b/0x90",
    "alloc_ret: (__get_vm_area_node.constprop.0+0x50/0x90 <- alloc_vmap_area) va=0xf7a00000",
    "vmalloc_ret: (vmalloc+0x5f/0x70 <- __vmalloc_node_range) addr=0xf7a00000",
)  # fmt: skip


def test_a_function_that_maps_for_others_is_looked_through(tmp_path: Path) -> None:
    """The stack of the allocation in it tells who called vmalloc()."""
    rows, _ = table(tmp_path, *VMALLOC)
    assert [row["op"] for row in rows] == ["vmalloc", "area_alloc"]
    assert [row["site"] for row in rows] == ["load_it+0x8 [hog]"] * 2
    assert rows[0]["stack"] is None


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ((), "no stack"),
        (
            (" => alloc_vmap_area+0x1/0xa10", " => vzalloc+0x5f/0x70", " => other+0x1/0x2"),
            "another",
        ),
        ((" => alloc_vmap_area+0x1/0xa10", " => vmalloc+0x5f/0x70"), "no caller"),
    ],
)
def test_it_is_not_where_no_stack_shows_it(tmp_path: Path, left: tuple[str, ...], why: str) -> None:
    stack = ("<stack trace>", *left) if left else ()
    rows, _ = table(tmp_path, *VMALLOC[:2], *stack, *VMALLOC[-2:])
    assert rows[0]["site"].startswith("vmalloc+0x5f"), why


def test_the_stack_of_an_interrupt_says_nothing_of_who_was_interrupted(tmp_path: Path) -> None:
    rows, _ = table(tmp_path, *VMALLOC, flags=(".....", *["..h1."] * 9, "....."))
    assert rows[0]["site"].startswith("vmalloc+0x5f")


def test_the_stack_of_the_event_itself_goes_first(tmp_path: Path) -> None:
    """One by frame pointers lacks who called the function that was entered: vmalloc()."""
    stack = ("<stack trace>", " => __vmalloc_node_range+0x1/0x4e0", " => get_it+0x8/0x9")
    rows, _ = table(tmp_path, VMALLOC[0], *stack, *VMALLOC[1:])
    assert rows[0]["site"] == "get_it+0x8"


def test_markers_are_kept(tmp_path: Path) -> None:
    kmap = "p: (kmap_high+0x0/0x260) page=0xf69b9db0"
    _, capture = table(
        tmp_path,
        kmap,
        "tracing_mark_write: pkdump begin",
        "tracing_mark_write+0x81/0x220: pkdump end",
        "print: some_func: a text of trace_printk",
        "print:                tracing_mark_write: pkdump end",
    )
    assert [(m.seq, m.text) for m in capture.markers] == [
        (1, "pkdump begin"),
        (2, "pkdump end"),
        (4, "pkdump end"),
    ]
    assert capture.markers[0].ts == 14_000_001_000


def test_events_without_context_are_counted_only(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(
        "# tracer: nop\n#\n"
        "kmap_high: (kmap_high+0x0/0x260) page=0xf69b9db0\n"
        "kmap_high_ret: (f+0x1/0x2 <- kmap_high) vaddr=0xff800000\n"
        "sched_switch: prev_comm=a prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=b "
        "next_pid=15 next_prio=120\ntracing_mark_write: hello\n"
    )
    capture = open_capture(path)
    rows = capture.events.filter(pl.col("op") == "kmap").collect().rows(named=True)
    assert [(row["page"], row["pid"], row["end_seq"]) for row in rows] == [(None, None, None)]
    assert capture.raw_events["kmap_high (return)"] == 1
    assert capture.span_ns == 0
    assert not capture.clock_is_ns
    assert any("nocontext-info" in note for note in capture.notes)


FIELDS = (
    "p: __probe_ip={} (3240556576) page=0xf69b9db0 (4137393584)",
    "r: __probe_func={} (3240556576) __probe_ret_ip={} (4152919959) vaddr=0xff000000 (4278190080)",
    "sched_switch: prev_comm=swapper (x) prev_pid=0x0 (0) prev_prio=0x78 (120) prev_state=0x2 (2) "
    "next_comm=rcu preempt next_pid=0xf (15) next_prio=0x78 (120)",
    "print: ip={} (3239547169) buf=begin: of it",
    "tlb_flush: reason=0x3 (3) pages=0xffffffff (-1)",
    "tlb_flush: reason=0x1 (1) pages=0x21 (33)",
    "alloc_vmap_area: addr=0xf7800000 (4152360960) size=0x2000 (8192) align=0x1 (1) "
    "vstart=0xf77fe000 (4152352768) vend=0xfeffe000 (4278181888) failed=0x0 (0)",
    "function: ip={} (3240556580) parent_ip={} (3240624128)",
)
"""Option ``fields`` (kernel/trace/trace_output.c: print_fields)."""
PLACES = ("0xc126f820", "0xc126f820", "0xf7888797", "0xc1179121", "0xc126f824", "0xc1280045")
SHOWN = (
    "kmap_high+0x0/0x260", "kmap_high+0x0/0x260", "minix_lookup+0x97/0x100 [minix]",
    "tracing_mark_write+0x81/0x220", "kmap_high+0x4/0x260", "dir_get_page+0x45/0x100",
)  # fmt: skip
KALLSYMS = (
    "c11790a0 t tracing_mark_write\nc126f820 T kmap_high\nc1280000 T dir_get_page\n"
    "f7888700 t minix_lookup [minix]\n"
)


@pytest.mark.parametrize("places", [PLACES, SHOWN])
def test_option_fields(tmp_path: Path, places: tuple[str, ...]) -> None:
    (tmp_path / "kallsyms").write_text(KALLSYMS)
    text = "\n".join(FIELDS).format(*places)
    rows, capture = table(tmp_path, *text.splitlines())
    kmap, switch, all_pages, some_pages, area, traced = rows
    assert (kmap["op"], kmap["page"], kmap["vaddr"]) == ("kmap", 0xF69B9DB0, 0xFF000000)
    assert kmap["site"].startswith("minix_lookup+0x97")
    assert kmap["site"].endswith(" [minix]")
    assert (switch["next_pid"], switch["blocked"]) == (15, True)
    assert (all_pages["reason"], all_pages["pages"]) == ("local mm shootdown", None)
    assert (some_pages["reason"], some_pages["pages"]) == ("remote shootdown", 33)
    assert (area["op"], area["vaddr"], area["size"]) == ("area_alloc", 0xF7800000, 0x2000)
    assert (traced["op"], traced["site"].partition("/")[0]) == ("kmap", "dir_get_page+0x45")
    assert [mark.text for mark in capture.markers] == ["begin: of it"]
    printed = "\n".join(FIELDS).format(*places).replace(places[3], "kmap_high+0x1/0x9")
    assert table(tmp_path, *printed.splitlines())[1].markers == ()


@pytest.mark.parametrize(
    ("shown", "fits"),
    [
        ("999999999999999999", True),
        ("9223372036854775808", True),
        ("9999999999999999999", True),
        ("10000000000000000000", True),
        ("18446683600717594624", True),
        ("18446744073709551615", True),
        ("18446744073709551616", False),
        ("28446744073709551615", False),
        ("118446744073709551615", False),
        ("-10000000000000000000", False),
    ],
)
def test_decimal_addresses_of_64_bits(tmp_path: Path, shown: str, *, fits: bool) -> None:
    rows, capture = table(tmp_path, f"p: (kmap_high+0x0/0x260) page={shown}")
    assert rows[0]["page"] == (int(shown) if fits else None)
    assert any("no numbers" in note for note in capture.notes) != fits
