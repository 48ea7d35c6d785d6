"""A machine in a few words, for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replay.machine.kconfig import is_realtime

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.machine.model import Layout, Machine


def kernel_words(machine: Machine, layout: Layout) -> list[str]:
    """The kernel's behaviour in a few words, for reports.

    Parameters
    ----------
    machine, layout
        Of the capture, or of the what-if machine.

    Returns
    -------
    list of str
        Generation, whose stacks hold local mappings, and every option that changes a rule.
    """
    whose = "CPU" if layout.kmap_per_cpu else "task"
    api = "kmap_atomic" if layout.kmap_per_cpu else "kmap_local"
    words = [f"like {machine.generation}", f"{api} stack per {whose}"]
    if layout.km_step > 1:
        words.append("guard slots")
    if layout.kmap_force_map:
        words.append("lowmem takes slots")
    if is_realtime(machine.config):
        words.append("PREEMPT_RT")
    if layout.kmap_high_get:
        words.append("kmap_high_get")
    if layout.pkmap_colours > 1:
        words.append(f"{layout.pkmap_colours} colours")
    if layout.kmap_flush_each:
        words.append("flush at every kmap")
    return words


def is_emulated(snapshot: Snapshot) -> bool:
    """Whether the machine's files say that it was emulated."""
    board = snapshot.board or ""
    return "QEMU" in board or board == "linux,dummy-virt"  # qemu: hw/arm/virt.c
