"""kmap_local stacks: addresses from CPU and depth, interrupts, losses, wrong unmaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from collectors.capture import Lost, LostInterval
from collectors.events import SCHEMA, Ctx
from replay.local.loops import DIVERGED, INITIAL, ORDERED
from replay.machine.arches.i386 import DEFAULT_CONFIG
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.words import kernel_words
from replay.trace.losses import Gaps, gaps_of
from tests.replay.whole_local import LocalReplay, replay_locals

I386 = Machine(arch="i386", pae=True, nr_cpus=32)
ARM = Machine(arch="arm", nr_cpus=8, ram=((0x4000_0000, 0x8000_0000),))
HIGH = 0x3F8F7
NAMES = {"map": "kmap_local", "unmap": "kunmap_local", "switch": "switch", "out": "sched_out"}


def table(*steps: dict[str, Any]) -> pl.DataFrame:
    """Rows from (what, cpu, pid, …); `until` is the position of the return, default the next."""
    rows = []
    for number, step in enumerate(steps):
        row: dict[str, Any] = dict.fromkeys(SCHEMA)
        row |= {"seq": 10 * number, "ts": 100 * number, "ctx": 0, "entry_traced": True}
        row |= {k: v for k, v in step.items() if k in SCHEMA}
        row["op"] = NAMES[step["what"]]
        if step["what"] == "map":
            row["end_seq"] = step.get("end_seq", 10 * number + 1)
            row |= {"end_ts": 100 * number + 10, "end_cpu": row["cpu"]}
            row["pfn"] = step.get("pfn", HIGH)
        rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA)


def event(what: str, cpu: int, pid: int, vaddr: int | None = None, **more: Any) -> dict[str, Any]:
    return {"what": what, "cpu": cpu, "pid": pid, "vaddr": vaddr, **more}


def replay(
    machine: Machine, *steps: dict[str, Any], losses: list[int] | None = None
) -> LocalReplay:
    return replay_locals(table(*steps), layout_of(machine), losses=Gaps.at(losses or []))


def test_i386_addresses_by_cpu_and_depth() -> None:
    done = replay(
        I386,
        event("map", 1, 7, 0xFFFA_B000),
        event("map", 1, 7, 0xFFFA_A000),
        event("map", 0, 8, 0xFFFB_B000),
        event("unmap", 1, 7, 0xFFFA_A1F0),  # with an offset
        event("map", 1, 7, 0xFFFA_A000),
    )
    assert done.vaddr.tolist() == [0xFFFA_B000, 0xFFFA_A000, 0xFFFB_B000, 0xFFFA_A000]
    assert done.status.tolist() == [0, 0, 0, 0]
    assert done.depth.tolist() == [0, 1, 0, 1]
    assert done.unmaps == 1
    assert done.misfits == 0


def test_arm_addresses() -> None:
    done = replay(ARM, event("map", 1, 7, 0xFFEE_E000), event("map", 1, 7, 0xFFEE_D000))
    assert done.vaddr.tolist() == [0xFFEE_E000, 0xFFEE_D000]


def test_unmap_of_an_older_mapping_is_a_misfit() -> None:
    done = replay(
        I386,
        event("map", 0, 7, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_A000),
        event("unmap", 0, 7, 0xFFFB_B000),
    )
    assert done.misfits == 1
    assert done.unmaps == 1


def test_lowmem_page_takes_no_slot() -> None:
    low = event("map", 0, 7, 0xC2BF_E000, page=0xF603_4FB0, pfn=0x2BFE)
    done = replay(I386, low, event("unmap", 0, 7, 0xC2BF_E000), event("map", 0, 7, 0xFFFB_B000))
    assert done.takes_slot.tolist() == [False, True]
    assert done.vaddr.tolist() == [0xC2BF_E000, 0xFFFB_B000]
    assert done.unmaps == 0


def test_idle_tasks_have_a_stack_each() -> None:
    done = replay(I386, event("map", 0, 0, 0xFFFB_B000), event("map", 1, 0, 0xFFFA_B000))
    assert done.status.tolist() == [0, 0]
    assert done.depth.tolist() == [0, 0]


def test_kmap_atomic_counts_per_cpu() -> None:
    """5.10: idx + 20 * cpu on i386, whichever task it is."""
    old = Machine(arch="i386", pae=True, nr_cpus=32, generation="5.10")
    done = replay(old, event("map", 1, 7, 0xFFFA_7000), event("map", 1, 0, 0xFFFA_6000, ctx=4))
    assert done.vaddr.tolist() == [0xFFFA_7000, 0xFFFA_6000]


def test_kmap_atomic_of_a_lowmem_page() -> None:
    """Before 5.8 kmap_atomic_prot() is entered for every page: 5.0's addresses."""
    old = replace(I386, generation="4.19", nr_cpus=8)
    done = replay(
        old,
        event("map", 0, 7, 0xFFFB_B000, page=0xF54F_E270),
        event("map", 0, 7, 0xF132_2000, page=0xF591_4D50),
        event("unmap", 0, 7, 0xF132_2000),
        event("map", 0, 7, 0xFFFB_A000, page=0xF54F_E428),
    )
    assert done.takes_slot.tolist() == [True, False, True]
    assert done.vaddr[::2].tolist() == [0xFFFB_B000, 0xFFFB_A000]


@pytest.mark.parametrize(
    ("machine", "first"),
    [
        # KM_TYPE_NR 20, 41 with DEBUG_HIGHMEM; ARM 16 either way
        (replace(I386, generation="4.19"), 0xFFFF_F000 - (68 + 20) * 4096),
        (
            replace(I386, generation="5.10", config=DEFAULT_CONFIG | {"DEBUG_HIGHMEM"}),
            0xFFFF_F000 - (68 + 41) * 4096,
        ),
        (replace(ARM, generation="5.10"), 0xFFEF_F000 - (1 + 16) * 4096),
    ],
)
def test_slots_of_kmap_atomic_on_the_second_cpu(machine: Machine, first: int) -> None:
    """Depth counts per CPU, whoever runs there; every index is used."""
    done = replay(machine, event("map", 1, 7, first), event("map", 1, 8, first - 4096))
    assert done.vaddr.tolist() == [first, first - 4096]
    assert done.status.tolist() == [0, 0]
    assert layout_of(machine).kmap_per_cpu


def test_guard_slots() -> None:
    """DEBUG_KMAP_LOCAL: 33 slots per CPU, every second one a guard, 16 mappings at most."""
    debug = replace(I386, config=DEFAULT_CONFIG | {"DEBUG_KMAP_LOCAL"})
    steps = [event("map", 0, 7, 0xFFFB_A000 - 0x2000 * n) for n in range(16)]
    done = replay(debug, *steps, event("map", 1, 8, 0xFFFB_A000 - 33 * 4096))
    assert done.vaddr[:3].tolist() == [0xFFFB_A000, 0xFFFB_8000, 0xFFFB_6000]
    assert done.status.tolist() == [0] * 17
    assert done.depth.tolist() == [*range(16), 0]
    assert layout_of(debug).km_usable_depth == 16
    assert layout_of(I386).km_usable_depth == 15


def test_lowmem_forced_through_slots() -> None:
    """DEBUG_KMAP_LOCAL_FORCE_MAP: a lowmem page takes a slot as any other."""
    forced = replace(I386, config=DEFAULT_CONFIG | {"DEBUG_KMAP_LOCAL_FORCE_MAP"})
    low = {"page": 0xF603_4FB0, "pfn": 0x2BFE}
    done = replay(forced, event("map", 0, 7, 0xFFFB_A000, **low), event("map", 0, 7, 0xFFFB_8000))
    assert done.takes_slot.tolist() == [True, True]
    assert done.vaddr.tolist() == [0xFFFB_A000, 0xFFFB_8000]


@pytest.mark.parametrize("generation", ["5.10", "6.1"])
def test_realtime_kernels_have_a_stack_per_task(generation: str) -> None:
    """PREEMPT_RT: a task preempted while it holds a mapping keeps its slot of the CPU's."""
    rt = replace(I386, generation=generation, config=DEFAULT_CONFIG | {"PREEMPT_RT"})
    done = replay(
        rt,
        event("map", 0, 7, 0xFFFB_B000),
        event("out", 0, 7),
        event("map", 0, 8, 0xFFFB_B000),
        event("unmap", 0, 8, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_A000),
    )
    assert done.vaddr.tolist() == [0xFFFB_B000, 0xFFFB_B000, 0xFFFB_A000]
    assert done.switches.tolist() == [1]
    assert "PREEMPT_RT" in kernel_words(rt, layout_of(rt))


@pytest.mark.parametrize("before_push", [True, False])
def test_interrupt_inside_a_mapping_call(before_push: bool) -> None:  # noqa: FBT001
    """The interrupt stacks on the task's mapping only if it came after the push."""
    inner = 0xFFFB_B000 if before_push else 0xFFFB_A000
    irq = {"ctx": int(Ctx.HARDIRQ), "parent": 0}
    done = replay(
        I386,
        event("map", 0, 7, 0xFFFB_B000, end_seq=35),
        event("map", 0, 7, inner, end_seq=12, **irq),
        event("unmap", 0, 7, inner, **irq),
    )
    assert done.vaddr.tolist() == [0xFFFB_B000, inner]
    assert done.status.tolist() == ([0, 0] if before_push else [ORDERED, ORDERED])


def test_mapping_from_before_the_trace() -> None:
    """First seen at depth 1: the address tells of the initial state, so it is not exact."""
    done = replay(
        I386,
        event("map", 0, 7, 0xFFFB_A000),
        event("unmap", 0, 7, 0xFFFB_A000),
        event("unmap", 0, 7, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_B000),
    )
    assert done.status.tolist() == [INITIAL, 0]


def test_forged_address_diverges_and_is_forgotten() -> None:
    steps = []
    for number in range(6):
        address = 0xFFFB_5000 if number == 3 else 0xFFFB_B000
        steps += [event("map", 0, 7, address), event("unmap", 0, 7, address)]
    done = replay(I386, *steps)
    assert done.status.tolist()[:4] == [0, 0, 0, DIVERGED]
    assert done.vaddr[3] == 0xFFFB_B000
    assert (done.status[4:] == DIVERGED).sum() <= 2


def test_loss_makes_depths_unknown() -> None:
    done = replay(
        I386,
        event("map", 0, 7, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_B000),  # its unmap was lost
        losses=[10],
    )
    assert done.status.tolist() == [0, INITIAL]


def test_depths_are_unknown_on_all_cpus_while_events_are_lost() -> None:
    events = table(
        event("map", 0, 7, 0xFFFB_B000),
        event("unmap", 0, 7, 0xFFFB_B000),
        # of CPU 0 are missing: a mapping of task 7, and that it went to CPU 1
        event("map", 1, 7, 0xFFFA_A000),
        event("map", 0, 8, 0xFFFB_B000),
        event("map", 0, 8, 0xFFFB_A000),
    )
    gap = LostInterval(cpu=0, count=3, after_seq=30, start_ts=100, end_ts=300, reason="LOST")
    losses = gaps_of(Lost((gap,)), events.lazy())
    assert (losses.first.tolist(), losses.after.tolist()) == ([20], [30])
    done = replay_locals(events, layout_of(I386), losses=losses)
    assert done.status.tolist() == [0, INITIAL, 0, 0]


def test_a_gap_before_the_first_event_of_a_cpu_begins_with_the_trace() -> None:
    events = table(
        event("map", 1, 7, 0xFFFA_B000),
        event("unmap", 1, 7, 0xFFFA_B000),
        # task 7 goes to CPU 0, whose events are overwritten up to there, maps, and comes back
        event("map", 1, 7, 0xFFFA_A000),
        event("map", 0, 8, 0xFFFB_B000),
    )
    gap = LostInterval(0, None, 30, None, 300, "ring buffer overwritten")
    losses = gaps_of(Lost((gap,)), events.lazy())
    assert (losses.first.tolist(), losses.after.tolist()) == ([0], [30])
    done = replay_locals(events, layout_of(I386), losses=losses)
    assert done.status.tolist() == [0, INITIAL, 0]


def test_gaps_are_few_and_do_not_overlap() -> None:
    events = table(*[event("map", 0, 7, 0xFFFB_B000) for _ in range(9)])
    spans = [(None, 20), (50, 30), (350, 60), (450, 50), (650, 70), (9000, 80)]
    gaps = [LostInterval(0, 1, after, start, None, "LOST") for start, after in spans]
    found = gaps_of(Lost(tuple(gaps)), events.lazy())
    assert (found.first.tolist(), found.after.tolist()) == ([0, 40, 70, 80], [30, 60, 70, 80])
    assert found.within(np.array([69, 5, 30, 59, 5, 29, 70])).tolist() == [5, 29, 59]
    assert found.begin == 0
    none = gaps_of(None, events.lazy())
    assert (none.begin, none.within(np.array([0])).tolist()) == (None, [])


def test_switches_save_what_is_held() -> None:
    done = replay(
        I386,
        event("map", 0, 7, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_A000),
        event("switch", 0, 7, next_pid=8, blocked=False),
        event("switch", 0, 8, next_pid=7, blocked=False),
    )
    assert done.switches.tolist() == [2]


def preempted(machine: Machine, hook: str) -> LocalReplay:
    """Preempted behind the entry of an unmap; sched_in maps a page above before it pops."""
    return replay(
        machine,
        event("map", 0, 7, 0xFFFB_B000),
        event("unmap", 0, 7, 0xFFFB_B000),
        event(hook, 0, 7),
        event("map", 0, 8, 0xFFFB_B000),
        event("unmap", 0, 8, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_A000),
        event("unmap", 0, 7, 0xFFFB_A000),
        event("map", 0, 7, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_A000),
    )


@pytest.mark.parametrize(("hook", "switches"), [("out", [1]), ("switch", [])])
def test_an_unmap_that_was_preempted_still_holds(hook: str, switches: list[int]) -> None:
    """__kmap_local_sched_out() is called only where something is held; a switch says nothing."""
    done = preempted(I386, hook)
    assert done.vaddr.tolist() == [0xFFFB_B000, 0xFFFB_B000, 0xFFFB_A000, 0xFFFB_B000, 0xFFFB_A000]
    assert done.status.tolist() == [0, 0, ORDERED, 0, 0]
    assert done.depth.tolist() == [0, 0, 1, 0, 1]
    assert done.switches.tolist() == switches
    assert (done.strays, done.misfits) == (0, 0)


def test_a_cpus_own_stack_is_not_preempted() -> None:
    """kmap_atomic() of 5.10 disables preemption from its map to its unmap."""
    done = preempted(replace(I386, generation="5.10"), "switch")
    assert done.status.tolist()[2] == DIVERGED


def test_holding_times_and_partners() -> None:
    done = replay(
        I386,
        event("map", 0, 7, 0xFFFB_B000),
        event("map", 0, 7, 0xFFFB_A000),
        event("unmap", 0, 7, 0xFFFB_A000),
        event("unmap", 0, 7, 0xFFFB_B000),
    )
    assert done.partner.tolist() == [3, 2]
    assert done.hold_ns.tolist() == [290, 90]


def test_mappings_found_in_the_pool_take_no_slot() -> None:
    """ARM with kmap_high_get(): the address is the pool's, and so is its prediction."""
    board = replace(ARM, config=frozenset({"SMP", "HIGHMEM"}))
    pool = layout_of(board).pkmap_base
    done = replay(board, event("map", 0, 7, pool + 4096), event("map", 0, 7, 0xFFEF_E000))
    assert layout_of(board).kmap_high_get
    assert done.reused.tolist() == [True, False]
    assert done.takes_slot.tolist() == [False, True]
    assert done.vaddr[1] == 0xFFEF_E000


def test_colours_have_a_page_each_in_a_slot() -> None:
    """Xtensa: slot = (index + 16 * CPU) * colours + colours - 1 - colour, downwards."""
    layout = replace(layout_of(I386), pkmap_colours=4)
    top = layout.kmap_fix_top

    def at(index: int, cpu: int, colour: int) -> int:
        return top - ((index + 16 * cpu) * 4 + 3 - colour) * 4096

    steps = [
        event("map", 0, 7, at(0, 0, 3), pfn=0x3F8F7),
        event("map", 0, 7, at(1, 0, 0), pfn=0x3F8F8),
        event("map", 1, 8, at(0, 1, 1), pfn=0x3F8F9),
        event("unmap", 0, 7, at(1, 0, 0)),
        event("map", 0, 7, at(1, 0, 2), pfn=0x3F8FA),
    ]
    done = replay_locals(table(*steps), layout)
    assert done.vaddr.tolist() == [steps[i]["vaddr"] for i in (0, 1, 2, 4)]
    assert done.status.tolist() == [0] * 4
    assert done.misfits == 0
