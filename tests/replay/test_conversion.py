"""kmap() as kmap_local_page(): by hand, beside a plain oracle, and beside a simulated kernel."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from collectors import open_capture
from collectors.errors import HmtraceError
from collectors.events import SCHEMA
from collectors.snapshot import Snapshot
from collectors.synthetic.engine import Nap
from collectors.synthetic.outputs.tracedat import TraceDatWriter
from collectors.synthetic.produce import Production
from collectors.synthetic.scenario import Scenario
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.options import with_options
from replay.whatif.calls import COLUMNS
from replay.whatif.run import Server, what_if
from replay.whatif.turns import knows_holders
from replay.whatif.workload import distil, sift_turns
from tests.collectors.synthetic_captures import board_of
from tests.replay.conversion_oracle import converted
from tests.replay.test_whatif import FIXTURES
from tests.replay.test_windows import same
from tests.replay.test_windows_random import I386, VALUES, table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

    from collectors.synthetic.board import Board
    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel
    from replay.outcome import Outcome
    from replay.whatif.convert import Conversion, ConvertedSite

ALL = ("kmap=kmap_local",)
LAYOUT = layout_of(I386)
HIGH = LAYOUT.lowmem_end_pfn + 16
ARM = Machine(arch="arm", nr_cpus=2, cpus=2, ram=((0x4000_0000, 0x8000_0000),))


def event(op: str, pid: int, page: int | None = None, **more: Any) -> dict[str, Any]:
    """A call of a task; its place in time comes from its place among the others."""
    frame = {} if page is None else {"page": 0xF600_0000 + 40 * page, "pfn": HIGH + page}
    if op == "kunmap_local":
        frame = {}
    return {"op": op, "pid": pid, "cpu": 0, **frame, **more}


def on_slot(layout: Any, cpu: int, depth: int) -> int:
    """Address of a local mapping."""
    return int(layout.kmap_fix_top + (depth + layout.km_max_idx * cpu) * layout.kmap_fix_step)


def events_of(calls: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Event table of calls that do not overlap, 1 µs each."""
    rows = []
    for number, call in enumerate(dict(call) for call in calls):
        at = {"seq": 2 * number, "ts": 2000 * number, "ctx": 0, "entry_traced": True}
        if call["op"] in ("kmap", "kmap_local", "kmap_get"):
            at |= {"end_seq": 2 * number + 1, "end_ts": 2000 * number + 1000}
            at |= {"end_cpu": call["cpu"]}
        site = {"site": f"{call.pop('by', 'driver')}+0x10"} if call["op"] == "kmap" else {}
        rows.append(at | site | call)
    return pl.DataFrame(rows, schema=SCHEMA)


def ask(
    events: pl.DataFrame, *asked: str, machine: Machine = I386, **options: Any
) -> tuple[Outcome, Conversion]:
    """Outcome and what the conversion means."""
    values = options.pop("values", Snapshot())
    server = Server(distil(events, machine, values=values, **options), machine, values=values)
    target = with_options(machine, convert=asked or ALL)
    calls = server.converted(target)
    assert calls is not None
    return server.on(target), calls.outcome


def only(found: Conversion) -> ConvertedSite:
    (site,) = found.sites
    return site


def test_newest_first_by_its_own_task_fits() -> None:
    calls = [event("kmap", 7, 1), event("kmap", 7, 2), event("kunmap", 7, 2), event("kunmap", 7, 1)]
    outcome, found = ask(events_of(calls))
    site = only(found)
    assert (site.calls, site.ended, site.max_depth, site.depths) == (2, 2, 2, (1, 1))
    assert (site.handed, site.misordered, site.switched, site.at_end, site.moved) == (0,) * 5
    assert (outcome.pool.maps, outcome.pool.unmaps, outcome.tlb.ipis) == (0, 0, 0)
    assert (outcome.local.maps, outcome.local.unmaps, outcome.local.max_depth) == (2, 2, 2)
    assert outcome.tlb.single == 2  # INVLPG at each unmap, none at a map (asm/highmem.h of x86)
    assert [(s.site, s.op, s.count) for s in outcome.sites] == [("driver+0x10", "kmap_local", 2)]


def test_another_task_unmaps() -> None:
    calls = [event("kmap", 7, 1), event("kmap", 7, 2), event("kunmap", 8, 1), event("kunmap", 7, 2)]
    _, found = ask(events_of(calls))
    site = only(found)
    assert (site.handed, site.misordered, site.ended) == (1, 0, 2)
    assert (site.firsts["handed"].ts, site.firsts["handed"].pid) == (1000, 7)


def test_a_kunmap_ends_the_mapping_of_its_own_task_before_those_of_others() -> None:
    calls = [event("kmap", 7, 1), event("kmap", 8, 1), event("kunmap", 7, 1), event("kunmap", 8, 1)]
    site = only(ask(events_of(calls))[1])
    assert (site.handed, site.misordered, site.at_end) == (0, 0, 0)


def test_the_oldest_first_is_not_the_newest_first() -> None:
    calls = [event("kmap", 7, n) for n in (1, 2, 3)] + [event("kunmap", 7, n) for n in (1, 2, 3)]
    site = only(ask(events_of(calls))[1])
    assert (site.misordered, site.max_depth) == (2, 3)


def test_local_mappings_below_and_above_count() -> None:
    """The task: a local mapping, kmap(), a local mapping on top; and the one below goes first."""
    low, top = on_slot(LAYOUT, 0, 0), on_slot(LAYOUT, 0, 1)
    calls = [
        event("kmap_local", 7, 5, vaddr=low),
        event("kmap", 7, 1),
        event("kmap_local", 7, 6, vaddr=top),
        event("kunmap_local", 7, vaddr=top),
        event("kunmap_local", 7, vaddr=low),
        event("kunmap", 7, 1),
    ]
    outcome, found = ask(events_of(calls))
    site = only(found)
    assert (site.depths, site.max_depth) == ((0, 1), 3)
    assert site.misordered == 1  # it lay on the local mapping that was unmapped before it
    assert (outcome.local.maps, outcome.local.max_depth) == (3, 3)
    assert outcome.local.depth_by_cpu == {0: (1, 1, 1)}


def test_an_interrupt_maps_on_top_of_the_task_that_it_stopped() -> None:
    at = on_slot(LAYOUT, 0, 0)
    calls = [
        event("kmap", 7, 1),
        event("kmap_local", 7, 6, vaddr=at, ctx=2),
        event("kunmap_local", 7, vaddr=at, ctx=2),
        event("kunmap", 7, 1),
    ]
    outcome, found = ask(events_of(calls))
    assert outcome.local.max_depth == 2
    assert only(found).misordered == 0


def test_switches_take_down_what_is_held() -> None:
    local = on_slot(LAYOUT, 0, 0)
    calls = [
        event("kmap", 7, 1),
        event("switch", 7, blocked=True),
        event("kmap_local", 7, 6, vaddr=local),
        event("switch", 7, blocked=False),
        event("kunmap_local", 7, vaddr=local),
        event("kunmap", 7, 1, cpu=1),
        event("switch", 7),
    ]
    outcome, found = ask(events_of(calls))
    site = only(found)
    assert (site.switched, site.switches, site.slept, site.moved) == (1, 2, 1, 1)
    assert (outcome.local.saved_on_switch, outcome.local.mappings_saved) == (2, 3)
    assert outcome.tlb.single == 2 + 3  # unmaps, and each that a switch takes down


def test_who_sleeps_for_a_slot_does_not_sleep_there() -> None:
    events = events_of(
        [
            event("kmap", 7, 1),
            event("kmap", 7, 2),
            event("switch", 7, blocked=True),
            event("kunmap", 7, 2),
            event("kunmap", 7, 1),
        ]
    )
    slept = pl.col("seq") == 2  # the second kmap() returns behind the switch
    events = events.with_columns(
        end_seq=pl.when(slept).then(pl.lit(5, pl.UInt64)).otherwise("end_seq"),
        end_ts=pl.when(slept).then(pl.lit(5000)).otherwise("end_ts"),
    )
    outcome, found = ask(events)
    assert (found.vanished, only(found).switches) == (1, 0)
    assert outcome.local.mappings_saved == 0


def test_switches_that_are_not_traced_are_bounds() -> None:
    calls = [
        event("kmap", 7, 1),
        event("kmap", 8, 2),
        event("kunmap", 8, 2),
        event("kunmap", 7, 1),
        event("kmap", 7, 1),
        event("kunmap", 7, 1, cpu=1),
        event("kmap", 9, 3),
        event("kunmap", 9, 3),
    ]
    outcome, found = ask(events_of(calls))
    site = only(found)
    assert (found.sees_switches, site.switches, site.away, site.moved) == (False, 0, 2, 1)
    assert outcome.local.mappings_saved == 2
    assert any("no context switches" in caveat for caveat in outcome.caveats)


def test_what_is_never_unmapped_and_what_has_no_room() -> None:
    calls = [event("kmap", 7, n) for n in range(17)]
    calls.append(event("kunmap", 8, 99))
    outcome, found = ask(events_of(calls))
    site = only(found)
    assert (site.at_end, site.max_depth, site.beyond(15), site.beyond(16)) == (17, 17, 2, 1)
    assert outcome.local.limit == 15
    assert any(type(f.figures).__name__ == "LocalDepth" for f in outcome.findings)
    assert any("would be wrong" in caveat for caveat in outcome.caveats)


def test_one_site_of_two() -> None:
    calls = [
        event("kmap", 7, 1, by="first_one"),
        event("kmap", 7, 2, by="second.isra.0"),
        event("kunmap", 7, 1),  # no local mapping lies on it: the other one stays in the pool
        event("kunmap", 7, 2),
        event("kunmap", 7, 9),  # of before the trace
    ]
    outcome, found = ask(events_of(calls), "kmap=kmap_local@first")
    assert (only(found).misordered, only(found).depths, found.strays) == (0, (1,), 1)
    assert (outcome.pool.maps, outcome.local.maps, found.total) == (1, 1, 2)
    outcome, found = ask(events_of(calls), "kmap=kmap_local@second+0x10")
    assert (only(found).site, outcome.pool.maps) == ("second.isra.0+0x10", 1)
    both = "kmap=kmap_local@first_one+0x10", "kmap=kmap_local@second"
    assert only_pool(events_of(calls), *both) == 0


def only_pool(events: pl.DataFrame, *asked: str) -> int:
    return ask(events, *asked)[0].pool.maps


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("kmap=kmap_local@frist_one", "did you mean first_one+0x10 or third_one+0x10?"),
        ("kmap=kmap_local@ONE", "did you mean first_one+0x10 or third_one+0x10?"),
        ("kmap=kmap_local@", "kmap=kmap_local for all call sites, kmap=kmap_local@SITE for one"),
        ("kmap=kmap_atomic", "kmap=kmap_local for all call sites, kmap=kmap_local@SITE for one"),
    ],
)
def test_a_site_that_is_none_is_refused(asked: str, hint: str) -> None:
    calls = [event("kmap", 7, 1, by="first_one"), event("kmap", 7, 2, by="third_one")]
    calls.append(event("kunmap", 7, 1))
    with pytest.raises(HmtraceError) as raised:
        ask(events_of(calls), asked)
    assert (raised.value.exit_code, raised.value.hint) == (2, hint)


def test_a_kernel_before_kmap_local_is_refused() -> None:
    events = events_of([event("kmap", 7, 1), event("kunmap", 7, 1)])
    old = with_options(I386, release="5.10")
    with pytest.raises(HmtraceError, match=r"5\.11"):
        ask(events, machine=old)
    outcome = what_if(events, old, with_options(old, release="6.1", convert=ALL))[1]
    assert (outcome.pool.maps, outcome.local.maps) == (0, 1)


def test_a_younger_kernel_s_build_does_not_make_an_older_one_modern() -> None:
    """Configurations since 5.11 say KMAP_LOCAL, of 5.10 only those with the RT patches."""
    captured, _ = machine_from(open_capture(FIXTURES / "i386-minix-pae-smp2").facts.snapshot())
    assert "KMAP_LOCAL" in captured.config
    old = with_options(captured, release="5.10")
    assert layout_of(old).kmap_per_cpu
    assert layout_of(old).km_usable_depth == 20
    with pytest.raises(HmtraceError, match=r"5\.11"):
        with_options(old, convert=ALL)
    realtime = replace(captured, config=captured.config | {"PREEMPT_RT"})
    assert not layout_of(with_options(realtime, release="5.10")).kmap_per_cpu


def test_a_trace_without_kunmap_is_refused() -> None:
    with pytest.raises(HmtraceError, match=r"no call of kunmap"):
        ask(events_of([event("kmap", 7, 1)]))


def test_a_mapping_of_the_pool_that_is_found_no_more_takes_a_slot() -> None:
    """kmap_high_get() finds what kmap() mapped; once that is local there is nothing to find."""
    layout = layout_of(ARM)
    high, inside = layout.lowmem_end_pfn + 3, layout.pkmap_base + 4096
    page = {"page": 0xEF00_0000, "pfn": high}
    reuse = {"op": "kmap_local", "pid": 7, "cpu": 0, "vaddr": inside} | page
    calls = [
        {"op": "kmap", "pid": 7, "cpu": 0, "vaddr": inside} | page,
        {"op": "kmap_get", "pid": 7, "cpu": 0, "vaddr": inside} | page,
        reuse,
        {"op": "kunmap_local", "pid": 7, "cpu": 0, "vaddr": inside},
        {"op": "kunmap", "pid": 7, "cpu": 0} | page,
        {"op": "kunmap", "pid": 7, "cpu": 0} | page,
    ]
    events = events_of(calls)
    here = what_if(events, ARM, ARM)[0]
    assert (here.local.reused, here.local.maps, here.pool.maps) == (1, 0, 1)
    outcome, found = ask(events, machine=ARM)
    assert (outcome.pool.maps, outcome.local.maps, outcome.local.reused) == (0, 2, 0)
    assert sorted((s.site, s.calls, s.depths) for s in found.sites) == [
        ("", 1, (0, 1)),
        ("driver+0x10", 1, (1,)),
    ]


def test_after_a_loss_nothing_is_known_to_be_held() -> None:
    class Gap:
        after_seq, cpu, start_ts, end_ts = 2, None, None, None

    class Lost:
        intervals, events, unknown = (Gap(),), 3, 0

    calls = [event("kmap", 7, 1), event("kmap", 7, 2), event("kmap", 7, 3), event("kunmap", 7, 3)]
    lost: Any = Lost()
    outcome, found = ask(events_of(calls), lost=lost)
    assert found.dropped == 1
    assert only(found).depths == (2, 1)
    assert any("when events were lost" in caveat for caveat in outcome.caveats)


def test_where_there_is_no_highmem_nothing_is_converted() -> None:
    calls = [event("kmap", 7, 1), event("switch", 7), event("kunmap", 7, 1)]
    none = with_options(I386, split="2g", convert=ALL)
    outcome = what_if(events_of(calls), I386, none)[1]
    local = outcome.local
    assert (local.maps, local.unmaps, local.mappings_saved, outcome.tlb.single) == (0, 0, 0, 0)
    assert local.lowmem == 0  # nor is kmap() of a lowmem page counted


@pytest.mark.parametrize(
    "name",
    ["i386-minix-pae-smp2", "i386-hog-a-waiters-pae-smp2", "arm-61-1g-minix", "mips32-61-minix"],
)
def test_real_captures_beside_the_oracle(name: str) -> None:
    capture = open_capture(FIXTURES / name)
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    events = capture.events.collect().sort("seq")
    server = Server(
        distil(capture.events, machine, values=values, lost=capture.lost), machine, values=values
    )
    mapping = [site.site for site in server.baseline.sites if site.op == "kmap"]
    for site in (None, mapping[-1]):
        asked = (f"kmap=kmap_local@{site}",) if site else ALL
        target = with_options(machine, convert=asked)
        calls = server.converted(target)
        assert calls is not None
        outcome, found = server.on(target), calls.outcome
        expected = converted(events, layout_of(machine), site)
        names = ("handed", "misordered", "switches", "moved", "at_end", "ended")
        figures = {n: sum(getattr(s, n) for s in found.sites) for n in names}
        figures["calls"] = sum(s.calls for s in found.sites if s.site)
        figures["depth"] = outcome.local.max_depth
        figures["strays"] = found.strays
        assert figures == {n: expected[n] for n in figures}
        assert outcome.pool.maps == server.baseline.pool.maps - expected["calls"]
        more = outcome.local.maps - server.baseline.local.maps
        assert more == expected["calls"] + server.baseline.local.reused - outcome.local.reused


@pytest.mark.parametrize("name", ["i386-hog-a-waiters-pae-smp2", "i386-lost-overrun-pae-smp2"])
def test_turns_that_are_sifted_later_are_the_same(name: str) -> None:
    capture = open_capture(FIXTURES / name)
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    how: dict[str, Any] = {"values": values, "lost": capture.lost, "rows": 3000}
    whole = distil(capture.events, machine, **how)
    without = distil(capture.events, machine, turns=False, **how)
    target = with_options(machine, convert=ALL)
    knows = knows_holders(whole.found)
    assert without.turns is None
    assert without.can_convert is not knows
    if knows:
        with pytest.raises(HmtraceError, match="kept without what a conversion needs"):
            Server(without, machine, values=values).on(target)
    later = sift_turns(capture.events, machine, without, **how)
    assert whole.windows > 1
    assert later.can_convert
    assert later.names() == whole.names()
    for part in sorted(whole.names() - {f"pool-{name}" for name in COLUMNS}):
        assert later.table(part).equals(whole.table(part)), part
    found = [Server(one, machine, values=values).converted(target) for one in (whole, later)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].outcome == found[1].outcome


def test_what_was_expected_of_the_minix_workload() -> None:
    capture = open_capture(FIXTURES / "i386-minix-pae-smp2")
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    target = with_options(machine, convert=["kmap=kmap_local@dir_get_page"])
    here, there = what_if(capture.events, machine, target, values=values)
    assert (here.pool.maps, here.pool.flushes, here.tlb.ipis) == (7905, 3, 12)
    assert (there.pool.maps, there.pool.flushes, there.tlb.ipis) == (0, 0, 9)
    assert there.local.maps == here.local.maps + 7905
    assert there.tlb.single - here.tlb.single == 7905 + there.local.mappings_saved


def random_calls(seed: int) -> list[dict[str, Any]]:
    """Tasks that map and unmap in any order, with local mappings and switches between."""
    rng = random.Random(seed)
    held: dict[int, list[int]] = {pid: [] for pid in (7, 8, 9)}
    local = dict.fromkeys(held, 0)
    cpu = {7: 0, 8: 1, 9: 2}
    calls = []
    for _ in range(400):
        pid = rng.choice(list(held))
        what = rng.randrange(10)
        if what < 3:
            page = rng.randrange(12)
            held[pid].append(page)
            by = rng.choice(["one", "two"])
            calls.append(event("kmap", pid, page, cpu=cpu[pid], by=by))
        elif what < 6 and held[pid]:
            whose = pid if rng.randrange(8) else rng.choice(list(held))
            if held[whose]:
                page = held[whose].pop(rng.randrange(len(held[whose])))
                calls.append(event("kunmap", pid, page, cpu=cpu[pid]))
        elif what == 6 and local[pid] < 10:
            at = on_slot(LAYOUT, cpu[pid], local[pid])
            local[pid] += 1
            calls.append(event("kmap_local", pid, 20 + local[pid], vaddr=at, cpu=cpu[pid]))
        elif what == 7 and local[pid]:
            local[pid] -= 1
            at = on_slot(LAYOUT, cpu[pid], local[pid])
            calls.append(event("kunmap_local", pid, vaddr=at, cpu=cpu[pid]))
        elif what > 7:
            calls.append(event("switch", pid, cpu=cpu[pid], blocked=what == 9))
            if not local[pid]:
                cpu[pid] = rng.randrange(4)
    return calls


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("site", [None, "one+0x10"])
def test_random_tasks_beside_the_oracle(seed: int, site: str | None) -> None:
    events = events_of(random_calls(seed))
    asked = ALL if site is None else (f"kmap=kmap_local@{site}",)
    outcome, found = ask(events, *asked, rows=(1 << 18, 37)[seed % 2])
    expected = converted(events, LAYOUT, site)
    names = ("calls", "ended", "handed", "misordered", "switches", "moved", "at_end")
    assert {n: sum(getattr(s, n) for s in found.sites) for n in names} == {
        n: expected[n] for n in names
    }
    assert (outcome.local.max_depth, found.strays) == (expected["depth"], expected["strays"])
    known = sum(expected[name] for name in ("switches", "local switches"))
    assert outcome.local.mappings_saved == known


@pytest.mark.parametrize("seed", range(4))
def test_nonsense_in_small_windows_and_one(seed: int) -> None:
    events = table(seed, 600)
    options: dict[str, Any] = {"values": VALUES if seed % 3 else Snapshot()}
    whole, whole_found = ask(events, **options)
    cut, cut_found = ask(events, rows=31, **options)
    assert cut_found == whole_found
    same(vars(cut.local), vars(whole.local))


PAGES, ROUNDS = 40, 60


def twin(folder: Path, board: Board, *, local: bool) -> dict[str, Any]:
    """A capture of two tasks on two CPUs that map with kmap(), or with kmap_local_page()."""

    def work(k: Kernel, task: Task, number: int, /) -> Generator[object, None, None]:
        rng, pages = random.Random(number), k.frames(PAGES)
        for _ in range(ROUNDS):
            chosen = rng.sample(pages, rng.randint(1, 4))
            addresses = []
            for page in chosen:
                call = k.kmap_local if local else k.kmap
                addresses.append((yield from call(task, page, "dir_get_page")))
                yield -rng.randint(200, 900)
                yield from k.touch(task, pages[0], "clear_huge_page", 100)
            if rng.randrange(4) == 0:
                yield Nap(rng.randint(1000, 9000))
            for page, address in zip(reversed(chosen), reversed(addresses), strict=True):
                if local:
                    yield from k.kunmap_local(task, address)
                else:
                    yield from k.kunmap(task, page)

    def setup(k: Kernel, _: Mapping[str, int]) -> None:
        for number in (1, 2):
            k.start(f"work-{number}", work, number)

    folder.mkdir()
    with (folder / "trace.dat").open("w+b") as out:
        production = Production(
            Scenario("twin", "", "", setup), board, TraceDatWriter(out, board), events=10**6
        )
        truth = production.run()
    for name, content in production.files.items():
        (folder / name).write_text(content)
    return truth


@pytest.mark.parametrize("arch", ["i386", "arm"])
def test_a_simulated_kernel_that_was_converted(tmp_path: Path, arch: str) -> None:
    """The same tasks in a kernel that calls kmap(), and in one whose site was converted."""
    board = board_of(arch, cpus=2)
    before = twin(tmp_path / "kmap", board, local=False)
    after = twin(tmp_path / "local", board, local=True)
    capture = open_capture(tmp_path / "kmap")
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    target = with_options(machine, convert=ALL)
    here, there = what_if(capture.events, machine, target, values=values)
    assert here.pool.maps == before["pool"]["calls"]
    local = there.local
    assert (there.pool.maps, after["pool"]["calls"]) == (0, 0)
    assert (local.maps, local.unmaps) == (after["local"]["maps"], after["local"]["unmaps"])
    assert (local.max_depth, local.reused) == (after["local"]["max_depth"], 0)
    assert local.saved_on_switch == after["local"]["saved_on_switch"]
    assert local.mappings_saved == after["local"]["mappings_saved"]
