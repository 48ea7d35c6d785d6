"""Captures of one workload on two machines: what is foretold of the other is what it did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.replay.test_whatif import both, opened

if TYPE_CHECKING:
    from replay.outcome import Outcome

POOL = ("i386-twin-vmalloc128", "i386-twin-vmalloc256")
ARENA = ("i386-twin-vmap-vmalloc128", "i386-twin-vmap-vmalloc256")
HOG = ("i386-hog-e-vmapfail-pae-smp1", "i386-510-hog-e-vmapfail-pae-smp1")


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


def test_failures_and_purges_of_the_arena_of_the_twin() -> None:
    """The script goes on differently after a failure: from there on other areas are asked for."""
    predicted, captured = foretold(*ARENA)
    assert (predicted.arena.failures, captured.arena.failures) == (0, 0)
    assert predicted.arena.lazy_purges == 3
    assert predicted.arena.size == captured.arena.size
    predicted, captured = foretold(*ARENA[::-1])
    assert (predicted.arena.failures, captured.arena.failures) == (56, 60)
    assert predicted.arena.lazy_purges == 86
    assert any("find no room here" in caveat for caveat in predicted.caveats)


@pytest.mark.parametrize(("one", "other"), [HOG, HOG[::-1]])
def test_the_arena_of_another_kernel(one: str, other: str) -> None:
    """6.1 and 5.10: the searches and the lazy lists differ, the failures do not."""
    predicted, captured = foretold(one, other)
    assert (predicted.arena.failures, captured.arena.failures) == (40, 40)
    assert abs(predicted.arena.allocs - captured.arena.allocs) == 3  # not the script's
