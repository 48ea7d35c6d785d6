"""The event table piece by piece: the same as of the whole trace, whatever the pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import collectors
from collectors import FORMATS, HmtraceError, probes, reading
from collectors.build import spool_capture
from collectors.events import OPS, SCHEMA, empty
from collectors.input.opening import open_source
from collectors.raw import RAW_DTYPE, RawEvents
from collectors.table import naming, tabulate
from collectors.table.pages import BOTH, HAS_PAGE, Frames, PageMap
from collectors.table.part import Column
from collectors.table.tabulate import Tabulator
from tests.collectors.slowtable import slow_table

FIXTURES = Path(__file__).parents[2] / "fixtures"
CODES = [
    probes.FUNCTION_OF[name]
    for name in (
        "kmap_high",
        "__kmap_local_page_prot",
        "__kmap_local_pfn_prot",
        "kunmap_local_indexed",
        "alloc_vmap_area",
        "flush_tlb_kernel_range",
        "set_page_address",
        "vmap",
        "__get_vm_area_node",
        "module_alloc",
    )
]
KINDS = [2 * code + r for code in CODES for r in (0, 1)]
KINDS += [2 * probes.FUNCTION_OF[n] for n in ("free_vmap_area_noflush", "vfree")]
KINDS += [*probes.TRACEPOINTS.values(), probes.KIND_STACK, probes.KIND_STACK]
KINDS += [probes.KIND_SWITCH, probes.KIND_LOST]
STACKS = ["", *(f"frame{i}" for i in range(1, 200))]
THROUGH = ["", *(f"alloc_vmap_area<-vmalloc+0x9<-frame{i}" for i in range(1, 200))]


def table_of(parts):
    return pl.concat([empty(), *(part.frame() for part in parts)])


def passes(raw, sizes, hold, **options):
    """Table of a trace cut into pieces, and the number of passes that it took."""
    known = None
    for number in range(1, 6):
        table = Tabulator(known=known, hold=hold, **options)
        frames, at = [], 0
        for size in sizes:
            frames += table.add(RawEvents(raw[at : at + size], stacks=STACKS))
            at += size
        frames += table.add(RawEvents(raw[at:], stacks=STACKS))
        frames += table.finish()
        known = table.again()
        if known is None:
            return table_of(frames), number
    raise AssertionError("no end")


def make(events):
    """Raw events out of (kind, pid, cpu, ctx, present) tuples."""
    raw = np.zeros(len(events), RAW_DTYPE)
    for i, (kind, pid, cpu, ctx, present) in enumerate(events):
        raw[i] = (10 * i, (i + 1, 2 * i, 3 * i, i), 7 * i, pid, 0, 0, kind, cpu, ctx, present)
    return raw


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from([0, 0, 5, 6, -1]),
        st.integers(0, 1),
        st.sampled_from([0, 0, 1, 2, 4, 128]),
        st.one_of(st.integers(0, 15), st.integers(32, 47)),
    ),
    max_size=120,
)


@settings(max_examples=400)
@given(EVENTS, st.lists(st.integers(0, 30), max_size=12), st.integers(1, 40))
def test_pieces_give_what_plain_python_gives(events, sizes, hold):
    compare(make(events), sizes, hold)


@settings(max_examples=300)
@given(EVENTS, st.lists(st.integers(0, 30), max_size=12), st.integers(1, 40))
def test_sites_in_functions_that_map_for_others(events, sizes, hold):
    """They are looked through by the event's own stack, else by the first one inside its call."""
    raw = make(events)
    raw["site"] = 1
    expected = slow_table(raw)
    pieces = [*sizes, len(raw)]
    known = None
    for _ in range(5):
        given_parts, at, table = [], 0, Tabulator(known=known, hold=hold)
        for size in pieces:
            own = RawEvents(raw[at : at + size], sites=["", "vmalloc+0x9"], stacks=THROUGH)
            given_parts += table.add(own)
            at += size
        given_parts += table.finish()
        known = table.again()
        if known is None:
            break
    found = table_of(given_parts).get_column("site").cast(pl.String).to_list()
    for site, row in zip(found, expected, strict=True):
        number = row.get("stack") or row.get("within")
        assert site in (None, f"frame{number}" if number else "vmalloc+0x9")


ARENA = [
    probes.FUNCTION_OF[name]
    for name in (
        "alloc_vmap_area",
        "free_vmap_area_noflush",
        "__purge_vmap_area_lazy",
        "vmap",
        "__vmalloc_node_range",
        "__get_vm_area_node",
        "vfree",
    )
]
ADDRESSES = (0, 0x1000, 0x2000, 0xF800_0000, 0xF800_1000, 0xF801_0000, 0xFFFF_FFF0, (1 << 64) - 12)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*(2 * code + r for code in ARENA for r in (0, 1)),
                             *probes.TRACEPOINTS.values()]),
            st.sampled_from([5, 5, 5, 6]),
            st.sampled_from([1, 2, 6, 6, 7, 8, 15, 15, 15, 38]),
            st.lists(st.sampled_from(ADDRESSES), min_size=5, max_size=5),
        ),
        max_size=60,
    ),
    st.lists(st.integers(0, 30), max_size=12),
    st.integers(1, 40),
)  # fmt: skip
def test_verdicts_on_allocations_are_those_of_plain_python(events, sizes, hold):
    raw = np.zeros(len(events), RAW_DTYPE)
    for i, (kind, pid, present, (*values, caller)) in enumerate(events):
        values[3] &= (1 << 40) - 1  # a duration, of some
        raw[i] = (10 * i, values, caller, pid, 0, 0, kind, 0, 0, present)
    compare(raw, sizes, hold)


def compare(raw, sizes, hold):
    """Check the table of a trace in pieces against that of plain Python."""
    table, _ = passes(raw, sizes, hold, page_map=None)
    assert table.schema == pl.Schema(SCHEMA)
    expected = slow_table(raw)
    pairs = {(r["pfn"], r["page"]) for r in expected if "pfn" in r and "page" in r}
    if len(pairs) > 1:  # frames are another test's
        table = table.with_columns(pfn=pl.when(pl.col("page").is_null()).then("pfn"))
        expected = [{k: v for k, v in r.items() if k != "pfn" or "page" not in r} for r in expected]
    found = [
        {name: value for name, value in row.items() if value is not None}
        for row in table.drop("comm", "site").iter_rows(named=True)
    ]
    for row in expected:
        del row["comm"]
        row.pop("within", None)
        row["op"] = OPS[row["op"]]
        if "stack" in row:
            row["stack"] = STACKS[row["stack"]]
    assert found == expected


def test_a_call_that_is_open_longer_than_its_row_is_held_gets_its_return():
    kmap, other = 2 * CODES[0], 2 * CODES[3]
    calls = [(kmap + 1, 9, 0, 0, 1), (kmap, 5, 0, 0, 1)]
    calls += [(other, 6, 1, 0, 1)] * 500 + [(kmap + 1, 5, 0, 0, 1)]
    raw = make(calls)
    table, number = passes(raw, [50] * 10, 100)
    assert number == 2
    assert table.filter(pl.col("pid") == 5).select("end_seq", "vaddr").rows() == [(502, 503)]


def test_returns_that_appear_late_are_known_in_the_next_pass():
    kmap, other = 2 * CODES[0], 2 * CODES[3]
    calls = [(kmap, 5, 0, 0, 1)] * 3 + [(other, 6, 1, 0, 1)] * 500 + [(kmap + 1, 5, 0, 0, 1)]
    table, number = passes(make(calls), [50] * 10, 100)
    assert number == 3  # it has returns; the last of the three calls returns late
    assert table.get_column("end_seq").drop_nulls().to_list() == [503]
    assert table[2, "end_seq"] == 503


def test_late_sites_keep_their_names_when_another_pass_numbers_them_otherwise():
    kmap, other = 2 * CODES[0], 2 * CODES[3]
    calls = [(kmap + 1, 9, 0, 0, 1), (kmap, 5, 0, 0, 1)]
    raw = make(calls + [(other, 6, 1, 0, 1)] * 500 + [(kmap + 1, 5, 0, 0, 1)])
    known = None
    for names in (("", "one", "two"), ("", "two", "one", "three")):
        raw["site"] = names.index("one")
        raw["site"][-1] = names.index("two")
        table = Tabulator(known=known, hold=100)
        frames = []
        for at in range(0, len(raw), 50):
            frames += table.add(RawEvents(raw[at : at + 50], sites=names))
        frames += table.finish()
        known = table.again()
    assert known is None
    found = table_of(frames)
    assert found.filter(pl.col("end_seq") == 502)["site"].to_list() == ["two"]
    assert found.filter(pl.col("pid") == 6)["site"].unique().to_list() == ["one"]


def test_calls_that_never_return_are_bounded(monkeypatch):
    monkeypatch.setattr(tabulate, "_MOST", 300)
    calls = [(2 * CODES[0] + 1, 9, 0, 0, 1)]
    calls += [(2 * CODES[0], pid, 0, 0, 1) for pid in range(1, 1000)]
    with pytest.raises(HmtraceError, match="more than 300 open calls"):
        passes(make(calls), [50] * 19, 100)


def test_many_tasks_and_deep_stacks():
    rng = np.random.default_rng(4)
    functions = [c for c, f in enumerate(probes.FUNCTIONS) if f.op and not f.host]
    events = [
        (int(2 * rng.choice(functions) + (rng.random() < 0.1)), int(pid), 0, 128, 1)
        for pid in rng.choice([*range(1, 3000), *[7] * 3000], 12000)
    ]
    raw = make(events)
    table, _ = passes(raw, [999] * 5, 10**6)
    expected = slow_table(raw)
    assert table.get_column("end_seq").to_list() == [r.get("end_seq") for r in expected]
    assert table.get_column("parent").to_list() == [r.get("parent") for r in expected]


def fill(told, *batches):
    frames = Frames(told)
    filled = []
    for batch in batches:
        frame = pl.DataFrame(batch, schema={"page": pl.UInt64, "pfn": pl.UInt64}, orient="row")
        both = frame.drop_nulls()
        frames.learn(both["pfn"].to_numpy(), both["page"].to_numpy())
        lone = frame.filter(pl.col("pfn").is_null())["page"].to_numpy()
        pfn, valid = np.zeros(len(lone), np.uint64), np.full(len(lone), HAS_PAGE)
        frames.fill(lone, pfn, valid)
        filled.append([int(p) if v == BOTH else None for p, v in zip(pfn, valid, strict=True)])
    return filled, frames


def test_frames_by_the_traces_own_pairs():
    filled, frames = fill(None, [(1000, 10), (1080, 12), (1040, None), (1041, None), (10, None)])
    assert filled == [[11, None, None]]
    assert frames.best == PageMap(600, 40)
    assert not frames.changed


def test_a_pair_off_the_line_takes_the_map_back():
    _, frames = fill(None, [(1000, 10), (1080, 12), (1040, None)], [(999, 11)])
    assert frames.best is None
    assert frames.changed


def test_what_the_machine_says_counts_without_pairs_only():
    told = PageMap(0, 40)
    filled, frames = fill(told, [(80, None)], [(1000, 10)])
    assert filled[0] == [2]
    assert frames.best is None
    assert frames.changed


def test_addresses_of_64_bits_are_no_struct_pages():
    filled, _ = fill(PageMap(0, 40), [(2**64 - 1, None), (2**63, None)])
    assert filled == [[None, None]]


@pytest.mark.parametrize("folder", sorted(p.name for p in FIXTURES.iterdir() if p.is_dir()))
def test_captures_in_small_pieces(folder, monkeypatch):
    if folder in ("machines", "cases", "twins"):
        pytest.skip("no capture")
    monkeypatch.setattr(reading, "PIECE_ROWS", 1000)
    path = FIXTURES / folder
    source = open_source(path, FORMATS)
    made = spool_capture(source, collectors._format_of(source), hold=700)
    whole = collectors.open_capture(path)
    assert made.events.collect().equals(whole.events.collect())
    assert made.spooled
    assert not whole.spooled
    for name in ("origin", "raw_events", "clock", "span_ns", "facts", "lost", "notes"):
        assert getattr(made, name) == getattr(whole, name)
    frames = list(made.batches(500))
    assert pl.concat(frames).equals(whole.events.collect())


def test_names_of_callers_are_bounded(monkeypatch):
    class Symbols:
        def lookup_many(self, addresses):
            return [f"f+{a:#x}" if a % 5 else "" for a in addresses.tolist()]

    monkeypatch.setattr(naming, "_MOST_CALLERS", 20)
    names = naming.NameTable(Symbols)
    for first in (0, 7, 90, 3):
        callers = np.arange(first, first + 15, dtype=np.uint64)
        numbers = np.zeros(15, np.uint32)
        made = names.site(numbers, Column(callers), numbers, numbers)
        found = [made.names[n] for n in made.values.tolist()]
        assert found == [f"f+{a:#x}" if a % 5 else "" for a in callers.tolist()]
        assert len(names._callers) <= 35


PFN, PAGE = "__kmap_local_pfn_prot", "__kmap_local_page_prot"
BOOTED = """\
 ash-223 [000] ...11 9.909000: kmap_local_pfn_ret: (x+0x51/0x60 <- PFN) vaddr=0xfffbb000
 ash-223 [000] ...11 9.910000: kunmap_local: (kunmap_local_indexed+0x0/0x110) vaddr=0xfffbb4a0
 ash-223 [000] ...1. 9.911000: kmap_local_pfn: (PFN+0x0/0x180) pfn=0x36ffe
 ash-223 [000] ...11 9.912000: kmap_local_pfn_ret: (x+0x51/0x60 <- PFN) vaddr=0xfffbb000
 ash-223 [000] ...11 9.913000: kmap_local_page_ret: (get_pte+0xe7/0x180 <- PAGE) vaddr=0xfffbb000
 ash-223 [000] ...11 9.914000: kmap_local_page_ret: (low+0xe7/0x180 <- PAGE) vaddr=0xc1000000
 ash-223 [000] ...11 9.915000: kunmap_local: (kunmap_local_indexed+0x0/0x110) vaddr=0xfffbb4a0
 ash-223 [000] ...1. 9.916000: kmap_local_page: (PAGE+0x0/0x60) page=0xf61bafb0
 ash-223 [000] ...1. 9.917000: kmap_local_pfn: (PFN+0x0/0x180) pfn=0x36ffe
 ash-223 [000] ...11 9.918000: kmap_local_pfn_ret: (x+0x51/0x60 <- PFN) vaddr=0xfffbb000
 ash-223 [000] ...11 9.919000: kmap_local_page_ret: (get_pte+0xe7/0x180 <- PAGE) vaddr=0xfffbb000
"""
"""As a booted board recorded while its probes were set one by one; a lowmem page's added."""


def test_return_of_a_page_call_without_entry_belongs_to_the_pfn_call_in_it(tmp_path):
    trace = tmp_path / "trace.txt"
    trace.write_text("# tracer: nop\n#\n" + BOOTED.replace("PFN", PFN).replace("PAGE", PAGE))
    table = collectors.open_capture(trace).events.collect()
    maps = table.filter(pl.col("op") == "kmap_local")
    assert maps["vaddr"].to_list() == [0xFFFBB000, 0xFFFBB000, 0xC1000000, 0xFFFBB000]
    assert maps["pfn"].to_list()[1:2] == [0x36FFE]
    assert maps["site"].cast(pl.String).str.head(3).to_list() == ["x+0", "get", "low", "get"]
