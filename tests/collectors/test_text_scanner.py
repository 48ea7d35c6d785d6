"""The compiled scanner against a slow parser written apart, on real and on generated lines."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.input.source import Source
from collectors.probes import FUNCTIONS, KIND_LOST, KIND_MARK, KIND_SWITCH, SLOTS
from collectors.text.layout import Stat
from collectors.text.reader import read_raw
from tests.writers import ftracetext, slowtext
from tests.writers.ftracetext import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"


def as_dicts(raw: Any) -> list[dict[str, Any]]:
    """Raw events in the form of the slow parser."""
    return [
        {
            "comm": raw.comms[row["comm"]],
            "pid": int(row["pid"]),
            "cpu": int(row["cpu"]),
            "ts": int(row["ts"]),
            "ctx": int(row["ctx"]),
            "site": raw.sites[row["site"]],
            "caller": int(row["caller"]),
            "kind": int(row["kind"]),
            "values": {i: int(row["values"][i]) for i in range(SLOTS) if row["present"] >> i & 1}
            if row["kind"] < KIND_LOST
            else {},
        }
        for row in raw.rows
        if row["kind"] < KIND_LOST or row["kind"] == KIND_MARK
    ]


def scanned(text: str, **options: Any) -> list[dict[str, Any]]:
    return as_dicts(read_raw(Source.from_bytes(text.encode()), **options)[0])


@pytest.mark.parametrize(
    "name",
    [
        "i386-minix-pae-smp2/trace.txt.gz",
        "i386-minix-pae-smp2/trace_noirqinfo.txt.gz",
        "i386-minix-pae-smp2/trace_latency.txt.gz",
        "i386-minix-pae-smp2/trace_symoffset.txt.gz",
        "i386-hog-a-waiters-pae-smp2/trace.txt.gz",
        "i386-lost-overrun-pae-smp2/trace.txt.gz",
    ],
)
def test_real_traces_are_read_as_the_slow_parser_reads_them(name: str) -> None:
    text = gzip.decompress((FIXTURES / name).read_bytes()).decode()
    lines = text.splitlines(keepends=True)
    if len(lines) > 30_000:  # both ends: the slow parser takes 40 µs for a line
        text = "".join(lines[:15_000] + lines[-15_000:])
    expected = slowtext.parse_text(text)
    assert len(expected) > 2000
    assert scanned(text) == expected
    assert scanned(text, chunk=50_000, threads=2) == expected


COMMS = st.one_of(
    st.sampled_from(
        [
            "bash",
            "<idle>",
            "<...>",
            "kworker/u8:2",
            "a b",
            "x-1 [000] 2.5:",
            "Web Content",
            "[",
            "(",
        ]
    ),
    st.text(
        st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=15
    ).filter(lambda s: len(s.encode()) <= 15),
)
HEX = st.integers(0, 2**32 - 1).map(hex)
VALUES = st.one_of(
    HEX,
    st.integers(-(2**31), 2**32 - 1).map(str),
    st.sampled_from(["(fault)", "{0x1,0x2}", '"a b"']),
)
NAMES = st.sampled_from(
    ["page", "pfn", "vaddr", "addr", "arg1", "arg2", "start", "end", "size", "x", "caller", "ret"]
)
ENTRY = st.sampled_from([f.name for f in FUNCTIONS if not f.host])
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=5).map(
    lambda d: "".join(f" {name}={value}" for name, value in d.items())
)
BODIES = st.one_of(
    st.builds(
        lambda f, off, a: f"ev: ({f}+{off}/0x60){a}",
        ENTRY,
        st.sampled_from(["0x0", "0x0", "0x5"]),
        ARGUMENTS,
    ),
    st.builds(
        lambda f, site, a: f"ev_ret: ({site} <- {f}){a}",
        ENTRY,
        st.sampled_from(["do_x+0x51/0x60", "dir_get_page.isra.0+0x5/0x6 [minix]", "0xf7888797"]),
        ARGUMENTS,
    ),
    st.builds(
        lambda c, p, s, d, q: (
            f"sched_switch: prev_comm={c} prev_pid={p} prev_prio=120 "
            f"prev_state={s} ==> next_comm={d} next_pid={q} next_prio=98"
        ),
        COMMS,
        st.integers(0, 99999),
        st.sampled_from(["R", "R+", "S", "D", "D|K", "I"]),
        COMMS,
        st.integers(0, 99999),
    ),
    st.builds(
        lambda c, p, s, d, q: f"sched_switch: {c}:{p} [120] {s} ==> {d}:{q} [98]",
        COMMS,
        st.integers(0, 99999),
        st.sampled_from(["R", "S", "D", "W"]),
        COMMS,
        st.integers(0, 99999),
    ),
    st.sampled_from(
        [
            "tlb_flush: pages:-1 reason:local mm shootdown (3)",
            "tlb_flush: pages:33 reason:flush on task switch (0)",
            "tlb_flush: reason=4 pages=18446744073709551615",
            "alloc_vmap_area: va_start: 4153237504 size=12288 align=1 vstart=0xf77fe000 "
            "vend=0xfeffe000 failed=0",
            "free_vmap_area_noflush: va_start=0xf78d6000 nr_lazy=3 nr_lazy_max=16384",
            "purge_vmap_area_lazy: start=0xffffffff end=0x0 num_purged=0",
            "alloc_vmap_area: va_start: 4039180288 size=12288 align=1",
            "tracing_mark_write: a-1 [000] d..1. 1.000000: kmap_high: (kmap_high+0x0/0x60)",
            "initcall: (x) y",
        ]
    ),
)
EVENTS = st.lists(
    st.builds(
        Event,
        COMMS,
        st.integers(0, 4_194_304),
        st.integers(0, 300),
        st.integers(0, 10**16),
        BODIES,
        st.booleans(),
        st.sampled_from(".hsHzZ"),
        st.integers(0, 15),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300)
@given(
    events=EVENTS,
    width=st.sampled_from([0, 4, 5, 7]),
    tgid=st.booleans(),
    clock=st.sampled_from(["us", "ns", "counter"]),
    with_header=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_generated_lines_are_read_as_written(
    *, events: list[Event], width: int, tgid: bool, clock: str, with_header: bool, ending: str
) -> None:
    text = ftracetext.tracefs(events, width, tgid=tgid, clock=clock)
    if with_header:
        text = ftracetext.header(width, tgid=tgid) + text
    raw, _, stats, _ = read_raw(Source.from_bytes(text.replace("\n", ending).encode()))
    assert stats[Stat.UNREAD] == 0
    assert stats[Stat.EVENTS] == len(events)
    got = as_dicts(raw)
    expected = []
    for event in events:
        row = slowtext.parse(f"x-1 [000] 1.000000: {event.body}")
        if row is None:
            continue
        # What stands left of the body is known from the event: odd task names included.
        row["comm"], row["pid"], row["cpu"] = event.comm, event.pid, event.cpu
        row["ctx"] = slowtext.context(ftracetext.flags(event, width) or None)
        row["ts"] = (event.ts + 500) // 1000 * 1000 if clock == "us" else event.ts
        expected.append(row)
    assert got == expected


@settings(max_examples=200)
@given(st.binary(max_size=400), st.integers(0, 4000))
def test_damage_anywhere_is_counted_and_never_breaks(damage: bytes, at: int) -> None:
    events = [Event("bash", i, 0, i * 1000, "ev: (kmap_high+0x0/0x60) page=0x1") for i in range(40)]
    text = ftracetext.tracefs(events).encode()
    at = min(at, len(text))
    data = text[:at] + damage + text[at:]
    raw, _, stats, _ = read_raw(Source.from_bytes(data))
    assert stats[Stat.LINES] == data.count(b"\n")
    total = stats[Stat.EVENTS] + stats[Stat.UNREAD] + stats[Stat.CONTROL] + stats[Stat.STACK]
    assert total >= stats[Stat.LINES]
    assert len(raw.rows) >= 38


def test_switch_of_unknown_form_still_names_the_old_task() -> None:
    (row,) = scanned("            bash-7       [000] d..2.     1.000000: sched_switch: something\n")
    assert row["kind"] == KIND_SWITCH
    assert row["values"] == {0: 7, 1: 0}


def test_switches_of_tasks_in_parentheses() -> None:
    left = "            bash-7       [000] d..2.     1.000000: sched_switch: "
    text = f"{left}(systemd):7 [120] D ==> (sd-pam):9 [98]\n"
    assert scanned(text)[0]["values"] == {0: 7, 1: 1, 2: 9}
