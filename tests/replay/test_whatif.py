"""What-if replays of real captures: the same machine gives the same, others what must follow."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from collectors import open_capture
from collectors.errors import HmtraceError
from hmtrace.cli.machines import default_machine, target_machine
from hmtrace.report.document import outcome_document
from hmtrace.report.findings import in_words
from replay.machine.model import Told
from replay.machine.options import has_highpte, with_options
from replay.machine.presets import presets
from replay.machine.zones import HIGHMEM
from replay.trace import spool as spooled_rows
from replay.trace.windows import WINDOW_ROWS
from replay.whatif import pool as whatif_pool
from replay.whatif.page_tables import WALKERS
from replay.whatif.run import Server, what_if
from replay.whatif.workload import distil
from tests.expected import REPORTS
from tests.opened import opened
from tests.replay.test_windows import same

if TYPE_CHECKING:
    import polars as pl

    from replay.machine.model import Machine
    from replay.outcome import Outcome

FIXTURES = Path(__file__).parents[2] / "fixtures"
HOG = "i386-hog-a-waiters-pae-smp2"
MINIX = "i386-minix-pae-smp2"
ARM = "arm-61-1g-minix"
OLD = "i386-510-twin-vmalloc128"
MIPS = "mips32-61-minix"
ARENA = "i386-arena-pae-m2048-smp2"


def server_of(name: str, *, rows: int = WINDOW_ROWS, turns: bool = False) -> Server:
    """The workload of a capture, to be served on other machines."""
    capture, machine = opened(name)
    known: dict[str, Any] = {"values": capture.facts.snapshot(), "lost": capture.lost}
    return Server(
        distil(capture.events, machine, rows=rows, turns=turns, **known), machine, **known
    )


@cache
def served(name: str, *, turns: bool) -> Server:
    """The same, once for all questions: most of the time goes into the order of the calls."""
    return server_of(name, turns=turns)


def both(name: str, target: Machine, **options: Any) -> tuple[Outcome, Outcome]:
    """Outcomes on the captured machine and on another one."""
    server = served(name, turns=bool(target.converted))
    return server.baseline, server.on(target, **options)


@cache
def captured(name: str) -> Outcome:
    return both(name, opened(name)[1])[0]


def replayed(name: str, *, placement: str = "class", timing: str = "closed", **to: Any) -> Outcome:
    target = with_options(opened(name)[1], **to)
    return both(name, target, placement=placement, timing=timing)[1]


ASKED: Final[tuple[tuple[dict[str, Any], dict[str, Any]], ...]] = (
    ({"split": "2g"}, {}),
    ({"pkmap": 64, "cpus": 3, "vmalloc": 256 << 20}, {}),
    ({"vmalloc": 512 << 20}, {"placement": "same-pfn", "timing": "fixed"}),
)
"""Other machines, and how they are asked for."""


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_small_windows_give_the_figures_of_the_whole_trace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = opened(name)[1]
    questions = []
    for to, options in ASKED:
        try:
            target = with_options(machine, **to)
        except HmtraceError:  # a split, or a pool, that this architecture has not
            target = machine
        questions.append((target, options, both(name, target, **options)))
    monkeypatch.setattr(spooled_rows, "IN_MEMORY", 1 << 12)  # nearly all of it on disk
    monkeypatch.setattr(whatif_pool, "AT_ONCE", 1000)
    small = server_of(name, rows=2_000)
    same(outcome_document(small.baseline), outcome_document(captured(name)))
    for target, options, (_, there) in questions:
        same(outcome_document(small.on(target, **options)), outcome_document(there))


@pytest.mark.parametrize(("to", "options"), ASKED)
def test_one_question_gets_the_answer_of_one_of_many(
    to: dict[str, Any], options: dict[str, Any]
) -> None:
    """What earlier questions leave in a server changes no answer."""
    capture, machine = opened(HOG)
    target, values = with_options(machine, **to), capture.facts.snapshot()
    alone = what_if(capture.events, machine, target, values=values, lost=capture.lost, **options)
    many = both(HOG, target, **options)
    assert [outcome_document(one) for one in alone] == [outcome_document(one) for one in many]


@pytest.mark.parametrize("name", [HOG, MINIX, ARM, OLD])
@pytest.mark.parametrize("placement", ["class", "same-pfn"])
def test_the_same_machine_gives_the_same(name: str, placement: str) -> None:
    """From the state of the snapshot: in 5.10 exec had used slots before the trace."""
    before = captured(name)
    after = replayed(name, placement=placement)
    for key in (
        "maps", "hits", "new_mappings", "passes", "wraps", "flushes", "waits", "max_used",
        "scan_mean", "scan_max", "still_used",
    ):  # fmt: skip
        assert getattr(after.pool, key) == getattr(before.pool, key), key
    named = {"longest_hold_ns": None, "longest_hold": None, "deepest": None, "first_switch": None}
    assert after.local == replace(before.local, **named)
    assert after.cost.total_ns == pytest.approx(before.cost.total_ns, rel=1e-9)
    assert after.tlb == replace(before.tlb, largest=None)


@pytest.mark.parametrize("name", [HOG, MINIX, ARM])
def test_without_highmem_nothing_is_mapped(name: str) -> None:
    after = replayed(name, split="2g")
    assert after.pool.maps == after.pool.waits == after.pool.flushes == 0
    assert after.local.maps == after.local.tlb_single == 0
    before = captured(name)
    assert after.local.lowmem == before.local.maps + before.local.lowmem
    assert after.cost.total_ns < before.cost.total_ns


@pytest.mark.parametrize(
    ("asked", "placement", "bound"),
    [
        ({"vmalloc": 256 << 20}, "class", "least"),
        ({"vmalloc": 256 << 20}, "same-pfn", "least"),
        ({"vmalloc": 64 << 20}, "class", "most"),
        ({"vmalloc": 64 << 20}, "same-pfn", None),
        ({"split": "2g"}, "class", None),
        ({"ram": 512 << 20}, "class", None),
        ({"ram": 960 << 20}, "class", "most"),
        ({"ram": 960 << 20}, "same-pfn", None),
        ({"ram": 2048 << 20}, "class", None),
        ({"highmem_size": 64 << 20}, "class", "most"),
        ({"ram": 960 << 20, "vmalloc": 130 << 20}, "class", "about"),
        ({"ram": 960 << 20, "vmalloc": 130 << 20}, "same-pfn", "least"),
        ({"cpus": 1}, "class", None),
    ],
)
def test_figures_are_bounds_where_the_trace_lacks_pages(
    asked: dict[str, Any], placement: str, bound: str | None
) -> None:
    """Nothing is highmem under 2g and with 512 MiB: 0 is 0 there, though lowmem is smaller.

    Highmem was not full when the capture began, so more of it changes nothing.
    """
    after = replayed(MINIX, placement=placement, **asked)
    assert after.bound == bound
    assert any(c.startswith("lower bound") for c in after.caveats) is (bound == "least")
    assert any(c.startswith("upper bound") for c in after.caveats) is (bound == "most")
    assert any(c.startswith("no bounds") for c in after.caveats) is (bound == "about")


def test_more_highmem_than_one_that_was_full_is_a_lower_bound() -> None:
    capture, machine = opened(MINIX)
    values = capture.facts.snapshot()
    zones = [z._replace(free=z.marks[1]) if z.name == HIGHMEM else z for z in values.zones]
    target = with_options(machine, ram=2 << 30)
    for full in (replace(values, zones=tuple(zones)), replace(values, zones_end=tuple(zones))):
        after = what_if(capture.events, machine, target, values=full)[1]
        assert after.bound == "least"
        assert any("highmem was full" in caveat for caveat in after.caveats)


def test_a_larger_pool_spares_the_sleepers() -> None:
    before = captured(HOG)
    assert before.pool.waits == 36
    after = replayed(HOG, pkmap=1024)
    assert after.pool.waits == 0
    assert after.pool.maps == before.pool.maps
    assert after.pool.wraps == 0


def test_a_smaller_pool_wraps_more() -> None:
    flushes = [replayed(MINIX, pkmap=slots).pool.flushes for slots in (64, 128, 256, 512)]
    assert flushes == sorted(flushes, reverse=True)
    assert flushes[0] > flushes[-1]
    hits = [replayed(MINIX, pkmap=slots).pool.hits for slots in (64, 128, 256, 512)]
    assert hits == sorted(hits)


def test_a_pool_too_small_for_one_task_deadlocks_and_says_so() -> None:
    after = replayed(HOG, pkmap=64)
    assert any("sleep for ever" in caveat for caveat in after.caveats)
    fixed = replayed(HOG, pkmap=64, timing="fixed")
    assert fixed.pool.waits > after.pool.waits  # dropped calls, every one counted


def test_more_cpus_cost_more_per_flush() -> None:
    before = captured(MINIX)
    after = replayed(MINIX, cpus=8)
    assert after.pool.flushes == before.pool.flushes
    assert after.tlb.ipis > before.tlb.ipis
    assert after.cost.total_ns > before.cost.total_ns


def test_less_lowmem_is_a_lower_bound() -> None:
    after = replayed(HOG, vmalloc=512 << 20)
    assert any(caveat.startswith("lower bound") for caveat in after.caveats)


def test_same_pfn_moves_pages_over_the_border() -> None:
    """With vmalloc=512M the border sinks: lowmem pages of the capture become highmem."""
    after = replayed(HOG, vmalloc=512 << 20, placement="same-pfn")
    before = captured(HOG)
    assert after.local.maps > before.local.maps
    assert after.local.maps + after.local.lowmem == before.local.maps + before.local.lowmem


def test_highmem_that_is_full_spills_into_lowmem() -> None:
    """With 882 MiB there are 2 MiB of highmem, less the low watermark: the first pages get it."""
    before = captured(MINIX)
    maps = []
    for mib in (882, 884, 888):
        after = replayed(MINIX, ram=mib << 20)
        maps.append(after.local.maps)
        assert after.layout.highmem_bytes < (mib - 879) << 20
        (spilled,) = (caveat for caveat in after.caveats if "find no room in highmem" in caveat)
        assert "4219 pages of highmem were in use already" in spilled  # zoneinfo: managed - free
    assert 0 < maps[0] < maps[1] < maps[2] < before.local.maps
    roomy = replayed(MINIX, ram=892 << 20)
    assert roomy.local.maps == before.local.maps
    assert not any("find no room" in caveat for caveat in roomy.caveats)


@pytest.mark.parametrize("name", [preset.name for preset in presets()])
def test_a_pc_workload_on_every_preset(name: str) -> None:
    before = captured(MINIX)
    _, after = both(MINIX, target_machine(opened(MINIX)[1], Path(name)))
    assert after.layout.highmem_bytes > 0
    assert after.pool.maps == before.pool.maps  # all have room for the few pages of this trace
    # page tables are mapped by kernels with HIGHPTE alone
    tables = 0 if has_highpte(after.machine) else 6345
    assert after.local.maps == before.local.maps - tables
    assert (after.tlb.full > 0) == (after.layout.flush_ceiling_pages is not None)
    words = [caveat for caveat in after.caveats if caveat.startswith("pages of")]
    assert bool(words) == (after.layout.page_size != 4096)


def test_less_ram_than_the_workload_touched_is_said() -> None:
    behind = replayed(MINIX, ram=960 << 20, placement="same-pfn")
    assert any("2111 of the traced frames lie behind the end" in told for told in behind.caveats)
    values = opened(MINIX)[0].facts.snapshot()
    used = sum(zone.managed - zone.free for zone in values.zones if zone.free) >> 8
    assert 16 < used < 128
    small = replayed(MINIX, ram=(used - 4) << 20)
    words = (
        f"{used} MiB were in use when the capture began, and this machine has {used - 4 - 1} MiB"
    )
    assert any(words in told for told in small.caveats)
    assert not any("in use when the capture began" in told for told in captured(MINIX).caveats)


def test_what_the_kernel_would_say_of_the_other_machine_is_said() -> None:
    assert any("clamped to 976M" in told for told in replayed(ARM, vmalloc=1 << 30).caveats)


def test_forced_mappings_map_lowmem_too() -> None:
    before = captured(MINIX)
    _, after = both(MINIX, default_machine("x86_64", None))
    assert after.pool.maps == 0
    # without HIGHPTE a look into a page table maps nothing, and so is not forced
    sites = [s for s in before.sites if s.op == "kmap_local"]
    functions = [(s.site.partition("+")[0].partition(".")[0], s.count) for s in sites]
    tables = sum(count for function, count in functions if function in WALKERS)
    assert after.local.maps == before.local.maps + before.local.lowmem - tables


PREEMPTED = """\
mkdir-90 [000] d.... 1.612451: kmap_local_pfn: (__kmap_local_pfn_prot+0x0/0x1fc) pfn=0x7f605
mkdir-90 [000] d.... 1.612468: kmap_local_pfn_ret: (a+0x1/0x2 <- __kmap_local_pfn_prot) vaddr=0xffefe000
mkdir-90 [000] d.... 1.612479: kunmap_local: (kunmap_local_indexed+0x0/0x2c4) vaddr=0xffefe000
mkdir-90 [000] d..2. 1.612788: sched_switch: prev_comm=mkdir prev_pid=90 prev_prio=120 prev_state=R+ ==> next_comm=mkdir next_pid=89 next_prio=120
mkdir-90 [000] d..2. 1.612798: kmap_local_sched_out: (__kmap_local_sched_out+0x0/0x214)
mkdir-90 [000] d..2. 1.622798: kmap_local_sched_in: (__kmap_local_sched_in+0x0/0x214)
kworker/0:1-9 [000] d.... 1.700000: purge_vmap_area_lazy: (__purge_vmap_area_lazy+0x0/0x9) start=0xffffffff end=0x0
kworker/0:1-9 [000] d.... 1.700300: purge_vmap_area_lazy_ret: (b+0x1/0x2 <- __purge_vmap_area_lazy) purged=0x1
"""  # noqa: E501
"""A task is preempted in kunmap_local(), and a purge whose flush is not traced."""


def preempted(folder: Path) -> tuple[pl.LazyFrame, Machine]:
    (folder / "trace").write_text(PREEMPTED)
    machine = replace(default_machine("arm", None), ram=((0x4000_0000, 0x8000_0000),))
    return open_capture(folder / "trace").events, machine


def test_no_switch_finds_a_mapping_where_there_is_no_highmem(tmp_path: Path) -> None:
    events, machine = preempted(tmp_path)
    for to in ({"split": "2g"}, {"highmem": False}):
        here, there = what_if(events, machine, with_options(machine, **to))
        assert (here.local.saved_on_switch, there.local.saved_on_switch) == (1, 0), to
        assert there.local.tlb_single == there.local.maps == 0


def test_flushes_that_a_trace_does_not_show_are_said(tmp_path: Path) -> None:
    events, machine = preempted(tmp_path)
    here, there = what_if(events, machine, with_options(machine, cpus=2))
    assert here.arena.lazy_purges == 1
    for outcome in (here, there):
        assert any(caveat.startswith("1 lazy purge flushed") for caveat in outcome.caveats)
    told = [any("kmap() of a lowmem page" in c for c in captured(n).caveats) for n in (ARM, MIPS)]
    assert told == [False, True], "MIPS flushes at every kmap()"
    older = replayed(MIPS, generation="5.4")
    assert not any("kmap() of a lowmem page" in caveat for caveat in older.caveats), "since 5.8"
    assert captured(ARENA).arena.lazy_purges
    assert not any("flushed, and the trace" in caveat for caveat in captured(ARENA).caveats)


def test_kmap_of_highmem_on_a_machine_without_is_said(tmp_path: Path) -> None:
    kmap = "cp-7 [000] d..1 1.000100: kmap_high: (kmap_high+0x0/0x1a0) page=0xeef80000\n"
    (tmp_path / "trace").write_text(kmap)
    events = open_capture(tmp_path / "trace").events
    for end, said in ((0x6000_0000, True), (0x8000_0000, False)):
        machine = replace(default_machine("arm", None), ram=((0x4000_0000, end),))
        here, there = what_if(events, machine, with_options(machine, split="2g"))
        assert any("by what is known of the machine" in c for c in here.caveats) is said
        assert not any("by what is known of the machine" in c for c in there.caveats)


def test_calls_that_are_gone_there_are_no_missing_probes(tmp_path: Path) -> None:
    """kmap() of one page, which is lowmem there: the trace still has it."""
    kmap = "cp-7 [000] d..1 1.000100: kmap_high: (kmap_high+0x0/0x1a0) page=0xeef80000\n"
    (tmp_path / "trace").write_text(kmap)
    events = open_capture(tmp_path / "trace").events
    machine = replace(default_machine("arm", None), ram=((0x4000_0000, 0x8000_0000),))
    _, there = what_if(events, machine, with_options(machine, split="2g"))
    assert not there.pool.maps
    assert "nothing-traced" not in {finding.rule for finding in there.findings}


def test_rules_that_the_captured_machine_contradicts_are_doubted_elsewhere() -> None:
    told = Told(lowmem_end_pfn=0x6F000)
    machine = replace(opened(ARM)[1], told=told)
    capture, values = opened(ARM)[0], opened(ARM)[0].facts.snapshot()
    for to, doubted in (({"split": "1g"}, True), ({"cpus": 1}, False)):
        target = with_options(machine, **to)
        here, there = what_if(capture.events, machine, target, values=values, lost=capture.lost)
        assert any("laid out by the rules all the same" in c for c in there.caveats) is doubted
        (split,) = (f for f in here.findings if f.rule == "split")
        assert "rules that this machine's files contradict" in in_words(split).evidence
    (split,) = (f for f in captured(ARM).findings if f.rule == "split")
    assert "contradict" not in in_words(split).evidence


def test_a_pool_that_begins_empty_there_is_said() -> None:
    """Where it makes a difference: with another pool not even a snapshot of this one holds."""
    words = "the pool begins empty there"
    assert any(caveat.startswith(words) for caveat in replayed(OLD, pkmap=1024).caveats)
    assert not any(caveat.startswith(words) for caveat in replayed(OLD, cpus=2).caveats)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(HmtraceError) as error:
        replayed(HOG, placement="sideways")
    assert error.value.exit_code == 2


def test_a_machine_without_highmem() -> None:
    after = replayed(MINIX, split="2g")
    assert not after.layout.highmem_bytes
    (words,) = (caveat for caveat in after.caveats if "becomes lowmem" in caveat)
    assert words.startswith("every traced page of highmem (")
    assert words.endswith("there is no highmem")
