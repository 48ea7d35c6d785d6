"""CPUs that were off are not interrupted by flushes."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from collectors.facts import read_facts
from replay.arena.tally import IS_FLUSH
from replay.trace.online import OnlineCpus
from replay.walk import replay
from replay.whatif.run import what_if
from tests.opened import opened

LOG = b"""\
[    0.292724] .... node  #0, CPUs:      #1
[    0.388825] smp: Brought up 1 node, 4 CPUs
[   47.865263] smpboot: CPU 1 is now offline
<6>[   48.029286][    T1] smpboot: CPU 2 is now offline
[   54.901074] smpboot: Booting Node 0 Processor 3 APIC 0x3
CPU 2 is now offline
[   55.148668] CPU1: shutdown
[   55.500000] CPU1: thread -1, cpu 1, socket 0, mpidr 80000001
"""


def test_log_at_the_end_tells_when_which_cpu_went_or_came():
    facts = read_facts({"dmesg.end": LOG})
    assert facts.get("cpu_changes") == (
        (47_865_263_000, 1, False),
        (48_029_286_000, 2, False),
        (54_901_074_000, 3, True),
        (55_148_668_000, 1, False),
        (55_500_000_000, 1, True),
    )
    assert set(facts) == {"cpu_changes", "ooms"}
    assert facts.get("ooms") == ()


def test_flushes_are_counted_as_by_hand():
    draw = random.Random(3)
    changes = [(n * 100, draw.randrange(4), draw.random() < 0.5) for n in range(1, 60)]
    times = [draw.randrange(7000) for _ in range(500)]
    online = OnlineCpus(changes, (500, 6000), 4)
    online.add(np.array(times[:200]))
    online.add(np.array(times[200:]))
    expected = 0
    came = {cpu: up for ns, cpu, up in reversed(changes) if 500 <= ns <= 6000}
    for time in times:
        on = {cpu for cpu in range(4) if not came.get(cpu, False)}  # what comes first was off
        for ns, cpu, up in changes:
            if 500 <= ns <= min(time, 6000):
                on = on | {cpu} if up else on - {cpu}
        expected += max(len(on), 1)
    assert (online.flushes, online.summed) == (500, expected)


@cache
def replayed(name, rows):
    capture, machine = opened(name)
    return replay(capture.events, machine, values=capture.facts.snapshot(), rows=rows)


@pytest.mark.parametrize("name", ["i386-minix-pae-smp2", "i386-hog-d-local-pae-smp2"])
@pytest.mark.parametrize("part", [0.0, 0.4])
def test_interrupts_of_a_capture_go_to_cpus_that_were_on(name, part):
    """Two CPUs: as many IPIs as flushes happened while the second was on."""
    capture, machine = opened(name)
    snapshot = capture.facts.snapshot()
    events = capture.events.collect()
    first, last = events["ts"].min(), events["ts"].max()
    off = int(first + part * (last - first))
    gone = replace(snapshot, cpu_changes=((off, 1, False),))
    whole = replayed(name, 4000)
    there = replay(events, machine, values=gone, rows=4000)
    assert whole.tlb.ipis == whole.tlb.full + whole.tlb.range
    before = events.filter(IS_FLUSH & (pl.col("ts") < off))
    assert there.tlb.ipis == before.height
    assert (there.cost.total_ns < whole.cost.total_ns) == (before.height < whole.tlb.ipis)
    assert any("were online at a flush" in text for text in there.caveats)
    again, other = what_if(events, machine, replace(machine, cpus=4), values=gone, rows=4000)
    assert again.tlb == there.tlb
    assert other.tlb.ipis == 3 * (other.tlb.full + other.tlb.range)
