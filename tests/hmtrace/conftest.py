"""Outcomes built by hand, so that reports are tested without any replay."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import pytest

from collectors.capture import Lost, LostInterval, Origin
from hmtrace.cli import workloads
from hmtrace.report.source import InputSummary
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.outcome import (
    ArenaOutcome,
    CallTime,
    CostOutcome,
    Finding,
    LocalOutcome,
    Moment,
    Observed,
    Outcome,
    PoolOutcome,
    Site,
    StackCount,
    TlbOutcome,
    UserFlush,
)
from replay.over_time import Series
from replay.rules.sleepers import PoolExhausted
from replay.rules.splits import OtherSplits, Split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]bold[/red]\u202egnp.exe\n"
"""A task name or symbol that tries to clear the screen, set the title and use markup."""

RAM_1G = ((0x1000, 0x9F000), (0x100000, 0x3FFD4000))


def series(values: list[float]) -> Series:
    return Series(0, 100_000_000, tuple(values), tuple(values), tuple(values))


def machine(**changes: object) -> Machine:
    plain = {"arch": "i386", "pae": True, "cpus": 2, "ram": RAM_1G, "release": "6.1.0-50-686-pae"}
    return Machine(**(plain | changes))  # type: ignore[arg-type]


def busy_outcome(**changes: object) -> Outcome:
    """A machine in trouble: pool exhausted, leaks, flush storm, arena failures."""
    described = changes.pop("machine", machine())
    used = [min(512, 40 + 24 * i) for i in range(30)]
    stale = [max(0.0, 200 + 180 * math.sin(i / 3)) if u < 300 else 0.0 for i, u in enumerate(used)]
    parts: dict[str, object] = {
        "machine": described,
        "layout": layout_of(described),  # type: ignore[arg-type]
        "span_ns": 3_000_000_000,
        "cpus": 2,
        "pool": PoolOutcome(
            slots=512,
            maps=24271,
            unmaps=24171,
            hits=19451,
            new_mappings=4820,
            passes=61,
            wraps=45,
            unused_passes=16,
            flushes=45,
            waits=61,
            waiting_tasks=14,
            wait_ns=3_240_000_000,
            longest_wait_ns=812_000_000,
            max_used=512,
            mean_used=301.4,
            max_stale=380,
            scan_mean=12.3,
            scan_max=511,
            share_above={"50": 0.7, "75": 0.5, "90": 0.4, "100": 0.3},
            used=series([float(u) for u in used]),
            stale=series(stale),
            still_used=100,
        ),
        "local": LocalOutcome(
            maps=20220,
            lowmem=1244,
            unmaps=20220,
            max_depth=15,
            limit=15,
            depth_by_cpu={0: (12000, 2000, 300, 20, 5, 1), 1: (5894,)},
            saved_on_switch=33,
            mappings_saved=40,
            tlb_single=20260,
        ),
        "arena": ArenaOutcome(
            size=120 << 20,
            allocs=1363,
            failures=40,
            peak_used=119 << 20,
            largest_hole_min=12 << 10,
            lazy_purges=66,
        ),
        "tlb": TlbOutcome(full=45, range=32, range_pages=120, single=20260, ipis=77),
        "cost": CostOutcome(
            total_ns=98_000_000,
            low_ns=21_000_000,
            high_ns=410_000_000,
            share_of_span=0.0163,
            by_cause={
                "pool_flush": {"count": 45, "ns": 60_000_000, "share": 0.612},
                "local": {"count": 20220, "ns": 30_000_000, "share": 0.306},
                "arena_purge": {"count": 66, "ns": 8_000_000, "share": 0.082},
            },
        ),
        "sites": (
            Site("dir_get_page+0x32/0x90 [minix]", "kmap", 20183, 3, 0.83, 1800.0, 812_000_000),
            Site("copy_highpages_to_somewhere_with_a_long_name+0x1f", "kmap_local", 4000, 12, 0.1),
        ),
        "findings": (
            Finding(
                "pool-exhausted",
                "problem",
                PoolExhausted(61, 512, 14, 812_000_000, 90_000_000, 0.3),
                61,
                Moment(1_200_000_000, 1, 77, "perl"),
            ),
            Finding(
                "split",
                "info",
                OtherSplits(
                    "3g",
                    1 << 28,
                    3 << 30,
                    98_000_000,
                    "=",
                    (
                        Split("2g", "", 1 << 30, 0, 2 << 30, 8_100_000, "=", None),
                        Split("1g", "", 1 << 30, 0, 1 << 30, 8_100_000, "=", None),
                    ),
                    scarce=False,
                ),
            ),
        ),
        "caveats": ("costs are assumptions, not measured on this machine",),
    }
    return Outcome(**(parts | changes))  # type: ignore[arg-type]


def observed() -> Observed:
    """Times, flushes of user space and stack traces, as a trace may tell them."""
    entry = "do_syscall_32<-entry_SYSENTER_32"
    walk = "minix_find_entry+0x45/0x100 [minix]<-minix_inode_by_name+0x9 [minix]"
    deep = "<-".join(f"a_function_of_some_depth_{n}+0x1" for n in range(20))
    return Observed(
        durations=(
            CallTime("kmap", 24271, 4_812_000_000, 2100.0, 792_000_000.0, 812_000_000),
            CallTime("kmap_local", 20220, 30_000_000, 900.0, 12_000.0, 2_000_000),
        ),
        user_flushes=(
            UserFlush("task switch", 262, 262, 0),
            UserFlush("local mm shootdown", 40, 3, 1200),
        ),
        stacks=(
            StackCount("kmap", f"kprobe_dispatcher<-kmap_high+0x1<-{walk}<-{entry}", 4000),
            StackCount("kmap", f"kretprobe_x<-kmap_high+0x1<-{walk.replace('45', '77')}", 600),
            StackCount("kmap", f"kmap_high+0x1<-{walk.replace('45', '99')}<-{entry}", 500),
            StackCount("vmap", f"vmap<-{deep}", 30),
            StackCount("kmap", f"kmap_high<-{HOSTILE}<-vfs_read", 2),
            StackCount("vmalloc", "__vmalloc_node_range", 1),
        ),
        stacked=5133,
    )


def quiet_outcome() -> Outcome:
    """Nothing happened at all."""
    described = machine()
    return Outcome(
        machine=described,
        layout=layout_of(described),
        span_ns=0,
        cpus=2,
        pool=PoolOutcome(slots=512),
        local=LocalOutcome(limit=15),
        arena=ArenaOutcome(size=120 << 20),
        tlb=TlbOutcome(),
        cost=CostOutcome(),
    )


def source_of(*, lost: bool = False, path: str = "captures/board-7") -> InputSummary:
    intervals = (
        LostInterval(0, 77468, 0, None, 5_000, "ring buffer overwritten"),
        LostInterval(1, None, 99, 1_000_000, 31_000_000, "LOST marker"),
    )
    return InputSummary(
        origin=Origin(path, "trace.txt.gz", "ftrace-text", 14_200_000),
        sha256="0123456789abcdef" * 4,
        release="6.1.0-50-686-pae",
        clock="local",
        clock_is_ns=True,
        span_ns=3_000_000_000,
        raw_events=201_959,
        lost=Lost(intervals if lost else ()),
    )


@pytest.fixture
def outcomes() -> ModuleType:
    """This module: the builders above."""
    return sys.modules[__name__]


@pytest.fixture(scope="module")
def shared_shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty shelf as below, for all tests of a file: what one prepared, others find there."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workloads, "cache_home", lambda: folder)
        yield


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workloads are kept, in an empty cache; compiled loops stay where they are."""
    monkeypatch.setattr(workloads, "cache_home", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "hmtrace" / "workloads"
