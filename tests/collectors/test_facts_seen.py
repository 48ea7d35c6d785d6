"""What the addresses of a trace tell, as facts."""

import polars as pl

from collectors.events import SCHEMA
from collectors.table.seen import MOST, Seen
from tests.parts import part_of


def table(*rows):
    return pl.DataFrame([{"cpu": 0} | row for row in rows], schema=SCHEMA)


def seen(events, source, raw_events=()):
    """Facts of a table: the same, whether it comes whole or row by row."""
    whole, pieces = Seen(), Seen()
    whole.add(part_of(events))
    for row in range(events.height):
        pieces.add(part_of(events[row : row + 1]))
    assert whole.facts(source, raw_events) == pieces.facts(source, raw_events)
    return whole.facts(source, raw_events)


def test_addresses_of_every_kind():
    events = table(
        {"op": "kmap", "vaddr": 0xFF001000, "pfn": 0x7F000, "cpu": 0},
        {"op": "kmap", "vaddr": 0xFF1FF000, "pfn": 0x60000, "cpu": 1},
        {"op": "kmap", "vaddr": None, "cpu": 1},
        {"op": "kmap_local", "vaddr": 0xFFFBB000, "pfn": 0x7FFFF, "cpu": 0},
        {"op": "kmap_local", "vaddr": 0xFFFAA000, "cpu": 1},
        {"op": "kmap_local", "vaddr": 0xC1000000, "pfn": 0x1000, "cpu": 1},
        {"op": "kunmap_local", "vaddr": 0xFFFFF000, "cpu": 1},
        {"op": "area_alloc", "vaddr": 0xFFFFFFF0, "start": 0xF77FE000, "end": 0xFEFFE000},
        {"op": "flush_range", "start": 0xFF000000, "end": 0xFF200000},
        {"op": "flush_range", "start": 0xFFFFFFFF, "end": 0},
    )
    facts = seen(events, "trace.txt", {"kmap_high": 3})
    assert {name: fact.value for name, fact in facts.items()} == {
        "seen_pool": (0xFF001000, 0xFF1FF000),
        "seen_local": ((0, 0xFFFBB000), (1, 0xFFFAA000)),
        "seen_direct": (0x1000, 0xC1000000),
        "seen_ranges": ((0xF77FE000, 0xFEFFE000),),
        "seen_flushes": ((0xFF000000, 0xFF200000),),
        "seen_pfns": (0x1000, 0x7FFFF),
        "seen_cpus": 2,
    }
    assert {fact.source for fact in facts.values()} == {"trace.txt"}


def test_errors_are_no_addresses():
    events = table({"op": "kmap", "vaddr": 0xFFFFFFF4}, {"op": "kmap", "vaddr": 0})
    assert seen(events, "t") == {}


def test_nothing_in_an_empty_trace():
    assert seen(table(), "t") == {}


def test_kernel_with_kmap_atomic():
    facts = seen(table(), "t", {"kmap_atomic_high_prot (return)": 4})
    assert facts["seen_atomic"].value is True


def test_kernel_with_kmap_local():
    facts = seen(table(), "t", {"__kmap_local_pfn_prot (return)": 4, "kmap_high": 1})
    assert facts["seen_kmap_local"].value is True
    assert "seen_atomic" not in facts


def test_most_frequent_ranges_only():
    rows = [{"op": "flush_range", "start": n, "end": n + 1} for n in range(100)]
    rows += [{"op": "flush_range", "start": 7, "end": 9}] * 2
    ranges = seen(table(*rows), "t")["seen_flushes"].value
    assert len(ranges) == MOST
    assert ranges[0] == (7, 9)


def test_addresses_of_more_than_32_bits_where_most_have_as_many():
    wide = 0xFFFF_8880_0000_0000
    events = table(
        {"op": "kmap_local", "vaddr": wide + 0x5000, "pfn": 5, "cpu": 1},
        {"op": "kmap_local", "vaddr": wide + 0x3000, "pfn": 3, "cpu": 1},
        {"op": "area_alloc", "vaddr": 0, "start": wide, "end": wide + 0x9000},
        {"op": "kmap", "vaddr": 0x1000, "pfn": 9},
        {"op": "vfree", "vaddr": 2**64 - 12},
    )
    facts = Seen()
    facts.add(part_of(events))
    assert {name: fact.value for name, fact in facts.facts("t").items()} == {
        "seen_pool": (0x1000, 0x1000),
        "seen_local": ((1, wide + 0x5000),),
        "seen_wide": wide + 0x3000,
        "seen_cpus": 2,
        "seen_ranges": ((wide, wide + 0x9000),),
        "seen_pfns": (3, 9),
    }
