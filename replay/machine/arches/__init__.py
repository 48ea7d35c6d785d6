"""Architectures: each is data and one pure function from a machine to its layout.

Adding one takes an afternoon:

1. Find the numbers. ``asm/highmem.h`` has the pool (PKMAP_BASE, LAST_PKMAP) and the flushes of
   kmap_local (``arch_kmap_local_post_map`` and its like), ``asm/fixmap.h`` the slots
   (FIXADDR_TOP, FIX_KMAP_BEGIN), ``asm/pgtable.h`` the arena, ``mm/init.c`` the border between
   lowmem and highmem and the zones, ``tlbflush.h`` or ``mm/tlb.c`` what
   flush_tlb_kernel_range() does, ``Kconfig`` the splits, page sizes and NR_CPUS.
2. Write a module like :mod:`replay.machine.arches.sparc32`, the smallest: constants with the names
that
   the kernel gives them, ``layout(machine)``, which works out an
   :class:`~replay.machine.arches.common.AddressMap` and passes it with a
   :class:`~replay.machine.arches.common.Tlb` to :func:`~replay.machine.arches.common.finish`, and
   the
   :class:`~replay.machine.model.Arch` with its name and limits. Say at the top which files
   were read, in which version, and whether a booted kernel was compared.
3. Add a line to the table below, the CONFIG_ switch and the names of ``uname -m`` to
   :mod:`collectors.facts.arches`, and the numbers that you worked out by hand from the headers
   to ``tests/replay/test_arches.py``.
4. ``hmtrace layout --arch NAME`` draws it. A board becomes a preset by a file in
   ``replay/machine/presets``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.machine.arches.arc import ARC
from replay.machine.arches.arm import ARM
from replay.machine.arches.csky import CSKY
from replay.machine.arches.i386 import I386
from replay.machine.arches.microblaze import MICROBLAZE
from replay.machine.arches.mips32 import MIPS32
from replay.machine.arches.powerpc32 import POWERPC32
from replay.machine.arches.sparc32 import SPARC32
from replay.machine.arches.x86_64 import X86_64
from replay.machine.arches.xtensa import XTENSA

if TYPE_CHECKING:
    from replay.machine.model import Arch

_TABLE: Final = (
    I386,
    ARM,
    ARC,
    CSKY,
    MICROBLAZE,
    MIPS32,
    POWERPC32,
    SPARC32,
    XTENSA,
    X86_64,
)
"""The architectures, those that were compared with booted kernels first."""

ARCHES: Final[dict[str, Arch]] = {arch.name: arch for arch in _TABLE}
