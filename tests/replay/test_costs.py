"""Cost figures and formulas."""

from dataclasses import replace

import numpy as np
import pytest

from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from replay.arena.tally import ArenaTally
from replay.cost import formulas
from replay.cost.account import CountedWork, cost_of
from replay.machine.costs import FIGURE_NAMES, Costs
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.tlb import flush_class
from replay.outcome import LocalOutcome, PoolOutcome

I386 = layout_of(Machine(arch="i386", pae=True, page_struct=40))
ARM = layout_of(Machine(arch="arm", nr_cpus=8, page_struct=36))
C = Costs.default()
NO_PASSES = np.zeros(1, np.int64)
WORK = CountedWork(
    PoolOutcome(slots=512, maps=10, hits=8, new_mappings=2), LocalOutcome(), 2, NO_PASSES,
    NO_PASSES, 0, ArenaTally(),
)  # fmt: skip


def laid_out(arch):
    return layout_of(machine_from(Snapshot(arch=arch, cpus=4))[0])


def test_every_figure_has_a_source_and_its_trust():
    notes = Costs.notes()
    assert set(notes) | {"ranges"} == set(vars(C))
    assert {note.trust for note in notes.values()} == {"kernel text", "changelog", "assumption"}
    assert C.invlpg == 100
    assert notes["invlpg"].unit == "ns"
    assert "arch/x86/mm/tlb.c" in notes["invlpg"].source


def test_every_default_lies_in_a_range_with_its_reason():
    notes = Costs.notes()
    for name in FIGURE_NAMES:
        spread = C.spread(name)
        assert 0 < spread.low < spread.likely < spread.high, name
        assert notes[name].spread
        assert notes[name].short
    assert C.spread("invlpg") == (20, 100, 200)


def test_a_number_is_certain_and_a_list_is_a_range():
    loaded = C.with_values({"invlpg": 140, "walk": [10, 30, 90], "dsb": {"value": 4, "high": 9}})
    assert loaded.spread("invlpg") == (140, 140, 140)
    assert loaded.spread("walk") == (10, 30, 90)
    assert loaded.spread("dsb") == (4, 4, 9)
    assert loaded.spread("lock") == C.spread("lock")


def test_values_override_a_subset():
    loaded = C.with_values({"invlpg": 140, "walk": {"value": 30.5}})
    assert (loaded.invlpg, loaded.walk, loaded.lock) == (140, 30.5, C.lock)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"invlgp": 3}, "did you mean 'invlpg'?"),
        ({"invlpg": -1}, "invlpg = 100"),
        ({"invlpg": float("nan")}, "invlpg = 100"),
        ({"invlpg": float("inf")}, "invlpg = 100"),
        ({"invlpg": 10**5000}, "invlpg = 100"),
        ({"invlpg": True}, "invlpg = 100"),
        ({"invlpg": "fast"}, "invlpg = 100"),
        ({"invlpg": {"unit": "ns"}}, "invlpg = 100"),
        ({"invlpg": [1, 2]}, "invlpg = [50, 100, 200]"),
        ({"invlpg": [1, "2", 3]}, "invlpg = [50, 100, 200]"),
        ({"invlpg": [3, 2, 4]}, "the least, the likely, the most"),
        ({"invlpg": {"value": 2, "low": 3}}, "the least, the likely, the most"),
    ],
)
def test_wrong_costs(values, words):
    with pytest.raises(HmtraceError) as caught:
        C.with_values(values, source="costs.toml")
    assert caught.value.exit_code == 2
    assert words in caught.value.hint
    assert caught.value.source == "costs.toml"


def test_ceiling_is_33_pages():
    # 33 pages on 2 CPUs: an IPI round and 33 INVLPG on each; 34 pages: a full flush
    ipi = C.ipi_base + C.ipi_cpu + C.ipi_receive
    assert formulas.range_flush_ns(C, I386, 33, 2) == ipi + 2 * 33 * 100
    full = ipi + 2 * (C.full_flush + formulas.refill_ns(C))
    assert formulas.range_flush_ns(C, I386, 34, 2) == full
    assert formulas.full_flush_ns(C, I386, 2) == full


def test_one_cpu_sends_no_ipi():
    assert formulas.ipi_ns(C, 1) == 0
    assert formulas.range_flush_ns(C, I386, 1, 1) == 100
    assert formulas.range_flush_ns(C, replace(I386, pti=True), 1, 1) == 200


def test_arm_has_no_ceiling():
    around = 2 * C.dsb + C.isb
    assert formulas.range_flush_ns(C, ARM, 200_000, 4) == around + 200_000 * C.tlbi_broadcast
    erratum = replace(ARM, tlb_erratum_ipi=True)
    assert formulas.range_flush_ns(C, erratum, 1, 4) == pytest.approx(
        around + 2 * C.tlbi_broadcast + C.dsb + formulas.ipi_ns(C, 4)
    )
    looped = replace(ARM, tlb_broadcast=False)
    assert formulas.range_flush_ns(C, looped, 512, 2) == pytest.approx(
        formulas.ipi_ns(C, 2) + 2 * (around + 512 * C.tlbi_local)
    )


def test_pool_pass_without_anything_freed_only_scans():
    assert formulas.pool_pass_ns(C, I386, 0, 4) == 512 * C.scan
    freed = formulas.pool_pass_ns(C, I386, 3, 4)
    assert freed == 512 * C.scan + 3 * (C.clear_pte + C.hash) + formulas.full_flush_ns(C, I386, 4)


def test_local_mappings():
    assert formulas.local_map_ns(C, I386) == C.migrate / 2 + C.set_pte
    assert formulas.local_unmap_ns(C, I386) == C.migrate / 2 + C.clear_pte + C.invlpg
    flush = C.tlbi_local + 2 * C.dsb + C.isb
    assert formulas.local_map_ns(C, ARM) == C.migrate / 2 + C.set_pte + flush
    assert formulas.switch_ns(C, ARM, 2) == 2 * (C.clear_pte + C.set_pte + 2 * flush)
    assert formulas.switch_ns(C, I386, 1) == C.clear_pte + C.set_pte + C.invlpg


def test_formulas_take_arrays():
    pages = np.array([1, 33, 34, 512])
    assert formulas.range_flush_ns(C, I386, pages, 2).tolist() == [
        formulas.range_flush_ns(C, I386, int(p), 2) for p in pages
    ]
    freed = np.array([0, 5])
    assert formulas.pool_pass_ns(C, ARM, freed, 2).tolist() == [
        formulas.pool_pass_ns(C, ARM, int(f), 2) for f in freed
    ]
    scanned = np.array([0, 3])
    assert formulas.kmap_ns(C, scanned, scanned > 0).tolist() == [
        C.lock + C.hash,
        C.lock + C.hash + 3 * C.scan + C.set_pte + C.hash,
    ]
    assert formulas.arena_alloc_ns(C, 4, 10) == C.area + 10 * C.tree_step + 4 * C.set_pte
    assert formulas.arena_free_ns(C, 4) == C.area + 4 * C.clear_pte
    assert formulas.kunmap_ns(C) == C.lock + C.hash


def test_a_flush_at_every_kmap():
    """csky, mips: one entry on all CPUs for each call, hit or new."""
    board = Machine(arch="arm", nr_cpus=8, cpus=2)
    each = replace(ARM, kmap_flush_each=True)
    assert "flush at every kmap" not in cost_of(WORK, board, ARM, None)[0].by_cause
    flushes = cost_of(WORK, board, each, None)[0].by_cause["flush at every kmap"]
    assert flushes["count"] == 10
    assert flushes["ns"] == 10 * formulas.range_flush_ns(C, each, 1, 2)


def test_sparc_flushes_everything_for_one_local_mapping():
    costs, layout = C, laid_out("sparc32")
    assert formulas.local_map_ns(costs, layout, 4) > formulas.full_flush_ns(costs, layout, 4)
    assert formulas.local_flush_ns(costs, layout, 4) == formulas.full_flush_ns(costs, layout, 4)


def test_microblaze_flushes_no_range():
    costs, layout = C, laid_out("microblaze")
    assert formulas.range_flush_ns(costs, layout, 1024, 1) == 0
    assert formulas.local_flush_ns(costs, layout) == costs.invlpg


def test_arc_flushes_everything_from_32_pages_on():
    costs, layout = C, laid_out("arc")
    full = formulas.full_flush_ns(costs, layout, 4)
    assert formulas.range_flush_ns(costs, layout, 32, 4) == full
    assert formulas.range_flush_ns(costs, layout, 31, 4) < full


@pytest.mark.parametrize(
    ("flags", "name", "figure"),
    [
        ({"pge", "invpcid"}, "x86-invpcid", "full_flush_invpcid"),
        ({"pge"}, "x86-pge", "full_flush"),
        ({"fpu", "invpcid"}, "x86-cr3", "full_flush_cr3"),
        (set(), "x86-pge", "full_flush"),
    ],
)
def test_x86_classes_by_cpuinfo(flags, name, figure):
    """A full flush costs what the CPU's way of dropping everything costs; INVLPG is the same."""
    machine, _ = machine_from(Snapshot(arch="i386", cpus=2, cpu_flags=frozenset(flags)))
    layout = layout_of(machine)
    assert flush_class(layout, 2).name == name
    rest = formulas.ipi_ns(C, 2) + 2 * formulas.refill_ns(C)
    assert formulas.full_flush_ns(C, layout, 2) == rest + 2 * getattr(C, figure)
    assert formulas.range_flush_ns(C, layout, 34, 2) == formulas.full_flush_ns(C, layout, 2)
    assert formulas.range_flush_ns(C, layout, 33, 2) == formulas.range_flush_ns(C, I386, 33, 2)


A15 = (0x41, 0xC0F, 2, 0)
ERRATUM = {"SMP": "y", "HIGHMEM": "y", "ARM_ERRATA_798181": "y"}


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"cpus": 4}, "broadcast"),
        ({"cpus": 4, "arm_cpu": A15, "config": ERRATUM}, "broadcast-798181"),
        ({"cpus": 1, "arm_cpu": A15, "config": ERRATUM}, "local"),
        ({"cpus": 4, "arm_cpu": (0x41, 0xC07, 0, 5), "config": ERRATUM}, "broadcast"),
        ({"cpus": 4, "arm_cpu": (0x41, 0xB02, 1, 0)}, "ipi"),
    ],
)
def test_arm_classes_by_cpuinfo_and_config(facts, name):
    machine, _ = machine_from(Snapshot(**({"arch": "arm"} | facts)))
    assert flush_class(layout_of(machine), machine.cpus).name == name


def test_an_unknown_class_is_refused():
    for arch, wrong in (("i386", "ipi"), ("arm", "pge")):
        with pytest.raises(HmtraceError, match="unknown tlb_flush") as caught:
            layout_of(Machine(arch=arch, tlb_flush=wrong))
        assert caught.value.exit_code == 2
