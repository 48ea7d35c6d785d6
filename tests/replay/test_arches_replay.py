"""Traces as a kernel of each architecture would write them, read back and replayed.

The addresses are made from the numbers of tests/replay/test_arches.py's headers by the plain
rules of mm/highmem.c: slots in turn from 1 on, the first local slot of CPU 0.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from collectors.facts.arches import ARCHES as NAMES
from hmtrace.cli import app
from hmtrace.cli.machines import default_machine
from replay.machine.arches import ARCHES

if TYPE_CHECKING:
    from pathlib import Path

HEADER = """\
# tracer: nop
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""
# first slot of the pool (0: none), slots, first local slot of CPU 0, bytes per page
WINDOWS = {
    "arc": (0x7FE00000, 256, 0x7FC7E000, 8192),
    "csky": (0xFF800000, 1024, 0xFFFFC000, 4096),
    "microblaze": (0xFF800000, 1024, 0xFFFFE000, 4096),
    "mips32": (0xFF800000, 1024, 0xFFFCF000, 4096),
    "powerpc32": (0xFF400000, 1024, 0xFFFDF000, 4096),
    "sparc32": (0xFC500000, 1024, 0xFCFFE000, 4096),
    "xtensa": (0xCF400000, 1024, 0xCFC0F000, 4096),
    "x86_64": (0, 0, 0xFFFFFFFFFF57B000, 4096),
}
CALLS = 1100


def capture(folder: Path, name: str) -> Path:
    """A capture folder: every page mapped once through the pool and once by kmap_local."""
    base, slots, local, page_size = WINDOWS[name]
    events = []
    for call in range(CALLS):
        if slots:
            address = base + (call + 1) % slots * page_size
            page = 0x90000000 + call * 32
            events += [
                f"kmap_high: (kmap_high+0x0/0x120) page={page:#x}",
                f"kmap_high_ret: (f+0x1/0x2 <- kmap_high) vaddr={address:#x}",
                f"kunmap_high: (kunmap_high+0x0/0x90) page={page:#x}",
            ]
        events += [
            f"kmap_local_pfn: (__kmap_local_pfn_prot+0x0/0x120) pfn={0x90000 + call:#x}",
            f"kmap_local_pfn_ret: (f+0x1/0x2 <- __kmap_local_pfn_prot) vaddr={local:#x}",
            f"kunmap_local: (kunmap_local_indexed+0x0/0x90) vaddr={local:#x}",
        ]
    lines = [
        f"            perl-77      [000] .....   {100 + number / 1e6:.6f}: {event}"
        for number, event in enumerate(events)
    ]
    (folder / "trace.txt").write_text(HEADER + "\n".join(lines) + "\n")
    switches = sorted(ARCHES[name].default_config | {NAMES[name].switch})
    nr_cpus = default_machine(name, None).nr_cpus
    config = [*(f"CONFIG_{switch}=y" for switch in switches), f"CONFIG_NR_CPUS={nr_cpus}"]
    (folder / "config").write_text("\n".join(config) + "\n")
    (folder / "version").write_text("Linux version 6.1.0 (x) #1 SMP\n")
    return folder


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_every_address_is_predicted(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["validate", str(capture(tmp_path, name)), "--format", "json"])
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)["captures"]
    assert found["kmap_local"] == {"total": CALLS, "exact": CALLS}
    if WINDOWS[name][1]:
        # the first address tells where the pool's cursor was
        assert found["kmap"] == {"total": CALLS, "exact": CALLS - 1}
    assert found["first_divergence"] is None


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_a_report_of_it(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(capture(tmp_path, name)), "--format", "json"])
    document = json.loads(result.stdout)
    slots = WINDOWS[name][1]
    assert document["machine"]["arch"] == name
    assert document["local"]["maps"] == CALLS
    assert document["pool"]["maps"] == (CALLS if slots else 0)
    assert document["pool"]["wraps"] == (CALLS // slots if slots else 0)
    tlb = document["tlb"]
    if name == "microblaze":
        assert (tlb["full"], tlb["range"]) == (0, 0)  # a range flush does nothing there
    elif name == "csky":
        assert tlb["range"] == document["pool"]["flushes"] + CALLS  # one at every kmap()
    elif name == "sparc32":
        # two of everything for each local mapping, and one for each flush of the pool
        assert tlb["full"] == 2 * CALLS + document["pool"]["flushes"]
        assert tlb["single"] == 0
    else:
        assert tlb["single"] == CALLS * (2 if name in ("mips32", "powerpc32") else 1)
