"""Verdicts over ranges of costs: exact, and correlated between the two machines."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.cost.units import OF_REFILL, REFILL, UNITS, spread_of
from replay.cost.verdict import Turn, compare, cost_verdict, is_bounded, lock_verdict
from replay.machine.costs import Costs, Spread
from replay.machine.options import with_options
from replay.whatif.figures import figures_of
from tests.replay.test_whatif import both, opened

NAMES = ("lock", "ipi_base", "scan", "walk")
TLB = {"tlb_entries": Spread(64, 128, 512), "tlb_live": Spread(0, 0.5, 1)}
WORDS = ("lock", "ipi_base", "scan", REFILL)


def made_of(ends: list[int]) -> Costs:
    """Three numbers for each name."""
    spreads = {n: Spread(*sorted(ends[3 * i : 3 * i + 3])) for i, n in enumerate(NAMES)}
    return Costs.certain({}).with_spreads(spreads | TLB)


numbers = st.integers(0, 1000)
costs = st.lists(numbers, min_size=12, max_size=12).map(made_of)
work = st.lists(numbers, min_size=4, max_size=4).map(lambda n: dict(zip(WORDS, n, strict=True)))


@given(work, work, costs)
def test_the_extremes_are_those_of_all_corners(one, other, figures):
    """Brute force over every figure at each of its ends, the refill's three among them."""
    found = compare([(one, -1), (other, 1)], [figures, figures])
    ends = [figures.spread(name) for name in (*NAMES, "tlb_entries", "tlb_live")]
    corners = []
    for lock, ipi, scan, walk, entries, live in product(*((s.low, s.high) for s in ends)):
        price = {"lock": lock, "ipi_base": ipi, "scan": scan, REFILL: walk * entries * live}
        corners.append(sum((other.get(u, 0) - one.get(u, 0)) * ns for u, ns in price.items()))
    assert found.low == pytest.approx(min(corners))
    assert found.high == pytest.approx(max(corners))
    assert found.low <= found.likely <= found.high
    if found.likely > 0:
        assert found.holds == (found.low >= 0)


@given(work, work, costs)
def test_a_turn_makes_nothing_of_the_difference(one, other, figures):
    found = compare([(one, -1), (other, 1)], [figures, figures])
    if found.holds or found.turn is None:
        return
    turn = found.turn
    assert turn.figure in figures.__dataclass_fields__ or turn.figure == REFILL
    if turn.figure != REFILL:
        spread = figures.spread(turn.figure)
        assert spread.low <= turn.at <= spread.high
        at = figures.with_spreads({turn.figure: Spread(turn.at, turn.at, turn.at)})
        there = compare([(one, -1), (other, 1)], [at, at]).likely
        size = sum((one.get(u, 0) + other.get(u, 0)) * spread_of(at, u).likely for u in UNITS)
        assert there == pytest.approx(0, abs=1e-6 * max(size, 1))


def test_the_same_operation_costs_the_same_on_both():
    """Five times the interrupts are dearer, though the totals' ranges overlap."""
    figures = Costs.certain({}).with_values({"ipi_base": [500, 1000, 5000]})
    few, many = {"ipi_base": 100.0}, {"ipi_base": 500.0}
    assert compare([(few, -1), (many, 1)], [figures, figures]).holds
    apart = compare([(few, -1), (many, 1)], [figures, figures], alike=False)
    assert (apart.word, apart.holds, apart.low) == ("dearer", False, 500 * 500 - 100 * 5000)


def test_machines_whose_figures_differ_draw_them_apart():
    slow = Costs.certain({"lock": 10}).with_values({"scan": [1, 2, 5]})
    fast = slow.with_values({"scan": [0.3, 1, 4]})
    found = compare(
        [({"scan": 10.0, "lock": 3.0}, -1), ({"scan": 10.0, "lock": 3.0}, 1)], [slow, fast]
    )
    assert (found.low, found.likely, found.high) == (3 - 50, -10, 40 - 10)
    assert not found.holds


def test_equal_work_is_the_same_whatever_it_costs():
    figures = Costs.default()
    found = compare([({"scan": 10.0}, -1), ({"scan": 10.0}, 1)], [figures, figures])
    assert (found.word, found.holds, found.turn) == ("same", True, None)


def test_a_turn_by_a_refill_names_a_figure():
    figures = Costs.certain({"tlb_entries": 100, "tlb_live": 0.5}).with_values(
        {"walk": [1, 20, 100], "scan": [1, 1, 1]}
    )
    found = compare([({"scan": 2000.0}, -1), ({REFILL: 1.0}, 1)], [figures, figures])
    assert (found.word, found.low, found.likely, found.high) == ("cheaper", -1950, -1000, 3000)
    assert found.turn == Turn("walk", 40.0, above=True)
    assert set(OF_REFILL) == {"tlb_entries", "tlb_live", "walk"}


@pytest.mark.parametrize(
    "name", ["i386-minix-pae-smp2", "arm-61-1g-minix", "i386-hog-e-vmapfail-pae-smp1"]
)
def test_operations_times_their_costs_are_the_total(name):
    machine = opened(name)[1]
    here, there = both(name, with_options(machine, pkmap=64))
    for outcome in (here, there):
        cost, figures = outcome.cost, outcome.machine.costs
        spreads = {unit: spread_of(figures, unit) for unit in cost.units}
        for total, end in ((cost.low_ns, 0), (cost.total_ns, 1), (cost.high_ns, 2)):
            told = sum(n * spreads[unit][end] for unit, n in cost.units.items())
            assert total == pytest.approx(told, abs=1)
            key = ("low_ns", "ns", "high_ns")[end]
            causes = sum(cause[key] for cause in cost.by_cause.values())
            assert causes == pytest.approx(total, abs=len(cost.by_cause))
        assert cost.lock_hold_ns == (
            pytest.approx(sum(n * spread_of(figures, u).likely for u, n in cost.lock_units.items()))
            if cost.lock_units
            else None
        )


def test_a_smaller_pool_of_a_real_capture():
    """8 full flushes become 68, and 26 806 slots looked at 7 228: dearer but for slow looks."""
    machine = opened("i386-minix-pae-smp2")[1]
    here, there = both("i386-minix-pae-smp2", with_options(machine, pkmap=64))
    assert (here.cost.units["full_flush"], there.cost.units["full_flush"]) == (8, 68)
    assert (here.cost.units["scan"], there.cost.units["scan"]) == (26806, 7228)
    found = cost_verdict(here, there)
    assert (found.word, found.holds, found.turn) == ("dearer", False, None)
    assert lock_verdict(here, there).turn.figure == "scan"
    alike = {name: getattr(machine.costs, name) for name in ("scan", "ipi_base", "full_flush")}
    apart = Costs.certain(alike)
    certain = [replace(o, machine=replace(o.machine, costs=apart)) for o in (here, there)]
    assert cost_verdict(*certain).holds


def test_a_what_if_says_what_it_changes():
    """As the sweep's figures have it: nothing on the machine itself."""
    machine = opened("i386-minix-pae-smp2")[1]
    here, there = both("i386-minix-pae-smp2", with_options(machine, pkmap=64))
    verdict = cost_verdict(here, there)
    assert here.cost.change_ns is None
    assert there.cost.change_ns == (verdict.low, verdict.likely, verdict.high)
    assert verdict.likely == pytest.approx(there.cost.total_ns - here.cost.total_ns, abs=1)
    figures = figures_of(there)
    assert figures["cost_change_low_ns"] == round(verdict.low) < 0
    assert (figures["cost_low_ns"], figures["cost_high_ns"]) == (
        there.cost.low_ns,
        there.cost.high_ns,
    )
    assert figures_of(here)["cost_change_ns"] == 0


def test_a_bound_leaves_open_what_it_does_not_decide():
    assert is_bounded(-3, "least")
    assert is_bounded(3, "most")
    assert not is_bounded(-3, "most")
    assert not is_bounded(3, "least")
    assert not is_bounded(3, None)
    assert is_bounded(0, "least"), "as much or more"
    assert not is_bounded(0, None)
