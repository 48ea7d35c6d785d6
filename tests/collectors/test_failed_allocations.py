"""Failed allocations of address space, by whatever the probes show of them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import polars as pl
import pytest

from collectors import open_capture

FIXTURES = Path(__file__).parents[2] / "fixtures"
LINE = "       insmod-142     [000] .....    11.{time:06d}: {event}\n"
VMAP = "vmap: (vmap+0x0/0xd0) pages=0xc2d4f000 count=34 flags=0x4"
ASKED = (
    "alloc_vmap_area: (alloc_vmap_area+0x0/0x7b0) size=0x23000 align=0x1 "
    "vstart=0xf77fe000 vend=0xfeffe000"
)
AREA = "va_start=0xfa493000 va_end=0xfa4b6000"
POINT = (
    "alloc_vmap_area: va_start: {} size=143360 align=1 vstart=0xf77fe000 vend=0xfeffe000 failed={}"
)
PURGE = "purge_vmap_area_lazy: (__purge_vmap_area_lazy+0x0/0x400) start=0xffffffff end=0x0"
VMALLOC = (
    "vmalloc: (__vmalloc_node_range+0x0/0x294) size=0x22000 align=0x1 start=0xf77fe000 "
    "end=0xfeffe000"
)
FAILED, FOUND = 0, 0xFA49_3000


def found(values: str) -> str:
    return f"alloc_vmap_area_ret: (__get_vm_area_node+0x8c/0x120 <- alloc_vmap_area) {values}"


def back(function: str, result: str) -> str:
    return f"{function}_ret: (0xf78e1581 <- {function}) vaddr={result}"


def freed(address: str) -> str:
    return (
        "free_vmap_area_noflush: (free_vmap_area_noflush+0x0/0x1e0) "
        f"va_start={address} va_end=0xfa4b6000"
    )


def allocations(tmp_path: Path, *events: str) -> pl.DataFrame:
    text = "# tracer: nop\n#\n"
    text += "".join(LINE.format(time=10 * i, event=event) for i, event in enumerate(events))
    (tmp_path / "trace.txt").write_text(text)
    table = open_capture(str(tmp_path / "trace.txt")).events.collect()
    return table.filter(pl.col("op") == "area_alloc")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([ASKED, found(f"va=0xfffffff0 {AREA}")], [FAILED]),
        ([ASKED, found(f"va=0xc2d05240 {AREA}")], [FOUND]),
        ([ASKED, found(AREA)], [FOUND]),
        # What the ring buffer held before, or zero: outside of the range, no page, another size.
        ([ASKED, found("va_start=0xc2d05240 va_end=0x0")], [FAILED]),
        ([ASKED, found("va_start=0x0 va_end=0x0")], [FAILED]),
        ([ASKED, found("va_start=0xf7000000 va_end=0xf7023000")], [FAILED]),
        ([ASKED, found("va_start=0xfefff000 va_end=0xff022000")], [FAILED]),
        ([ASKED, found("va_start=0xfa493000 va_end=0xfa4b5000")], [FAILED]),
        ([ASKED.replace("align=0x1", "align=0x4000"), found(AREA)], [FAILED]),
        ([ASKED, found("va_start=(fault) va_end=(fault)")], [FAILED]),
        # arguments that were not read right refute nothing
        ([ASKED.replace("vend=0xfeffe000", "vend=0xcc0"), found(AREA)], [FOUND]),
        # The caller returns NULL: stale fields of an area of the same size fit as well.
        ([VMAP, ASKED, found(AREA), back("vmap", "0x0")], [FAILED]),
        ([VMAP, ASKED, back("vmap", "0x0")], [FAILED]),
        ([VMAP, ASKED, back("vmap", "0xfa493000")], [FOUND]),
        ([VMALLOC, ASKED, back("__vmalloc_node_range", "0x0")], [FAILED]),
        (
            [
                "m: (module_alloc+0x0/0x60) size=0x22000",
                ASKED,
                found(AREA),
                back("module_alloc", "0x0"),
            ],
            [FAILED],
        ),
        # There was an area, and no memory for its pages.
        ([VMALLOC, ASKED, found(AREA), freed("0xfa493000"),
          back("__vmalloc_node_range", "0x0")], [FOUND]),
        ([VMALLOC, ASKED, found(AREA), freed("0xfb000000"),
          back("__vmalloc_node_range", "0x0")], [FAILED]),
        # Behind a purge the second attempt may have failed, and nothing tells.
        ([ASKED, PURGE, found(AREA)], [None]),
        ([ASKED, PURGE, found("va_start=0xc2d05240 va_end=0x0")], [FAILED]),
        ([VMAP, ASKED, PURGE, found(AREA), back("vmap", "0xfa493000")], [FOUND]),
        ([ASKED], [None]),
        # The tracepoint tells of each attempt: 0xfeffe000 is the range's end.
        ([POINT.format(4278181888, 1), PURGE, POINT.format(4278181888, 1)], [FAILED]),
        ([POINT.format(4278181888, 1), PURGE, POINT.format(0xFA493000, 0)], [FOUND]),
        ([POINT.format(4278181888, 1), POINT.format(0xFA493000, 0)] * 2, [FOUND, FOUND]),
        ([POINT.format(0, 1)], [FAILED]),
        ([ASKED, POINT.format(4278181888, 1), PURGE, POINT.format(0xFA493000, 0),
          found(AREA)], [FOUND]),
        ([ASKED, POINT.format(4278181888, 1), PURGE, POINT.format(4278181888, 1),
          found(AREA)], [FAILED]),
    ],
)  # fmt: skip
def test_what_tells_of_a_failure(
    tmp_path: Path, events: list[str], expected: list[int | None]
) -> None:
    assert allocations(tmp_path, *events).get_column("vaddr").to_list() == expected


def test_a_retry_that_only_the_tracepoint_shows_ends_the_call(tmp_path: Path) -> None:
    table = allocations(tmp_path, POINT.format(4278181888, 1), PURGE, POINT.format(0xFA493000, 0))
    assert table.select("seq", "end_seq", "ts", "end_ts").rows() == [
        (0, 2, 11_000_000_000, 11_000_020_000)
    ]


@pytest.mark.parametrize("name", ["recipe-failure-x86", "recipe-failure-arm-fault"])
def test_the_recipe_that_followed_the_pointer_only(name: str) -> None:
    table = open_capture(str(FIXTURES / "cases" / name)).events.collect()
    assert table.filter(pl.col("op") == "area_alloc").get_column("vaddr").to_list() == [FOUND, 0]


@pytest.mark.parametrize(
    ("name", "calls", "failures"),
    [
        ("i386-hog-e-vmapfail-pae-smp1", 1363, 40),
        ("i386-510-hog-e-vmapfail-pae-smp1", 1366, 40),
        ("i386-44-mix-pae-smp2", 235, 0),
        ("mips32-61-minix", 9, 0),
    ],
)
def test_a_real_capture_without_the_pointers(
    tmp_path: Path, name: str, calls: int, failures: int
) -> None:
    """6.1 shows stale bytes behind an error pointer, 5.10 zeros; the callers' NULL is there too.

    No allocation that found room is taken for one that failed.
    """
    text = gzip.decompress((FIXTURES / name / "trace.txt.gz").read_bytes())
    whole = open_capture(str(FIXTURES / name)).events.collect()
    without, number = re.subn(rb" va=0x[0-9a-f]+ va_start", b" va_start", text)
    assert number >= calls
    (tmp_path / "trace.txt").write_bytes(without)
    table = open_capture(str(tmp_path / "trace.txt")).events.collect()
    allocs = table.filter(pl.col("op") == "area_alloc")
    assert (allocs.height, allocs.filter(pl.col("vaddr") == 0).height) == (calls, failures)
    assert table.get_column("vaddr").equals(whole.get_column("vaddr"))


def test_how_many_allocations_nothing_but_an_address_tells_of(tmp_path: Path) -> None:
    """Where purges are probed, a call without one did not fail."""
    allocations(tmp_path, ASKED, found(AREA), VMAP, ASKED, found(AREA), back("vmap", "0xfa493000"))
    assert open_capture(str(tmp_path / "trace.txt")).facts.snapshot().seen_unsure == 1
    (tmp_path / "kprobe_events").write_text(
        "p:hm/purge __purge_vmap_area_lazy start=%ax:x32 end=%dx:x32\n"
    )
    assert open_capture(str(tmp_path)).facts.snapshot().seen_unsure == 0
    allocations(tmp_path, ASKED, found("va=0xc2d05240"))
    assert open_capture(str(tmp_path)).facts.snapshot().seen_found == 1
