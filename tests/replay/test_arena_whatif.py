"""The arena's workload in another arena: twin captures tell what must come out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from collectors import open_capture
from collectors.snapshot import Snapshot
from replay.arena.calls import arena_calls
from replay.arena.pieces import ROWS
from replay.arena.state import ArenaState
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.whatif.arena import ArenaForecast, ArenaPlaces, _moved, forecast
from tests.replay import arena_simulator as sim
from tests.replay.whole import arena_figures
from tests.replay.whole_arena import pieces_of, replay_arena

if TYPE_CHECKING:
    from replay.machine.layout import Layout

FIXTURES = Path(__file__).parents[2] / "fixtures"
POOL_SMALL, POOL_LARGE = "i386-twin-vmalloc128", "i386-twin-vmalloc256"
SMALL, LARGE = "i386-twin-vmap-vmalloc128", "i386-twin-vmap-vmalloc256"


class Captured(NamedTuple):
    events: pl.DataFrame
    machine: Machine
    layout: Layout
    values: Snapshot

    def requests(self) -> tuple[np.ndarray, np.ndarray]:
        """Size and alignment of every request, and what it got, in lock order."""
        allocs = arena_calls(self.events, self.layout, self.values).allocs.sort("at")
        return allocs.select("size", "align").to_numpy(), allocs["seen"].to_numpy()


@cache
def captured(name: str) -> Captured:
    capture = open_capture(FIXTURES / name)
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    return Captured(capture.events.collect().sort("seq"), machine, layout_of(machine), values)


class Foretold:
    """The figures, each by its name, and where each allocation lies."""

    def __init__(self, found: ArenaForecast, placed: list[ArenaPlaces]) -> None:
        self.found = found
        every = (np.concatenate(column) for column in zip(*placed, strict=True))
        _, self.address, self.ambiguous = every

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found, name)


def foretold(here: Captured, there: Captured, rows: int = ROWS) -> Foretold:
    placed: list[ArenaPlaces] = []
    found = forecast(
        pieces_of(here.events, here.machine, here.layout, here.values, rows),
        here.machine, here.layout, there.machine, there.layout, here.values, placed.append,
    )  # fmt: skip
    assert found is not None
    return Foretold(found, placed)


def predicted(name: str, other: str) -> Foretold:
    return foretold(captured(name), captured(other))


@pytest.mark.parametrize(
    ("name", "purges", "failures"),
    [
        ("i386-hog-e-vmapfail-pae-smp1", {"asked": 3, "limit": 3, "full": 26}, 40),
        ("i386-510-hog-e-vmapfail-pae-smp1", {"asked": 6, "limit": 3, "full": 25}, 40),
    ],
)
def test_the_model_alone_does_what_the_kernel_did(
    name: str, purges: dict[str, int], failures: int
) -> None:
    """In the arena of the capture itself: every address, failure and purge, none observed."""
    found = predicted(name, name)
    _, seen = captured(name).requests()
    assert found.address.tolist() == seen.tolist()
    assert (found.failures, found.causes) == (failures, purges)
    assert (found.borrowed, found.lost_frees, found.unplaced) == (0, 0, 0)


@pytest.mark.parametrize("rows", [30, 170])
@pytest.mark.parametrize(
    ("name", "other"), [("i386-510-hog-e-vmapfail-pae-smp1", SMALL), (LARGE, SMALL), (SMALL, LARGE)]
)
def test_pieces_of_any_length_come_to_the_same(name: str, other: str, rows: int) -> None:
    here, there = captured(name), captured(other)
    events = here.events.filter(pl.col("op").is_in(("switch", "kmap_local", "kunmap_local")).not_())
    here = here._replace(events=events[: 1500 if rows > 30 else 400])
    whole, found = foretold(here, there), foretold(here, there, rows)
    assert found.found == whole.found
    assert found.address.tolist() == whole.address.tolist()
    assert found.ambiguous.tolist() == whole.ambiguous.tolist()


@pytest.mark.parametrize("kib", [8, 16, 64])
def test_pages_of_other_sizes(kib: int) -> None:
    """A simulated machine: an alignment of one of its pages costs nothing."""
    page = kib << 10
    events, areas = sim.simulate(5, 400, 1, "6.1", (1, page), 0.0, page)
    arch, split = ("arc", "2g") if kib == 8 else ("mips32", "2g")
    machine = Machine(arch, split, generation="6.1", page_size=page, nr_cpus=4,
                      ram=((0x8000_0000, 0xC000_0000) if kib == 8 else (0, 1 << 30),))  # fmt: skip
    layout = layout_of(machine)
    here = Captured(events, machine, layout, Snapshot(areas=areas))
    found = foretold(here, here)
    seen = events.filter(pl.col("op") == "area_alloc").get_column("vaddr")
    assert found.address.tolist() == seen.to_list()
    assert (found.shapes, found.failures) == (1, 0)
    assert found.purges.total() == events.filter(pl.col("op") == "flush_range").height > 2


def test_two_cpus_in_the_order_in_which_they_were_served() -> None:
    """Overlapping calls and large alignments: the replay's order, the capture's own tree."""
    name = "i386-arena-pae-m2048-smp2"
    here = captured(name)
    seen = arena_calls(here.events, here.layout, here.values).allocs["seen"].to_list()
    assert len(seen) == 506
    assert predicted(name, name).address.tolist() == seen


@pytest.mark.parametrize(("name", "other", "exact"), [(LARGE, SMALL, 2839), (SMALL, LARGE, 2611)])
def test_one_twin_predicts_the_other(name: str, other: str, exact: int) -> None:
    """Every address until the requests differ.

    In the large arena a worker purges, a little later than where it was captured: what was asked
    for in between lies elsewhere.
    """
    found = predicted(name, other)
    mine, _ = captured(name).requests()
    theirs, seen = captured(other).requests()
    same = 2839  # the requests of both, until the first failure has made the script another one
    assert (mine[:same] == theirs[:same]).all()
    right = found.address[:same] == seen[:same]
    assert right[:exact].all()


def test_failures_and_purges_of_the_twin() -> None:
    there = captured(SMALL)
    observed = replay_arena(there.events, there.machine, there.layout, there.values)
    found = predicted(LARGE, SMALL)
    assert observed.failures.observed == 60
    assert found.failures == 56
    assert observed.purges.observed == 88
    assert found.purges.total() == 86
    back = predicted(SMALL, LARGE)
    there = captured(LARGE)
    observed = replay_arena(there.events, there.machine, there.layout, there.values)
    assert back.failures == observed.failures.observed == 0
    assert back.purges.total() == observed.purges.observed == 3
    assert back.borrowed == 60


def test_what_the_shape_of_the_tree_decides_is_called_ambiguous() -> None:
    """5.10 adds the alignment to each length, so that every answer rests on the shape."""
    name = "i386-510-hog-e-vmapfail-pae-smp1"
    found = predicted(name, name)
    _, seen = captured(name).requests()
    assert (found.shapes, int(found.ambiguous.sum())) == (13, 21)
    assert (found.address == seen)[~found.ambiguous].all()
    assert (found.failures_between, found.purges_between) == ((40, 40), (34, 34))
    known = predicted("i386-hog-e-vmapfail-pae-smp1", "i386-hog-e-vmapfail-pae-smp1")
    assert (known.shapes, int(known.ambiguous.sum())) == (1, 0)  # alignments of a page: no matter


def test_an_arena_without_calls_has_its_holes() -> None:
    """Without allocations the largest hole is the other arena's own."""
    here, there = captured(POOL_SMALL), captured(POOL_LARGE)
    found = predicted(POOL_SMALL, POOL_LARGE)
    mine = arena_figures(here.events, here.layout, here.values)
    theirs = arena_figures(there.events, there.layout, there.values)
    assert found.largest_hole_min == theirs.largest_hole_min
    assert found.largest_hole_min == (mine.largest_hole_min or 0) + (128 << 20)
    assert found.peak_used == theirs.peak_used


def test_what_waits_for_a_purge_at_the_start_takes_room_there_too() -> None:
    """36 areas are unpurged when this trace begins, and no purge comes."""
    here = captured("arm-61-1g-minix")
    target = replace(here.machine, vmalloc=384 << 20)
    pieces = pieces_of(here.events, here.machine, here.layout, here.values)
    found = forecast(pieces, here.machine, here.layout, target, layout_of(target), here.values)
    mine = arena_figures(here.events, here.layout, here.values)
    assert found is not None
    assert (found.peak_used, found.peak_live) == (mine.peak_used, mine.peak_live)
    assert found.peak_used >= found.peak_live + 36 * 12288


def test_areas_of_the_start_move_with_the_ends_of_the_arena() -> None:
    """From the bottom up those of boot, from the top down percpu chunks, ARM's own not at all."""
    small, large = captured(SMALL).layout, captured(LARGE).layout
    low, high = small.vmalloc_start, small.vmalloc_end
    busy = np.array([
        [low, low + 0x2000], [high - 0x42000, high], [low + 0x4000, low + 0x6000], [0x1000, 0x2000],
    ])  # fmt: skip
    none = np.zeros((0, 2), np.int64)
    state = ArenaState(busy, none, none, None, True, np.zeros(0, np.int64), 0, 0, 0, "")  # noqa: FBT003
    callers = {high - 0x42000: "pcpu_get_vm_areas", low + 0x4000: "pci_reserve_io"}
    moved = _moved(state, callers, small, large)
    shift = large.vmalloc_start - low
    assert shift == -(128 << 20)
    assert moved[:, 0].tolist() == [low + shift, high - 0x42000, low + 0x4000, 0x1000]


def test_nothing_is_foretold_of_an_unknown_arena() -> None:
    here, there = captured(LARGE), captured(SMALL)
    values = replace(here.values, areas=())
    pieces = pieces_of(here.events, here.machine, here.layout, values)
    args = here.machine, here.layout, there.machine, there.layout
    assert forecast(pieces, *args, values) is None
