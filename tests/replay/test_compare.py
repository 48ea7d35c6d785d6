"""Two runs beside each other: what is called a change, and what never is."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.errors import HmtraceError
from replay.compare.changes import (
    BOUND,
    CHANGED,
    EVENT,
    KMAP,
    RUN,
    SAME,
    SECOND,
    UNKNOWN,
    WITHIN,
    Change,
)
from replay.compare.noise import CHANCE, EXACT, REPEATED, Rate, by_chance, noise_of
from replay.compare.run import Comparison, compare_runs
from replay.compare.side import Side, side_of, side_of_row
from replay.figures import EMULATED, LOSSY
from replay.machine.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Callable

SEEN = dict.fromkeys(
    ("pool", "local", "arena", "times", "flushes", "purges", "switches", "lowmem", "vmap",
     "vmalloc", "vm_map_ram"),
)  # fmt: skip
LOSS = {"events": 7, "unknown": 0, "intervals": [{"cpu": 0, "count": 7}]}


def document(trace: str | None = None, **changes: Any) -> dict[str, Any]:
    """A document of `report` with 1000 kmap() and 2000 local mappings in a second."""
    pool = {"maps": 1000, "hits": 800, "new_mappings": 200, "flushes": 4, "waits": 0, "slots": 512}
    pool |= {"asleep": 0, "max_used": 3, "still_used": 0, "wait_ns": 0, "longest_wait_ns": 0}
    local = {"maps": 2000, "lowmem": 50, "mappings_saved": 40, "saved_on_switch": 20, "limit": 15}
    local |= {"max_depth": 2, "longest_hold_ns": 9000, "unknown": 0}
    arena = {"allocs": 30, "failures": 0, "lazy_purges": 5, "peak_live": 1 << 20, "apart": 0}
    tlb = {"full": 4, "range": 5, "range_pages": 50, "range_pages_max": 10, "single": 2000}
    costs = {name: getattr(Costs.default(), name) for name in Costs.notes()}
    ranges = [one._asdict() for one in Costs.default().ranges]
    parts: dict[str, dict[str, Any]] = {
        "pool": pool,
        "local": local,
        "arena": arena | {"largest_hole_min": 1 << 20},
        "tlb": tlb | {"ipis": 9},
        "machine": {"arch": "i386", "cpus": 2, "costs": costs | {"ranges": ranges}},
        "cost": {
            "total_ns": 240_000,
            "low_ns": 60_000,
            "high_ns": 900_000,
            "units": {"invlpg": 2000.0, "lock": 2000.0},
            "by_cause": {
                "kmap": {"count": 1000, "ns": 40_000},
                "kmap_local": {"count": 2000, "ns": 200_000},
            },
        },
    }
    for name, more in changes.items():
        if name in parts:
            parts[name] = parts[name] | more
    told: dict[str, Any] = {
        "schema": "hmtrace/report/1",
        "source": {"sha256": trace},
        "clock": "local",
        "clock_is_ns": True,
        "span_ns": 1_000_000_000,
        "lost": {"events": 0, "unknown": 0, "intervals": []},
        "evidence": dict(SEEN),
        "sites": [],
        "findings": [],
        "caveats": [],
    }
    others = {name: value for name, value in changes.items() if name not in parts}
    return told | parts | others


def side(name: str = "a", trace: str | None = None, **changes: Any) -> Side:
    return side_of(document(trace, **changes), name)


def by_name(found: Comparison) -> dict[str, Change]:
    return {change.name: change for change in found.changes}


def times(n: int) -> dict[str, Any]:
    """Everything that adds up n times, in n times the time."""
    whole = document()
    changed: dict[str, Any] = {"span_ns": n * whole["span_ns"]}
    most = ("slots", "limit", "max_used", "max_depth", "range_pages_max", "unknown", "apart",
            "peak_live", "largest_hole_min", "longest_hold_ns")  # fmt: skip
    for part in ("pool", "local", "arena", "tlb"):
        changed[part] = {k: v if k in most else n * v for k, v in whole[part].items()}
    cost = whole["cost"]
    changed["cost"] = {key: n * cost[key] for key in ("total_ns", "low_ns", "high_ns")}
    changed["cost"]["units"] = {k: n * v for k, v in cost["units"].items()}
    changed["cost"]["by_cause"] = {
        cause: {key: n * value for key, value in figures.items()}
        for cause, figures in cost["by_cause"].items()
    }
    return changed


# What is called a change --------------------------------------------------------------------------


def test_a_run_beside_itself_has_not_changed() -> None:
    found = compare_runs(side(trace="x"), side(trace="x"))
    assert found.is_same
    assert found.basis == EXACT
    assert found.work.unit == RUN
    assert {change.verdict for change in found.changes} == {SAME}
    assert found.cost is not None
    assert found.cost.word == "same"


@pytest.mark.parametrize("unit", [KMAP, EVENT, SECOND])
def test_three_times_the_work_is_no_change_per_unit(unit: str) -> None:
    found = compare_runs(side(), side("b", **times(3)), unit)
    counts = {change.name: change for change in found.changes if change.kind == "count"}
    assert {change.verdict for change in counts.values()} == {SAME}
    assert counts["local"].rates[0] == pytest.approx(counts["local"].rates[1])
    assert found.cost is not None
    assert found.cost.likely == pytest.approx(0)
    assert not found.cost.is_beyond_noise


def test_three_times_the_work_is_a_change_of_the_run() -> None:
    found = by_name(compare_runs(side(), side("b", **times(3)), RUN))
    assert found["kmap"].verdict == CHANGED
    assert found["kmap"].share == pytest.approx(2.0)
    assert found["pool_flushes"].verdict == WITHIN  # 4 and 12: chance may do that


def test_a_third_more_local_mappings_are_a_change_beyond_chance() -> None:
    more = {"maps": 2600, "lowmem": 50}
    found = by_name(compare_runs(side(), side("b", local=more), KMAP))
    change = found["local"]
    assert change.verdict == CHANGED
    assert change.share == pytest.approx(0.3)
    # 3 roots of: 4600 calls, and 2300, their mean, as uncertain as 1000 and 1000 kmap() are
    assert change.noise is not None
    assert change.noise.most == pytest.approx(3 * sqrt(4600 + 2300**2 * (2 / 1000)))
    assert found["kmap"].verdict == SAME


def test_within_the_noise_is_no_change() -> None:
    found = by_name(compare_runs(side(), side("b", local={"maps": 2100}), RUN))
    assert found["local"].verdict == WITHIN
    assert not found["local"].is_change


def test_two_of_one_trace_have_no_noise() -> None:
    found = compare_runs(side(trace="x"), side("b", trace="x", local={"maps": 2001}))
    assert by_name(found)["local"].verdict == CHANGED
    assert found.basis == EXACT
    assert not found.is_same


def test_a_repetition_measures_the_noise() -> None:
    again = side("a2", local={"maps": 2000})
    found = compare_runs(side(), side("b", local={"maps": 2100}), RUN, ((again,), ()))
    assert found.basis == REPEATED
    change = by_name(found)["local"]
    assert change.verdict == CHANGED  # it repeats to the last call: 100 more are no chance
    assert change.noise is not None
    assert change.noise.most < 20


def test_a_repetition_that_differs_much_makes_no_change_of_as_much() -> None:
    again = side("a2", local={"maps": 2700})
    found = compare_runs(side(), side("b", local={"maps": 2600}), RUN, ((again,), ()))
    assert by_name(found)["local"].verdict == WITHIN


def test_wraps_of_the_pool_come_by_turns_not_by_chance() -> None:
    """Half as many for as many new mappings are a change, were it ten; one more or less is none."""
    wraps = {"wraps": 10, "unused_passes": 0, "flushes": 10, "new_mappings": 5000, "maps": 20000}
    one = side(pool=wraps | {"hits": 15000}, tlb={"full": 10, "range": 0, "ipis": 10})
    for flushes, verdict in ((5, CHANGED), (9, WITHIN)):
        there = wraps | {"wraps": flushes, "flushes": flushes, "hits": 15000}
        tlb = {"full": flushes, "range": 0, "ipis": flushes}
        found = by_name(compare_runs(one, side("b", pool=there, tlb=tlb), KMAP))
        for name in ("pool_flushes", "tlb_full", "ipis"):
            assert found[name].verdict == verdict, name
    unused = wraps | {"flushes": 5, "wraps": 2, "unused_passes": 9, "hits": 15000}
    found = by_name(compare_runs(one, side("b", pool=unused), KMAP))
    assert found["pool_flushes"].verdict == WITHIN  # whoever calls kmap_flush_unused() does so


def test_twice_as_much_work_is_doubted() -> None:
    found = compare_runs(side(), side("b", **times(3)), KMAP)
    assert [(one.code, one.about) for one in found.apart] == [
        ("amounts", "kmap"), ("spans", ""),
    ]  # fmt: skip
    assert not [one for one in compare_runs(side(), side("b")).apart if one.code == "amounts"]


def test_what_is_the_unit_or_follows_is_not_told_in_short() -> None:
    found = compare_runs(side(), side("b", local={"maps": 3000}, tlb={"single": 3000}), KMAP)
    told = {change.name for change in found.changes if found.is_told(change)}
    assert {"kmap", "tlb_single"} & told == set()
    assert {change.name for change in found.grown()} == {"local"}
    other = compare_runs(side(), side("b", tlb={"single": 4000}), KMAP)
    assert "tlb_single" in {change.name for change in other.grown()}


def test_what_is_no_repetition_measures_no_noise() -> None:
    """A capture given again would make a noise of nothing."""
    one = side(trace="x", machine={"release": "6.1"})
    other = side("b", trace="y", local={"maps": 2100})
    wrong = [
        side("again", trace="x"),
        side("other", trace="z", machine={"release": "6.12"}),
        side("lossy", trace="w", lost=LOSS),
        side_of(document("v") | {"baseline": document()}, "model"),
    ]
    found = compare_runs(one, other, RUN, (wrong, ()))
    assert found.basis == CHANCE
    assert by_name(found)["local"].verdict == WITHIN
    assert [(a.one, a.about) for a in found.apart if a.code == "no-repetition"] == [
        ("again", "same trace"), ("other", "machine"), ("lossy", "lost"), ("model", "modelled"),
    ]  # fmt: skip


# Nothing to divide by, nothing traced, losses -----------------------------------------------------


def test_without_kmap_nothing_is_given_per_kmap() -> None:
    none = {"maps": 0, "hits": 0, "new_mappings": 0, "flushes": 0}
    found = compare_runs(side(pool=none), side("b"), KMAP)
    assert {c.verdict for c in found.changes if c.kind == "count"} == {UNKNOWN}
    assert by_name(found)["local"].rates == (None, 2000.0)
    assert found.cost is None
    assert ("no-work", "kmap") in {(one.code, one.about) for one in found.apart}


def test_the_usual_unit_is_what_both_have() -> None:
    none = {"maps": 0, "hits": 0, "new_mappings": 0, "flushes": 0}
    assert compare_runs(side(), side("b")).work.unit == KMAP
    assert compare_runs(side(pool=none), side("b")).work.unit == EVENT
    unseen = {"evidence": SEEN | {"pool": "untraced", "local": "untraced", "arena": "untraced"}}
    nothing = side(pool=none, local={"maps": 0, "lowmem": 0}, arena={"allocs": 0}, **unseen)
    assert compare_runs(nothing, side("b")).work.unit == SECOND


def test_what_one_did_not_trace_is_no_change() -> None:
    untraced = side(local={"maps": 0}, evidence=SEEN | {"local": "untraced"})
    found = compare_runs(untraced, side("b"), KMAP)
    change = by_name(found)["local"]
    assert (change.verdict, change.why) == (UNKNOWN, "untraced")
    assert found.cost is not None
    assert found.cost.verdict is None
    assert "evidence" in found.cost.why


def test_calls_that_neither_traced_leave_the_others_comparable() -> None:
    lacking = {"local": {"maps": 0, "lowmem": 0}, "evidence": SEEN | {"local": "untold"}}
    found = compare_runs(side(**lacking), side("b", **lacking), EVENT)
    assert found.work.one == (1030, None, "")
    assert by_name(found)["requests"].verdict == SAME


def test_losses_make_bounds_or_nothing() -> None:
    lossy = side("b", lost=LOSS, local={"maps": 9000})
    found = by_name(compare_runs(side(), lossy, RUN))
    assert (found["local"].verdict, found["local"].sense) == (BOUND, "least")
    assert found["kmap"].verdict == UNKNOWN  # the same number and perhaps more
    assert found["pool_flushes"].verdict == UNKNOWN
    swapped = by_name(compare_runs(lossy, side(), RUN))
    assert (swapped["local"].verdict, swapped["local"].sense) == (BOUND, "most")


def test_both_lossy_tell_nothing_but_of_one_trace() -> None:
    one, other = side(lost=LOSS), side("b", lost=LOSS, local={"maps": 9000})
    found = compare_runs(one, other, KMAP)
    assert not any(change.is_change for change in found.changes if change.kind == "count")
    assert found.cost is not None
    assert found.cost.verdict is None
    twice = compare_runs(side(trace="x", lost=LOSS), side(trace="x", lost=LOSS))
    assert twice.is_same


def test_an_emulators_times_are_not_compared() -> None:
    slow = side("b", caveats=[EMULATED], pool={"wait_ns": 5000}, span_ns=9_000_000_000)
    found = compare_runs(side(), slow, SECOND)
    assert {change.why for change in found.changes if change.kind != "level"} == {"emulated"}
    assert compare_runs(side(), slow).work.unit == KMAP


def test_other_hardware_is_neither_cheaper_nor_dearer() -> None:
    found = compare_runs(side(), side("b", machine={"arch": "arm"}), KMAP)
    assert found.cost is not None
    assert (found.cost.word, found.cost.why) == ("", ("arch",))
    assert "arch" in [one.fact for one in found.machines]


def test_cheaper_only_where_every_cost_says_so() -> None:
    less = {"units": {"invlpg": 500.0, "lock": 2000.0}, "total_ns": 100_000, "low_ns": 20_000}
    cause = {"kmap_local": {"count": 500, "ns": 50_000}, "kmap": {"count": 1000, "ns": 40_000}}
    found = compare_runs(
        side(), side("b", local={"maps": 500}, cost=less | {"by_cause": cause}), KMAP
    )
    assert found.cost is not None
    assert found.cost.word == "cheaper"
    mixed = {"units": {"invlpg": 500.0, "lock": 9000.0}}
    found = compare_runs(side(), side("b", cost=less | mixed), KMAP)
    assert found.cost is not None
    assert found.cost.word == ""


def test_pages_that_are_not_known_make_an_upper_bound() -> None:
    blind = side(local={"unknown": 2000}, pool={"hits": 0, "new_mappings": 0})
    found = by_name(compare_runs(blind, side("b", local={"maps": 6000}), KMAP))
    assert (found["local"].one.sense, found["local"].verdict) == ("most", BOUND)
    assert found["local"].sense == "least"
    assert found["pool_flushes"].why == "pageless"


# Call sites ---------------------------------------------------------------------------------------


def sites(*rows: tuple[str, str, int]) -> dict[str, Any]:
    return {"sites": [{"site": s, "op": op, "count": n} for s, op, n in rows]}


def test_sites_are_joined_by_function_in_another_build() -> None:
    one = side(**sites(("f.isra.0+0x50/0x90 [m]", "kmap", 600), ("f.isra.0+0x80 [m]", "kmap", 400)))
    other = side("b", **sites(("f.constprop.1+0x44 [m]", "kmap", 1000)))
    found = compare_runs(one, other, KMAP).sites
    assert found is not None
    (change,) = found.functions
    assert (change.function, change.one.calls, change.other.calls) == ("f [m]", 1000, 1000)
    assert change.verdict == SAME


def test_sites_without_names_are_joined_by_nothing() -> None:
    nameless = sites(("0xf7885054", "kmap", 900), ("(not traced)", "kmap", 100))
    found = compare_runs(side(**nameless), side("b", **nameless), KMAP).sites
    assert found is not None
    assert found.functions == ()
    assert found.nameless == ((1000, 1000), (1000, 1000))
    same = compare_runs(side(trace="x", **nameless), side(trace="x", **nameless), KMAP).sites
    assert same is not None
    assert {change.verdict for change in same.functions} == {SAME}


def test_a_module_that_one_run_has_no_names_of_is_not_new() -> None:
    one = side(**sites(("0xf7885054", "kmap", 1000)))
    other = side("b", **sites(("f+0x50 [m]", "kmap", 1000)))
    found = compare_runs(one, other, KMAP).sites
    assert found is not None
    assert [change.verdict for change in found.functions] == [UNKNOWN]


def test_a_conversion_is_found_and_measured_by_calls_that_map() -> None:
    before = sites(("f+0x50 [m]", "kmap", 1000), ("g+0x4", "kmap_local", 2000))
    after = sites(("f+0x61 [m]", "kmap_local", 990), ("g+0x4", "kmap_local", 2010))
    none = {"maps": 0, "hits": 0, "new_mappings": 0, "flushes": 0}
    found = compare_runs(side(**before), side("b", pool=none, local={"maps": 3000}, **after))
    assert found.work.unit == EVENT
    assert found.sites is not None
    (converted,) = found.sites.converted
    assert converted.function == "f [m]"
    assert [use.calls for use in (*converted.kmap, *converted.local)] == [1000, 0, 0, 990]


def test_calls_of_lowmem_pages_that_one_run_shows_alone_are_no_change() -> None:
    one = side(local={"lowmem": 0}, evidence=SEEN | {"lowmem": "untraced"},
               **sites(("g+0x4", "kmap_local", 2000)))  # fmt: skip
    other = side("b", local={"lowmem": 500}, **sites(("g+0x4", "kmap_local", 2450)))
    found = compare_runs(one, other, KMAP).sites
    assert found is not None
    assert found.functions[0].verdict == UNKNOWN


# Findings, rows, hostile documents ----------------------------------------------------------------


def test_findings_of_one_run_alone() -> None:
    def with_finding(rule: str) -> dict[str, Any]:
        return {"findings": [{"rule": rule, "severity": "problem"}]}

    found = compare_runs(side(**with_finding("kmap-held")), side("b"))
    assert found.gone == (("kmap-held", "problem"),)
    unseen = side("b", evidence=SEEN | {"pool": "lost"})
    assert compare_runs(side(**with_finding("kmap-held")), unseen).gone == ()


def test_rows_of_one_sweep_are_of_one_trace() -> None:
    figures = {"kmap": 100, "local": 50, "cost_ns": 1000, "cost_low_ns": 900, "cost_high_ns": 1100}
    rows = [
        {"capture": "c", "split": split, "bound": bound, "figures": figures | {"kmap": n}}
        for split, n, bound in (("3g", 100, None), ("2g", 0, None), ("1g", 80, "most"))
    ]
    here, there, bounded = (side_of_row(row, {}, "f") for row in rows)
    found = compare_runs(here, there)
    assert found.basis == EXACT
    assert by_name(found)["kmap"].verdict == CHANGED
    assert by_name(found)["requests"].verdict == UNKNOWN  # not among a sweep's figures
    assert found.sites is None
    change = by_name(compare_runs(here, bounded))["kmap"]
    assert (change.verdict, change.sense) == (BOUND, "most")
    lossy = side_of_row(rows[0] | {"caveats": [LOSSY]}, {}, "f")
    assert lossy.is_lossy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 70) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "maps",
                    "costs",
                    "name",
                    "site",
                    "op",
                    "count",
                    "rule",
                    "kmap",
                    "arch",
                    "cpus",
                    "pae",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KEYS = (
    "pool", "local", "machine", "cost", "sites", "findings", "evidence", "lost", "clock",
    "clock_is_ns", "span_ns", "caveats", "source", "baseline", "bound", "figures", "tlb",
)  # fmt: skip


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
    st.sampled_from([None, KMAP, EVENT, SECOND, RUN]),
)
def test_a_damaged_document_is_named_or_compared(damage: dict[str, Any], unit: str | None) -> None:
    for make in (
        lambda: side_of(document() | damage, "x"),
        lambda: side_of(document() | damage, "x", baseline=True),
        lambda: side_of_row(damage, damage, "x"),
    ):
        made = _made(make)
        if made is not None:
            compare_runs(made, side("b"), unit)
            compare_runs(side("b"), made, unit, ((made,), (made,)))


def _made(make: Callable[[], Side]) -> Side | None:
    try:
        return make()
    except HmtraceError as error:
        return None if (error.exit_code, error.source) == (3, "x") else pytest.fail(str(error))


# Properties ---------------------------------------------------------------------------------------

SENSES = st.sampled_from([None, "least", "most"])
VALUES = st.integers(0, 3000)


@settings(max_examples=300)
@given(VALUES, VALUES, SENSES, SENSES, st.lists(st.integers(0, 4000), min_size=4, max_size=4))
def test_a_bound_holds_for_whatever_the_figures_are(
    a: int, b: int, sense_a: str | None, sense_b: str | None, more: list[int]
) -> None:
    """Every pair of true values that fits the senses differs by as much as is said."""
    from replay.compare.figures import KnownFigure

    one, other = side(), side("b")
    one = _with(one, "local", KnownFigure(a, sense_a, "bound" if sense_a else ""))
    other = _with(other, "local", KnownFigure(b, sense_b, "bound" if sense_b else ""))
    change = by_name(compare_runs(one, other, RUN))["local"]
    for true_a, true_b in zip(
        _truths(a, sense_a, more), _truths(b, sense_b, more[2:]), strict=True
    ):
        if change.verdict == BOUND and change.sense == "least":
            assert true_b - true_a >= (change.difference or 0)
        elif change.verdict == BOUND:
            assert true_b - true_a <= (change.difference or 0)
        elif change.verdict != UNKNOWN:
            assert true_b - true_a == change.difference
    assert change.verdict in (BOUND, UNKNOWN) or (sense_a is None and sense_b is None)


def _with(run: Side, name: str, known: Any) -> Side:
    from dataclasses import replace

    return replace(run, figures={**run.figures, name: known})


def _truths(value: int, sense: str | None, more: list[int]) -> list[int]:
    """Values that a figure may truly have."""
    if sense is None:
        return [value, value]
    signed = [value + n if sense == "least" else max(value - n, 0) for n in more[:2]]
    return [value, signed[0]] if more else signed


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 3000), min_size=10, max_size=10),
    st.sampled_from([KMAP, EVENT, SECOND, RUN]),
    st.booleans(),
)
def test_what_changed_one_way_changed_back(
    n: list[int],
    unit: str,
    wraps: bool,  # noqa: FBT001
) -> None:
    def run_of(a: int, b: int, c: int, d: int, e: int) -> Side:
        pool = {"maps": a, "hits": b, "new_mappings": c, "flushes": d, "unused_passes": 0}
        tlb = {"full": d, "range": 0 if wraps else 3, "ipis": 3 * d, "single": e}
        return side(pool=pool | {"wraps": d if wraps else 0}, local={"maps": e}, tlb=tlb)

    one, other = run_of(*n[:5]), run_of(*n[5:])
    there, back = by_name(compare_runs(one, other, unit)), by_name(compare_runs(other, one, unit))
    for name, change in there.items():
        assert change.verdict == back[name].verdict, name
        if change.difference and back[name].difference:
            assert change.difference * back[name].difference < 0, name


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.01, 100))
def test_noise_by_chance_is_the_same_both_ways(a: int, b: int, scale: float) -> None:
    """Seen from the other run, in its counts."""
    there = by_chance(Rate(a, 1, a), Rate(b, scale, b))
    back = by_chance(Rate(b, scale, b), Rate(a, 1, a))
    assert there == pytest.approx(back * scale)


@settings(max_examples=50)
@given(st.integers(1, 400), st.integers(0, 1 << 32))
def test_counts_by_chance_hardly_ever_change(mean: int, seed: int) -> None:
    """Of Poisson counts of one mean fewer than 2 of 100 pairs differ by more than is said."""
    import numpy as np

    draws = np.random.default_rng(seed).poisson(mean, (2, 500))
    beyond = sum(
        abs(float(a) - float(b)) > by_chance(Rate(a, 1, a), Rate(b, 1, b))
        for a, b in draws.T.tolist()
    )
    assert beyond <= 10


def test_noise_by_repetitions_holds_for_what_comes_in_bunches() -> None:
    """Counts that come 20 at a time: chance alone is off by far, three repetitions are not."""
    import numpy as np

    draws = 20 * np.random.default_rng(7).poisson(30, (400, 5))
    called = {CHANCE: 0, REPEATED: 0}
    for row in draws.tolist():
        rates = [Rate(n, 1, n) for n in row]
        groups = {CHANCE: [], REPEATED: [[rates[0], *rates[2:]]]}
        for basis, group in groups.items():
            noise = noise_of(rates[0], rates[1], group, exact=False)
            assert noise.basis == basis
            called[basis] += abs(row[1] - row[0]) > noise.most
    assert called[CHANCE] > 150
    assert called[REPEATED] < 28
