"""What the kernel's build options change in the model, whatever its release.

Options are those of the capture's ``config`` (:attr:`replay.machine.model.Machine.config`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from replay.machine.generations import Generation

_GUARDED: Final = frozenset({"DEBUG_KMAP_LOCAL", "DEBUG_KMAP_LOCAL_FORCE_MAP", "DEBUG_HIGHMEM"})
"""lib/Kconfig.debug: the other two select DEBUG_KMAP_LOCAL."""
_REALTIME: Final = frozenset({"PREEMPT_RT", "PREEMPT_RT_FULL"})
"""PREEMPT_RT_FULL was its name in the patches for kernels up to 4.19."""


class LocalSlots(NamedTuple):
    """Slots of local mappings.

    Attributes
    ----------
    per_cpu
        KM_MAX_IDX, or KM_TYPE_NR of kmap_atomic().
    step
        Slots that one mapping takes: 2 where every second one is a guard.
    depth
        Mappings that can be held at once.
    """

    per_cpu: int
    step: int
    depth: int


def local_slots(
    generation: Generation, config: AbstractSet[str], type_nr: int, fenced: int | None = None
) -> LocalSlots:
    """Slots of kmap_local, or of kmap_atomic() on older kernels.

    asm-generic/kmap_size.h: KM_MAX_IDX is 16, the last of which kmap_local_idx_push() never
    gives out; 33 with DEBUG_KMAP_LOCAL, where every second one is a guard.

    Parameters
    ----------
    generation
        Of the kernel.
    config
        Options that are set.
    type_nr, fenced
        KM_TYPE_NR of the architecture's kmap_types.h, without and with DEBUG_HIGHMEM.
    """
    if has_kmap_atomic(generation, config):
        slots = fenced if fenced is not None and "DEBUG_HIGHMEM" in config else type_nr
        return LocalSlots(slots, 1, slots)
    if config & _GUARDED:
        return LocalSlots(33, 2, 16)
    return LocalSlots(16, 1, 15)


def has_kmap_atomic(generation: Generation, config: AbstractSet[str]) -> bool:
    """Whether local mappings are those of the old kmap_atomic(), KM_TYPE_NR slots for each CPU.

    The PREEMPT_RT patches for 5.10 brought kmap_local along, before 5.11 had it: there
    CONFIG_KMAP_LOCAL tells (mm/Kconfig). Observed on Debian's 5.10.0-32-rt-686-pae: its slots are
    16 to a CPU, its stacks are those of tasks, and __kmap_local_sched_out() runs.
    """
    return generation.local_per_cpu and "KMAP_LOCAL" not in config


def is_realtime(config: AbstractSet[str]) -> bool:
    """PREEMPT_RT: kmap_lock sleeps, and kmap_atomic() does not disable preemption.

    The patches for older kernels have kmap_atomic() with a stack per task, in the slots of its
    CPU, saved at a context switch ("mm, rt: kmap_atomic scheduling"); from 5.10 on that is
    kmap_local itself, see :func:`has_kmap_atomic`.
    """
    return bool(config & _REALTIME)


def maps_lowmem(config: AbstractSet[str]) -> bool:
    """Whether kmap_local gives lowmem pages slots too.

    lib/Kconfig.debug: DEBUG_KMAP_LOCAL_FORCE_MAP, which DEBUG_HIGHMEM selects where the
    architecture supports it (x86 alone); mm/highmem.c: __kmap_local_page_prot.
    """
    return "DEBUG_KMAP_LOCAL_FORCE_MAP" in config
