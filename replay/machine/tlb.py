"""How CPUs carry out a flush of kernel addresses, by class: what a layout says, in words.

The classes are told from the capture's cpuinfo and config; the formulas over them are in
:mod:`replay.cost.formulas`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from collectors.snapshot import Snapshot
    from replay.machine.model import Layout, Machine

X86_FULL_FLUSH: Final = {
    "invpcid": "full_flush_invpcid",
    "pge": "full_flush",
    "cr3": "full_flush_cr3",
}
"""The cost figure (:class:`replay.machine.costs.Costs`) of a full flush on x86, by class."""
_ARM: Final = ("broadcast", "ipi")
_ARM11_MPCORE: Final = (0x41, 0xB02)
"""The one ARM CPU with highmem and several cores whose TLB operations stay on their core."""
X86_USUAL: Final = "pge"
"""Every i386 CPU from the Pentium Pro on has PGE; INVPCID came with Haswell."""


@dataclass(frozen=True)
class FlushClass:
    """One way of flushing.

    Attributes
    ----------
    name
        Short, for JSON.
    words
        For the reader.
    source
        Where the kernel chooses it.
    """

    name: str
    words: str
    source: str


_CLASSES: Final = {
    one.name: one
    for one in (
        FlushClass("x86-invpcid", "INVPCID", "arch/x86/mm/tlb.c: native_flush_tlb_global"),
        FlushClass("x86-pge", "CR4.PGE", "arch/x86/mm/tlb.c: native_flush_tlb_global"),
        FlushClass("x86-cr3", "CR3", "arch/x86/mm/tlb.c: __flush_tlb_all"),
        FlushClass("broadcast", "broadcast", "arch/arm/kernel/smp_tlb.c: flush_tlb_kernel_range"),
        FlushClass(
            "broadcast-798181",
            "broadcast, IPI",
            "arch/arm/kernel/smp_tlb.c: broadcast_tlb_a15_erratum",
        ),
        FlushClass("ipi", "IPI", "arch/arm/kernel/smp_tlb.c: tlb_ops_need_broadcast"),
        FlushClass("local", "own CPU", "no other CPU to tell"),
    )
}


def class_of(arch: str, snapshot: Snapshot) -> str:
    """The class of flush that the facts of a capture tell; empty if they are silent.

    It becomes :attr:`replay.machine.model.Machine.tlb_flush`.

    Parameters
    ----------
    arch
        Architecture.
    snapshot
        ``cpu_flags`` and ``arm_cpu`` count, of cpuinfo.
    """
    if arch in ("i386", "x86_64"):
        return _x86_class(snapshot.cpu_flags or ())
    cpu = snapshot.arm_cpu
    if arch != "arm" or cpu is None:
        return ""
    return "ipi" if tuple(cpu[:2]) == _ARM11_MPCORE else "broadcast"


def _x86_class(flags: Collection[str]) -> str:
    """Class for the flags of cpuinfo; empty without any.

    arch/x86/mm/tlb.c: __flush_tlb_all asks for PGE, native_flush_tlb_global for INVPCID.
    """
    if not flags:
        return ""
    if "pge" not in flags:
        return "cr3"
    return "invpcid" if "invpcid" in flags else "pge"


def full_flush_of(machine: Machine) -> str:
    """Key of :data:`X86_FULL_FLUSH` for an x86 machine.

    Raises
    ------
    HmtraceError
        If the machine names none (exit code 2).
    """
    return _chosen(machine, X86_FULL_FLUSH) or X86_USUAL


def is_broadcast(machine: Machine, usual: bool) -> bool:  # noqa: FBT001
    """Whether an ARM machine's CPUs hear each other's invalidations, `usual` where not known.

    asm/smp_plat.h: tlb_ops_need_broadcast asks the CPU (ID_MMFR3), whatever the configuration.
    Errors as :func:`full_flush_of`.
    """
    chosen = _chosen(machine, _ARM)
    return chosen == _ARM[0] if chosen else usual


def _chosen(machine: Machine, known: Collection[str]) -> str:
    if machine.tlb_flush and machine.tlb_flush not in known:
        msg = f"unknown tlb_flush {machine.tlb_flush!r} on {machine.arch}"
        raise HmtraceError(msg, hint=f"one of {', '.join(known)}", exit_code=2)
    return machine.tlb_flush


def flush_class(layout: Layout, cpus: int) -> FlushClass:
    """The class of a machine with so many online CPUs."""
    if layout.x86_flush:
        return _CLASSES[f"x86-{layout.x86_flush}"]
    if cpus == 1:
        return _CLASSES["local"]
    if layout.tlb_broadcast:
        return _CLASSES["broadcast-798181" if layout.tlb_erratum_ipi else "broadcast"]
    return _CLASSES["ipi"]


def as_json(layout: Layout, cpus: int) -> Mapping[str, str]:
    """Key ``flush_class`` of the JSON documents."""
    one = flush_class(layout, cpus)
    return {"name": one.name, "words": one.words, "source": one.source}
