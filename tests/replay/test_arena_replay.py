"""The arena's replay: real captures with exact figures, simulated races, damaged traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from collectors import open_capture
from collectors.snapshot import Probe, Snapshot
from replay.arena.calls import FAILED
from replay.arena.result import AMBIGUOUS, CERTAIN, INITIAL, NOT_SEEN, ArenaReplay
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.trace.losses import Gaps
from tests.replay import arena_simulator as sim
from tests.replay.whole_arena import replay_arena

FIXTURES = Path(__file__).parents[2] / "fixtures"
ARC = Machine(arch="arc", split="2g", nr_cpus=4, ram=((0x8000_0000, 0xC000_0000),))
PC = Machine(arch="i386", pae=True, ram=((0, 1 << 30),))
P = 4096


def of_capture(name: str, generation: str | None = None, **values: Any) -> ArenaReplay:
    capture = open_capture(str(FIXTURES / name))
    facts = replace(capture.facts.snapshot(), **values)
    machine, _ = machine_from(facts)
    machine = replace(machine, generation=generation or machine.generation)
    return replay_arena(capture.events.collect(), machine, layout_of(machine), facts)


PURGES_PROBED = Probe(
    is_return=False,
    group="hm",
    event="purge",
    symbol="__purge_vmap_area_lazy",
    arguments=(),
    maxactive=None,
)


def replayed(
    events: pl.DataFrame, areas: tuple[Any, ...] = (), generation: str = "6.1", **values: Any
) -> ArenaReplay:
    machine = replace(PC, generation=generation)
    facts = Snapshot(**{"areas": areas, "probes": (PURGES_PROBED,), **values})
    return replay_arena(events, machine, layout_of(machine), facts)


def test_true_tree_explains_everything() -> None:
    r = of_capture("i386-arena-pae-m2048-smp2")
    # One was asked for while a purge on the other CPU had given back nobody knows how much.
    assert (r.certain, r.ambiguous, r.ambiguous_right, r.wrong) == (505, 1, 1, 0)
    assert (r.purges.observed, r.purges.predicted, r.purges.matched) == (466, 466, 466)
    assert (r.blocks.total, r.blocks.exact) == (21, 21)
    assert (r.blocks.aliases, r.blocks.aliases_matched) == (5, 5)
    assert (r.shapes, r.contradictions, r.unusable, r.inferred_initial) == (1, 0, 0, 0)


def test_without_the_tree_no_more_is_claimed_than_known() -> None:
    r = of_capture("i386-arena-pae-m2048-smp2", arena_state=None)
    assert r.wrong == 0
    assert r.certain + r.ambiguous == 506
    assert r.certain >= 495
    assert r.purges.matched == 466


def test_arena_that_runs_full() -> None:
    r = of_capture("i386-hog-e-vmapfail-pae-smp1")
    assert (r.certain, r.ambiguous, r.wrong) == (1363, 0, 0)
    assert vars(r.failures) == {"observed": 40, "predicted": 40, "matched": 40}
    assert vars(r.overflows) == {"observed": 45, "predicted": 45, "matched": 45}
    assert vars(r.purges) == {"observed": 32, "predicted": 32, "matched": 32}
    assert r.limit_crossings == 3


def test_kernel_5_10_has_its_own_rules() -> None:
    r = of_capture("i386-510-hog-e-vmapfail-pae-smp1")
    assert (r.certain, r.ambiguous, r.wrong) == (1362, 4, 0)
    assert vars(r.failures) == {"observed": 40, "predicted": 40, "matched": 40}
    assert vars(r.purges) == {"observed": 34, "predicted": 34, "matched": 34}
    other = of_capture("i386-510-hog-e-vmapfail-pae-smp1", generation="6.1")
    assert other.certain < 700  # up to the first answer that its rules exclude
    assert other.wrong == 1


def test_thread_stacks_of_arm() -> None:
    r = of_capture("arm-61-1g-minix")
    assert (r.certain, r.ambiguous, r.ambiguous_right, r.wrong) == (6, 1, 1, 0)


@pytest.mark.parametrize("generation", ["5.10", "5.17", "6.1", "6.12"])
@pytest.mark.parametrize("seed", [1, 2])
def test_calls_one_after_the_other(generation: str, seed: int) -> None:
    aligns = (1,) if generation == "5.10" else (1, P)
    r = replayed(*sim.simulate(seed, 400, 1, generation, aligns), generation=generation)
    assert (r.ambiguous, r.wrong, r.ordering) == (0, 0, 0)
    assert r.certain > 150
    assert r.purges.observed == r.purges.matched > 2


MIPS = Machine(arch="mips32", split="2g", ram=((0, 1 << 30),))


@pytest.mark.parametrize("generation", ["6.1", "6.12"])
@pytest.mark.parametrize("kib", [4, 16, 64])
def test_pages_of_other_sizes(generation: str, kib: int) -> None:
    """An alignment of one page is an ordinary one, whatever the page."""
    page = kib << 10
    events, areas = sim.simulate(kib, 400, 2, generation, (1, page), 0.2, page)
    machine = replace(MIPS, generation=generation, page_size=page)
    facts = Snapshot(areas=areas, probes=(PURGES_PROBED,))
    r = replay_arena(events, machine, layout_of(machine), facts)
    assert (r.wrong, r.shapes) == (0, 1)
    assert (r.predicted == r.seen).all()
    assert r.ambiguous <= 0.1 * r.row.size  # during purges
    assert r.certain > 150
    assert r.purges.observed == r.purges.matched > 2


@pytest.mark.parametrize("kib", [8, 16, 64])
def test_alignments_above_a_larger_page_depend_on_the_shape(kib: int) -> None:
    page = kib << 10
    events, areas = sim.simulate(3, 400, 1, "6.1", (1, 4 * page), 0.0, page)
    machine = replace(ARC, page_size=page) if kib == 8 else replace(MIPS, page_size=page)
    machine = replace(machine, generation="6.1")
    facts = Snapshot(areas=areas, probes=(PURGES_PROBED,))
    r = replay_arena(events, machine, layout_of(machine), facts)
    assert r.wrong == 0
    assert r.shapes > 1
    assert (r.align[r.verdict == AMBIGUOUS] == 4 * page).all()


@pytest.mark.parametrize("generation", ["5.10", "6.5", "6.12"])
def test_counters_of_the_tracepoints(generation: str) -> None:
    """nr_lazy after each free, areas given back by each purge; a wrong one is noticed."""
    events, areas = sim.simulate(3, 500, 1, generation, (1,))
    r = replayed(events, areas, generation=generation)
    assert r.nr_lazy.total > 100
    assert r.purged.total > 2
    assert r.nr_lazy.exact == r.nr_lazy.total
    assert r.purged.exact == r.purged.total
    row = int(events.with_row_index("i").filter(pl.col("nr_lazy").is_not_null())["i"][50])
    one = pl.int_range(pl.len()) == row
    forged = events.with_columns(nr_lazy=pl.col("nr_lazy") + one.cast(pl.UInt64))
    r = replayed(forged, areas, generation=generation)
    assert r.nr_lazy.exact == r.nr_lazy.total - 1


def test_the_first_counter_tells_of_areas_that_the_snapshot_lacks() -> None:
    """One was freed between the snapshot and the trace: pages wait that no list names."""
    events, areas = sim.simulate(3, 500, 1, "6.12", (1,))
    purge = events.filter(pl.col("op") == "area_purge").get_column("seq")[0]
    early = (pl.col("seq") < purge) & pl.col("nr_lazy").is_not_null()
    more = events.with_columns(nr_lazy=pl.col("nr_lazy") + 3 * early.cast(pl.UInt64))
    assert more.filter(early).height > 3
    r = replayed(more, areas, generation="6.12")
    assert r.nr_lazy.initial_state == 1
    assert r.nr_lazy.exact == r.nr_lazy.total - 1


def test_purges_that_only_the_tracepoint_shows() -> None:
    """Its range is what was flushed: the model has to find it itself."""
    events, areas = sim.simulate(4, 500, 1, "6.5", (1,))
    flushed = events.filter(pl.col("op") == "flush_range").select(
        seq="parent", first="start", last="end"
    )
    alone = (
        events.filter(pl.col("op") != "flush_range")
        .join(flushed, on="seq", how="left")
        .with_columns(
            start=pl.coalesce("first", "start"),
            end=pl.coalesce("last", "end"),
            entry_traced=pl.col("op") != "area_purge",
            pages=pl.lit(None, pl.UInt64),
        )
        .drop("first", "last")
    )
    r = replayed(alone, areas, generation="6.5")
    assert r.purges.observed == flushed.height > 2
    assert r.purges.matched == r.purges.observed
    wrong = alone.with_columns(
        end=pl.when(pl.col("op") == "area_purge").then(pl.col("end") + sim.P).otherwise("end")
    )
    assert replayed(wrong, areas, generation="6.5").purges.matched == 0


def test_what_is_called_ambiguous() -> None:
    """Nothing but requests whose answer the unknown shape of the free tree decides.

    So are all 22 of the shared captures: alignments above a page (thread stacks of ARM, blocks of
    vm_map_ram(), large ioremap()), and with the rule of 5.10 alignments of a page. Two of 341
    addresses of vm_map_ram() there are not exact: one lies in such a block, one in a block that
    was there before tracing began, of which /proc/vmallocinfo does not tell how full it was.
    """
    r = of_capture("i386-510-hog-e-vmapfail-pae-smp1")
    unsure = r.verdict == AMBIGUOUS
    assert unsure.sum() == 4
    assert (r.align[unsure] == sim.P).all()
    assert (r.trees[unsure] > 1).all()


@pytest.mark.parametrize("generation", ["6.1", "6.12"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_races_are_ordered(generation: str, seed: int) -> None:
    events, areas = sim.simulate(seed, 800, 4, generation, (1,), 0.2)
    r = replayed(events, areas, generation=generation)
    assert r.wrong == 0
    assert r.ordered.any()
    assert r.purges.observed == r.purges.matched
    assert (r.predicted == r.seen).all()
    # The rest were asked for during purges, or behind frees of which the purge may be another.
    assert 0.85 < r.certain / r.row.size < 1


def test_a_purge_gives_back_while_others_allocate() -> None:
    """One area of the purge was back when the other task asked, the second was not."""
    base = 0xF7800000
    below = sim.Area(0xF77FE000, base, "vmalloc", "")
    busy = [sim.Area(base + i * 4 * P, base + (i + 1) * 4 * P, "vmalloc", "") for i in range(4)]
    rows: list[dict[str, Any]] = [
        {"seq": 0, "op": "area_free", "pid": 1, "vaddr": base, "end": base + 4 * P},
        {"seq": 1, "op": "area_free", "pid": 1, "vaddr": base + 8 * P, "end": base + 12 * P},
        {"seq": 2, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "pages": 1,
         "end_seq": 9},
        {"seq": 3, "op": "flush_range", "pid": 1, "start": base, "end": base + 12 * P,
         "parent": 2},
        _alloc(4, 5, 2 * P, base),
        _alloc(6, 7, 4 * P, base + 16 * P),  # neither hole: the second is not back yet
        _alloc(10, 11, 4 * P, base + 8 * P),
    ]  # fmt: skip
    r = small(*rows, areas=(below, *busy))
    assert (r.predicted == r.seen).all()
    assert r.verdict.tolist() == [AMBIGUOUS, AMBIGUOUS, CERTAIN]
    assert r.ordered.tolist() == [True, False, False]


def _alloc(seq: int, end: int, size: int, seen: int | None, **more: Any) -> dict[str, Any]:
    return {
        "seq": seq, "end_seq": end, "op": "area_alloc", "pid": 2, "size": size, "align": 1,
        "start": 0xF77FE000, "end": 0xFEFFE000, "vaddr": seen, **more,
    }  # fmt: skip


def small(*rows: dict[str, Any], areas: tuple[Any, ...] | None = None) -> ArenaReplay:
    known = (sim.Area(0xF77FE000, 0xF7800000, "vmalloc", ""),) if areas is None else areas
    return replayed(sim.table([{"ts": 0, "cpu": 0, "ctx": 0, **row} for row in rows]), known)


def test_verdicts() -> None:
    a = 0xF7800000
    r = small(
        _alloc(0, 1, P, a),
        _alloc(2, 3, P, a + 8 * P),  # the kernel knows something else
        _alloc(4, 5, P, a + P),
        _alloc(6, 7, 1 << 28, 0),  # more than there is
        _alloc(8, 9, P, None),
    )
    assert r.verdict.tolist() == [CERTAIN, INITIAL, AMBIGUOUS, CERTAIN, NOT_SEEN]
    assert r.predicted.tolist()[:4] == [a, a + P, a + 9 * P, FAILED]
    assert "bytes aligned to 1" in r.around(1, r.text)


def test_an_area_that_was_gone_when_the_trace_began() -> None:
    """The snapshot lists it, but the first that happens there is another allocation."""
    a = 0xF7800000
    r = small(
        _alloc(0, 1, P, a), _alloc(2, 3, P, a + P),
        areas=(sim.Area(0xF77FE000, a, "vmalloc", ""), sim.Area(a, a + P, "vmalloc", "")),
    )  # fmt: skip
    assert r.areas_removed == 1
    assert r.verdict.tolist() == [CERTAIN, CERTAIN]
    assert r.inferred_initial == 1


def test_an_area_that_the_snapshot_does_not_list() -> None:
    a = 0xF7800000
    r = small(
        _alloc(0, 1, P, a + 2 * P),
        {"seq": 2, "op": "area_free", "pid": 2, "vaddr": a, "end": a + 2 * P},
    )
    assert r.areas_added == 1
    assert r.verdict.tolist() == [CERTAIN]


def test_without_a_snapshot_nothing_is_certain() -> None:
    r = small(_alloc(0, 1, P, 0xF7800000), _alloc(2, 3, P, 0xF7801000), areas=())
    assert set(r.verdict.tolist()) <= {AMBIGUOUS, INITIAL}
    assert "unknown" in r.text


def test_after_a_loss_nothing_is_certain() -> None:
    events, areas = sim.simulate(4, 100)
    layout = layout_of(PC)
    middle = events.height // 2
    facts = Snapshot(areas=areas, probes=(PURGES_PROBED,))
    r = replay_arena(events, PC, layout, facts, Gaps.at([int(events["seq"][middle])]))
    early = r.row < middle
    assert (r.verdict[early] == CERTAIN).all()
    assert (r.verdict[~early] == AMBIGUOUS).all()


def test_vmap_and_vmalloc_alone() -> None:
    """Without a probe on alloc_vmap_area(), their sizes tell what they ask the arena for."""
    a = 0xF7800000
    rows = [
        {"seq": 0, "end_seq": 1, "op": "vmap", "pages": 2, "vaddr": a},
        {"seq": 2, "end_seq": 3, "op": "vmalloc", "size": 5000, "align": 1, "start": 0xF77FE000,
         "end": 0xFEFFE000, "vaddr": a + 3 * P},
        {"seq": 4, "op": "vunmap", "vaddr": a},
        {"seq": 5, "end_seq": 6, "op": "vmap", "pages": 1, "vaddr": a + 6 * P},
    ]  # fmt: skip
    r = small(*({"pid": 3, **row} for row in rows))
    assert (r.predicted == r.seen).all()
    assert (r.verdict == AMBIGUOUS).all()  # ioremap() and others are not seen


HOSTILE = [
    {"size": 0}, {"size": 1 << 40}, {"align": 3}, {"align": 0}, {"align": 1 << 50},
    {"start": 1 << 50}, {"end": 0}, {"start": 0xFEFFE000, "end": 0xF77FE000}, {"size": None},
    {"vaddr": 0xFFFFFFF0}, {"vaddr": 1 << 60}, {"vaddr": 5}, {"parent": 0}, {"end_seq": None},
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE)
def test_nonsense_is_survived(change: dict[str, Any]) -> None:
    a = 0xF7800000
    odd = _alloc(2, 3, P, a + P) | change
    r = small(_alloc(0, 1, P, a), odd, _alloc(4, 5, P, a + 2 * P))
    assert r.row.size + r.unusable == 3


@pytest.mark.parametrize("seed", range(6))
def test_scrambled_traces_are_survived(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events, areas = sim.simulate(seed, 300, 3, "6.1", (1, 0x4000), 0.3)
    for column in ("vaddr", "end", "size", "pid"):
        values = events.get_column(column)
        order = rng.permutation(values.len())
        mixed = values.gather(order)
        pick = pl.Series(rng.random(values.len()) < 0.2)
        events = events.with_columns(
            pl.when(pick).then(mixed).otherwise(values).alias(column).cast(values.dtype)
        )
    r = replayed(events, areas)
    assert r.row.size + r.unusable > 0
    assert set(r.verdict.tolist()) <= set(range(5))
