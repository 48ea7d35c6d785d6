"""CPUs that go and come, as tracepoints show it: lines by hand after kernel/cpu.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from collectors import open_capture
from replay.machine.from_facts import machine_from
from replay.walk import replay

if TYPE_CHECKING:
    from pathlib import Path

# 4 CPUs on i386 with PAE. CPU 3 is taken out at 100.000300 (its stopper thread goes on behind
# __cpu_disable()), CPU 2 refuses (-EBUSY) and stays, CPU 3 comes back at 100.000700, where its
# cpuhp thread takes the first step behind its start. Flushes: 3, 2, 2, 3 others are interrupted.
FLUSH = "flush_tlb_kernel_range: (flush_tlb_kernel_range+0x0/0x70) start=0x{0:x} end=0x{1:x}"
EVENTS = [
    ("kworker/0:1", 12, 0, 0, FLUSH),
    ("sh", 80, 0, 100, "cpuhp_enter: cpu: 0003 target:   0 step:  86 (takedown_cpu)"),
    ("migration/3", 30, 3, 300, "cpuhp_enter: cpu: 0003 target:   0 step:  85 (sched_cpu_dying)"),
    ("migration/3", 30, 3, 310, "cpuhp_exit:  cpu: 0003  state:  84 step:  85 ret: 0"),
    ("kworker/0:1", 12, 0, 350, FLUSH),
    ("sh", 80, 0, 400, "cpuhp_exit:  cpu: 0003  state:  86 step:  86 ret: 0"),
    ("sh", 80, 0, 410, "cpuhp_enter: cpu: 0002 target:   0 step:  86 (takedown_cpu)"),
    ("sh", 80, 0, 420, "cpuhp_exit:  cpu: 0002  state:  86 step:  86 ret: -16"),
    ("kworker/0:1", 12, 0, 450, FLUSH),
    ("sh", 80, 0, 500, "cpuhp_enter: cpu: 0003 target: 238 step:  86 (bringup_cpu)"),
    ("swapper/3", 0, 3, 600, "cpuhp_enter: cpu: 0003 target: 86 step: 85 (sched_cpu_starting)"),
    ("cpuhp/3", 29, 3, 700, "cpuhp_multi_enter: cpu: 0003 target: 238 step: 88 (io_cpu_online)"),
    ("cpuhp/3", 29, 3, 710, "cpuhp_exit:  cpu: 0003  state:  88 step:  88 ret: 0"),
    ("kworker/0:1", 12, 0, 750, FLUSH),
    ("sh", 80, 0, 800, "cpuhp_exit:  cpu: 0003  state:  86 step:  86 ret: 0"),
]
CHANGES = ((100_000_300_000, 3, False), (100_000_700_000, 3, True))
AREA = (0xF7800000, 0xF7802000)


def tracefs() -> str:
    lines = ["# tracer: nop", "#", "#   TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION", "#"]
    for comm, pid, cpu, us, body in EVENTS:
        task = "<idle>" if comm.startswith("swapper") else comm
        lines.append(f"{task:>16}-{pid:<7d} [{cpu:03d}] d..1. 100.{us:06d}: {body.format(*AREA)}")
    return "\n".join(lines) + "\n"


def trace_cmd_report() -> str:
    lines = ["cpus=4"]
    for comm, pid, cpu, us, body in EVENTS:
        name, _, rest = body.format(*AREA).partition(":")
        lines.append(f"{comm:>16}-{pid:<5d} [{cpu:03d}]   100.{us:06d}: {name + ':':<21}{rest}")
    return "\n".join(lines) + "\n"


def perf_script() -> str:
    lines = []
    for comm, pid, cpu, us, body in EVENTS:
        place, _, rest = body.format(*AREA).partition(": ")
        if place == "flush_tlb_kernel_range":
            name, rest = "probe:flush_tlb_kernel_range", "(c1048a40) start=0x{0:x} end=0x{1:x}"
        else:
            name = f"cpuhp:{place}"
        lines.append(
            f"{comm:>16} {pid:>5} [{cpu:03d}]   100.{us:06d}: {name:>22}: {rest.format(*AREA)}"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cpuinfo").write_text("".join(f"processor\t: {n}\n" for n in range(4)))
    (tmp_path / "config").write_text("CONFIG_X86_32=y\nCONFIG_HIGHMEM64G=y\nCONFIG_SMP=y\n")
    return tmp_path


@pytest.mark.parametrize("form", [tracefs, trace_cmd_report, perf_script])
def test_interrupts_go_to_cpus_that_the_trace_shows_online(form, folder: Path) -> None:
    (folder / "trace.txt").write_text(form())
    capture = open_capture(folder)
    values = capture.facts.snapshot()
    assert values.cpu_changes == CHANGES
    assert not [note for note in capture.notes if "hotplug" in note]
    machine, _ = machine_from(values)
    outcome = replay(capture.events, machine, values=values)
    assert outcome.tlb.range == 4
    assert outcome.tlb.ipis == 3 + 2 + 2 + 3


def test_log_at_the_end_goes_before_the_trace(folder: Path) -> None:
    (folder / "trace.txt").write_text(tracefs())
    (folder / "dmesg.end").write_text("[  100.000200] smpboot: CPU 3 is now offline\n")
    changes = open_capture(folder).facts.snapshot().cpu_changes
    assert changes == ((100_000_200_000, 3, False),)


def test_capture_that_begins_with_a_cpu_off(folder: Path) -> None:
    """The first change of CPU 3 is that it comes: two others are interrupted before."""
    lines = tracefs().splitlines(keepends=True)
    (folder / "trace.txt").write_text("".join(lines[:4] + lines[8:]))
    capture = open_capture(folder)
    values = capture.facts.snapshot()
    assert values.cpu_changes == CHANGES[1:]
    machine, _ = machine_from(values)
    outcome = replay(capture.events, machine, values=values)
    assert outcome.tlb.range == 3
    assert outcome.tlb.ipis == 2 + 2 + 3
