"""What is called certain: open purges, snapshots that lack areas, and what can be known again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from collectors import open_capture
from collectors.facts import read_facts
from replay.arena.result import AMBIGUOUS, CERTAIN, INITIAL, WRONG, ArenaReplay
from replay.arena.state import LOST_END, lost_end
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from tests.replay import arena_simulator as sim
from tests.replay.test_arena_replay import P, _alloc, replayed, small
from tests.replay.whole_arena import replay_arena

CASES = Path(__file__).parents[2] / "fixtures" / "cases"
A = 0xF7800000
BELOW = sim.Area(0xF77FE000, A, "vmalloc", "")


def of_fixture(name: str, **values: Any) -> ArenaReplay:
    capture = open_capture(str(CASES / name))
    facts = replace(capture.facts.snapshot(), **values)
    machine, _ = machine_from(facts)
    return replay_arena(capture.events.collect(), machine, layout_of(machine), facts)


def test_a_purge_that_is_preempted_while_it_gives_back() -> None:
    r = of_fixture("i386-open-purge")
    assert (r.certain, r.ambiguous, r.ambiguous_right, r.wrong) == (17, 1, 1, 0)
    assert [c.partition(":")[0] for c in r.caveats] == ["1 left open"]
    assert vars(r.purges) == {"observed": 1, "predicted": 1, "matched": 1}


def test_allocations_that_find_no_room_behind_a_purge() -> None:
    r = of_fixture("i386-overflow-behind-purge")
    assert (r.certain, r.ambiguous, r.ambiguous_right, r.wrong) == (205, 5, 5, 0)
    assert r.contradictions == 0
    assert [c.partition(",")[0] for c in r.caveats] == [
        "4 left open: the trace has no address of an allocation (no return)",
        "1 left open: a purge or other calls were under way",
    ]
    assert vars(r.overflows) == {"observed": 2, "predicted": 2, "matched": 2}
    assert vars(r.purges) == {"observed": 2, "predicted": 2, "matched": 2}


def test_a_snapshot_without_its_end_makes_nothing_certain_before_a_purge() -> None:
    r = of_fixture("arm-vmallocinfo-end-lost")
    assert (r.certain, r.wrong) == (0, 0)
    assert r.ambiguous + r.initial == 15
    assert r.caveats[0] == LOST_END
    assert r.as_json()["caveats"][0] == LOST_END


def test_with_its_end_all_is_certain() -> None:
    text = (CASES / "arm-vmallocinfo-end-lost" / "vmallocinfo.whole").read_text()
    areas = read_facts({"vmallocinfo": text.encode()}).snapshot().areas
    r = of_fixture("arm-vmallocinfo-end-lost", areas=areas)
    assert (r.certain, r.ambiguous, r.wrong) == (15, 0, 0)
    assert r.caveats == ()


def test_which_snapshots_lack_their_end() -> None:
    """On SMP one whose last area in use is no percpu chunk; a UP kernel has none."""
    facts = open_capture(str(CASES / "arm-vmallocinfo-end-lost")).facts.snapshot()
    machine, _ = machine_from(facts)
    layout = layout_of(machine)
    assert lost_end(facts, machine, layout) == 0xFF000000  # ARM's PCI I/O space
    chunk = sim.Area(0xFF7DC000, layout.vmalloc_end, "vmalloc", "pcpu_get_vm_areas")
    assert lost_end(replace(facts, areas=(*facts.areas, chunk)), machine, layout) == 0
    alone = replace(machine, config=machine.config - {"SMP"}, cpus=1)
    assert lost_end(facts, alone, layout) == 0


def purge(seq: int, *areas: int, pid: int = 1, end: int | None = None) -> list[dict[str, Any]]:
    """A purge of pages `areas` behind A, which were freed before, and its flush."""
    frees: list[dict[str, Any]] = [
        {"seq": seq + n, "op": "area_free", "pid": 9, "vaddr": A + page * P,
         "end": A + (page + 1) * P}
        for n, page in enumerate(areas)
    ]  # fmt: skip
    at = seq + len(areas)
    row = {"op": "area_purge", "start": 0xFFFFFFFF, "end": 0, "pid": pid, "end_seq": end}
    hull = {"start": A + min(areas) * P, "end": A + (max(areas) + 1) * P}
    return [*frees, {"seq": at, **row},
            {"seq": at + 1, "op": "flush_range", "pid": pid, "parent": at, **hull}]  # fmt: skip


def pages(number: int) -> list[sim.Area]:
    return [sim.Area(A + n * P, A + (n + 1) * P, "vmalloc", "") for n in range(number)]


def switch(seq: int, pid: int, to: int, *, sleeps: bool = False) -> dict[str, Any]:
    return {"seq": seq, "op": "switch", "pid": pid, "next_pid": to, "blocked": sleeps}


OPEN = purge(0, 0, 2, 4)  # frees at 0 to 2, purge at 3, flush at 4: three holes of a page


def test_where_another_progress_of_the_purge_would_tell_is_ambiguous() -> None:
    """The first address shows that one area was back; how many by the second, nothing tells."""
    r = small(
        *OPEN, _alloc(6, 7, P, A), _alloc(8, 9, P, A + 6 * P), areas=(BELOW, *pages(6))
    )  # fmt: skip
    assert r.verdict.tolist() == [AMBIGUOUS, AMBIGUOUS]
    assert (r.predicted == r.seen).all()


def test_a_purge_stands_still_while_its_task_is_on_no_cpu() -> None:
    """As above, but the purger is away from 8 on: each of two addresses tells of the other."""
    rows = [
        *OPEN, _alloc(6, 7, P, A), switch(8, 1, 2), _alloc(10, 11, P, A + 6 * P),
        _alloc(12, 13, P, A + 7 * P),
    ]  # fmt: skip
    r = small(*rows, areas=(BELOW, *pages(6)))
    assert r.verdict.tolist() == [AMBIGUOUS, CERTAIN, CERTAIN]
    # Where it may have run in between, the last one is not certain.
    r = small(*rows[:-1], switch(12, 2, 1), _alloc(14, 15, P, A + 7 * P),
              areas=(BELOW, *pages(6)))  # fmt: skip
    assert r.verdict.tolist() == [AMBIGUOUS, CERTAIN, AMBIGUOUS]


@pytest.mark.parametrize(
    "event",
    [
        {"op": "vfree", "pid": 1, "vaddr": 0xC0000000},
        {"op": "switch", "pid": 1, "next_pid": 2, "blocked": True},
        {"op": "area_purge", "pid": 3, "start": 0xFFFFFFFF, "end": 0, "pages": 0, "end_seq": 8},
    ],
)
def test_what_shows_that_a_purge_is_over(event: dict[str, Any]) -> None:
    """An event of its own task, its sleep, another purge: all is back, and everything certain."""
    rows = [*OPEN, {"seq": 6, **event}, _alloc(10, 11, P, A), _alloc(12, 13, 2 * P, A + 6 * P)]
    r = small(*rows, areas=(BELOW, *pages(6)))
    assert r.verdict.tolist() == [CERTAIN, CERTAIN]


def test_a_later_address_tells_that_nothing_was_back_before() -> None:
    """Both get what lies above: at the second, and so at the first, nothing was back."""
    rows = [*OPEN, _alloc(6, 7, 3 * P, A + 6 * P), _alloc(8, 9, P, A + 9 * P)]
    r = small(*rows, areas=(BELOW, *pages(6)))
    assert r.verdict.tolist() == [CERTAIN, AMBIGUOUS]  # of three pages there is no other place
    rows = [*OPEN, _alloc(6, 7, P, A + 6 * P), _alloc(8, 9, P, A + 7 * P)]
    r = small(*rows, areas=(BELOW, *pages(6)))
    assert r.verdict.tolist() == [CERTAIN, AMBIGUOUS]


def test_an_area_that_the_snapshot_lacks() -> None:
    """The kernel passes over a place: from there on only what the trace gave back is certain."""
    rows = [
        _alloc(0, 1, P, A + 4 * P),  # nothing is known to be at A
        _alloc(2, 3, P, A + 5 * P),
        {"seq": 4, "op": "area_free", "pid": 2, "vaddr": A + 4 * P, "end": A + 5 * P},
        {"seq": 5, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 7},
        {"seq": 6, "op": "flush_range", "pid": 1, "start": A + 4 * P, "end": A + 5 * P,
         "parent": 5},
        _alloc(10, 11, P, A + 4 * P),  # what lies below may be free, may be not
        {"seq": 12, "op": "area_free", "pid": 2, "vaddr": A + 4 * P, "end": A + 5 * P},
        {"seq": 13, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 15},
        {"seq": 14, "op": "flush_range", "pid": 1, "start": A + 4 * P, "end": A + 5 * P,
         "parent": 13},
        _alloc(16, 17, P, A + 4 * P),  # no page below is: the last one passed over all of them
        _alloc(18, 19, P, A + 6 * P),
    ]  # fmt: skip
    r = small(*rows)
    assert r.verdict.tolist() == [INITIAL, AMBIGUOUS, AMBIGUOUS, CERTAIN, AMBIGUOUS]
    assert "lacks areas" in r.caveats[0]


def test_after_a_contradiction_in_what_was_known_nothing_is_certain() -> None:
    """The page at A was given back before everybody's eyes, and the kernel passes over it."""
    rows = [
        {"seq": 0, "op": "area_free", "pid": 2, "vaddr": A, "end": A + P},
        {"seq": 1, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 3},
        {"seq": 2, "op": "flush_range", "pid": 1, "start": A, "end": A + P, "parent": 1},
        _alloc(4, 5, P, A + 2 * P),
        _alloc(6, 7, P, A),
        _alloc(8, 9, P, A + 3 * P),
    ]
    r = small(*rows, areas=(BELOW, *pages(2)))
    assert r.verdict.tolist() == [WRONG, AMBIGUOUS, AMBIGUOUS]
    assert [c.partition(",")[0] for c in r.caveats] == [
        "2 left open: an address contradicts what was known to be free"
    ]


def test_a_free_that_a_purge_may_have_missed() -> None:
    """The page at A was being freed when the purge took the list; the hull tells nothing of it."""
    busy = pages(6)
    rows = [
        {"seq": 0, "op": "area_free", "pid": 9, "vaddr": A - P, "end": A},
        {"seq": 1, "op": "area_free", "pid": 9, "vaddr": A + 4 * P, "end": A + 5 * P},
        {"seq": 2, "op": "vfree", "pid": 8, "vaddr": A + P, "end_seq": 7},
        {"seq": 3, "op": "area_free", "pid": 8, "vaddr": A + P, "end": A + 2 * P, "parent": 2},
        {"seq": 4, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 6},
        {"seq": 5, "op": "flush_range", "pid": 1, "start": A - P, "end": A + 5 * P, "parent": 4},
        _alloc(8, 9, P, A - P),
        _alloc(10, 11, P, A + P),
        _alloc(12, 13, P, A + 4 * P),
    ]
    below = (sim.Area(0xF77FE000, A - P, "vmalloc", ""), sim.Area(A - P, A, "vmalloc", ""))
    r = small(*rows, areas=(*below, *busy))
    assert r.verdict.tolist() == [CERTAIN, AMBIGUOUS, CERTAIN]


@pytest.mark.parametrize("generation", ["5.10", "6.1", "6.12"])
@pytest.mark.parametrize("seed", range(1, 4))
def test_purges_without_returns_in_races(generation: str, seed: int) -> None:
    """Whatever the simulated kernel did is explained, and what is certain is right."""
    events, areas = sim.simulate(seed, 800, 4, generation, (1,), 0.3)
    is_purge = pl.col("op") == "area_purge"
    blind = events.with_columns(
        pl.when(~is_purge).then("end_seq").alias("end_seq"),
        pl.when(~is_purge).then("pages").alias("pages"),
    )
    r = replayed(blind, areas, generation=generation)
    assert r.wrong == 0
    assert (r.predicted == r.seen).all()
    assert 0.88 < r.certain / r.row.size < 1


@pytest.mark.parametrize("seed", range(6))
def test_snapshots_that_lack_an_area_make_nothing_certain_that_is_wrong(seed: int) -> None:
    """One area in use is taken out of the list: the model learns of it, and is careful."""
    events, areas = sim.simulate(seed, 500, 1, "6.1", (1,))
    freed = set(events.filter(pl.col("op") == "area_free")["vaddr"].to_list())
    hidden = next(a for a in areas if a.kind == "vmalloc" and a.start not in freed)
    r = replayed(events, tuple(a for a in areas if a is not hidden))
    assert r.wrong == 0
    assert r.certain + r.ambiguous + r.initial == r.row.size


def test_what_is_certain_does_not_rest_on_the_answer_itself() -> None:
    """An address is forged: where the true one was certain, the forged one is no better."""
    events, areas = sim.simulate(7, 300, 1, "6.1", (1,))
    rows = np.flatnonzero((events["op"] == "area_alloc").to_numpy())
    whole = replayed(events, areas)
    freed = set(events.filter(pl.col("op") == "area_free")["vaddr"].to_list())
    kept = [n for n, at in enumerate(whole.seen.tolist()) if at not in freed]
    for number in kept[:: len(kept) // 3]:
        here = pl.int_range(pl.len()) == int(rows[number])
        top = pl.lit(0xFEF00000, pl.UInt64)
        forged = events.with_columns(vaddr=pl.when(here).then(top).otherwise("vaddr"))
        r = replayed(forged, areas)
        assert r.predicted[number] == whole.seen[number]
        assert (r.verdict[:number] == CERTAIN).all()
        assert r.verdict[number] in (WRONG, INITIAL)
        assert r.wrong <= 1


def test_an_area_that_the_snapshot_lacks_while_a_free_may_have_been_missed() -> None:
    """Whatever the purge found of the page at A + P, there is no place for three pages below."""
    rows = [
        {"seq": 0, "op": "area_free", "pid": 9, "vaddr": A, "end": A + P},
        {"seq": 1, "op": "area_free", "pid": 9, "vaddr": A + 4 * P, "end": A + 5 * P},
        {"seq": 2, "op": "vfree", "pid": 8, "vaddr": A + P, "end_seq": 7},
        {"seq": 3, "op": "area_free", "pid": 8, "vaddr": A + P, "end": A + 2 * P, "parent": 2},
        {"seq": 4, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 6},
        {"seq": 5, "op": "flush_range", "pid": 1, "start": A, "end": A + 5 * P, "parent": 4},
        _alloc(14, 15, 3 * P, A + 10 * P),
        _alloc(16, 17, P, A),
    ]
    r = small(*rows, areas=(BELOW, *pages(6)))
    assert r.predicted[0] == A + 6 * P
    assert r.verdict.tolist() == [INITIAL, AMBIGUOUS]


def test_what_a_request_passes_over_in_5_10_may_serve_one_without_an_alignment() -> None:
    """The search asks for more than two pages where they are to be aligned, so it skips A."""
    used = [(A + 2 * P, A + 3 * P), (A + 3 * P, A + 9 * P), (A + 9 * P, A + 10 * P)]
    rows = [
        {"seq": 0, "op": "area_free", "pid": 2, "vaddr": A + 3 * P, "end": A + 9 * P},
        {"seq": 1, "op": "area_purge", "pid": 1, "start": 0xFFFFFFFF, "end": 0, "end_seq": 3},
        {"seq": 2, "op": "flush_range", "pid": 1, "start": A + 3 * P, "end": A + 9 * P,
         "parent": 1},
        _alloc(4, 5, 7 * P, A + 20 * P),  # the snapshot lacks something
        _alloc(6, 7, 2 * P, A + 3 * P, align=P),
        _alloc(8, 9, 2 * P, A),
    ]  # fmt: skip
    events = sim.table([{"ts": 0, "cpu": 0, "ctx": 0, **row} for row in rows])
    areas = (BELOW, *(sim.Area(start, end, "vmalloc", "") for start, end in used))
    r = replayed(events, areas, generation="5.10")
    assert r.verdict.tolist() == [INITIAL, AMBIGUOUS, AMBIGUOUS]
