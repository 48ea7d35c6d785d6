"""Captures of one workload on two machines: what is foretold of the other is what it did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from replay.whatif.figures import sense_of
from tests.replay.test_whatif import both, opened
from tests.twins.evidence import ArenaEvidence
from tests.twins.expected import PROOFS, TOLD
from tests.twins.measure import BORDERS, FIXTURES, both_ways, find, recorded
from tests.twins.pairs import PAIRS, RECORDED
from tests.twins.table import as_markdown, summary

if TYPE_CHECKING:
    from replay.outcome import Outcome
    from tests.twins.measure import Foretold

POOL = ("i386-twin-vmalloc128", "i386-twin-vmalloc256")
KEPT = [pair for pair in RECORDED if find(FIXTURES, pair.one)]
DOCS = Path(__file__).parents[2] / "docs" / "twins.md"


def figures(one: Foretold) -> dict[str, tuple[float | None, float | None, str]]:
    told = [row for row in one.rows if row.foretold or row.happened]
    return {row.figure: (row.foretold, row.happened, row.verdict) for row in told}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_twins_foretell_each_other(pair) -> None:
    for one in both_ways(pair):
        assert figures(one) == TOLD[one.name, one.one]
        assert all(one.row(name).verdict == "exact" for name in BORDERS)
        assert all(row.verdict != "off" for row in one.rows)
        if one.arena is not None:
            assert tuple(one.arena) == PROOFS[one.one]
            assert one.arena.is_workloads


@pytest.mark.parametrize("pair", KEPT, ids=lambda pair: pair.name)
def test_a_twin_that_was_only_written_down(pair) -> None:
    one = recorded(pair)
    assert figures(one) == TOLD[one.name, one.one]
    assert {row.verdict for row in one.rows} == {"exact"}


def test_the_page_shows_them() -> None:
    found = [one for pair in PAIRS for one in both_ways(pair)]
    found += [recorded(pair) for pair in KEPT]
    assert summary(found) in DOCS.read_text(), "python -m tests.twins --summary prints the table"
    assert "278 failures (there: 278)" in as_markdown(found)


def test_a_difference_is_the_workloads_only_if_the_model_makes_none() -> None:
    proof = ArenaEvidence(6109, 6188, 2839, 2306, 2306, 6188, 278, 467, 278, 467)
    assert proof.is_workloads
    assert not proof._replace(own=6187).is_workloads
    assert not proof._replace(own_failures=277).is_workloads
    assert not proof._replace(own_purges=466).is_workloads
    assert not proof._replace(placed_alike=2305).is_workloads
    assert not proof._replace(requests=6188, alike=6188).is_workloads


def foretold(one: str, other: str) -> tuple[Outcome, Outcome]:
    """What a capture makes of the other's machine, and what that one did."""
    target = opened(other)[1]
    return both(one, target)[1], both(other, target)[0]


@pytest.mark.parametrize(("one", "other"), [POOL, POOL[::-1]])
def test_the_pool_of_the_twin(one: str, other: str) -> None:
    """One process, one CPU: the border of lowmem moves, every figure of the pool stays."""
    predicted, captured = foretold(one, other)
    assert predicted.layout.lowmem_end_pfn == captured.layout.lowmem_end_pfn
    for key in (
        "maps", "unmaps", "hits", "new_mappings", "passes", "flushes", "waits", "max_used",
        "max_stale", "scan_mean", "scan_max", "still_used",
    ):  # fmt: skip
        assert getattr(predicted.pool, key) == getattr(captured.pool, key), key
    assert (captured.pool.maps, captured.pool.flushes, captured.pool.max_used) == (14000, 4, 2)
    apart = {"holders": (), "purge_runs": None}  # purges without an effect are not foretold
    assert replace(predicted.arena, **apart) == replace(captured.arena, **apart)


def test_a_failure_where_there_was_none_is_said() -> None:
    """The script goes on differently after a failure: from there on other areas are asked for."""
    predicted, captured = foretold("i386-twin-vmap-vmalloc256", "i386-twin-vmap-vmalloc128")
    assert (predicted.arena.failures, captured.arena.failures) == (56, 60)
    assert predicted.arena.lazy_purges == 86
    assert any("find no room here" in caveat for caveat in predicted.caveats)
    assert predicted.arena.apart == 56
    assert sense_of("failures", 56, predicted.bound, predicted.arena.apart) == "about"
    assert sense_of("kmap", 56, predicted.bound, predicted.arena.apart) == predicted.bound == "most"
