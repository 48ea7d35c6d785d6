"""The machines that traces are made for, as Debian builds their kernels.

Written apart from the model in :mod:`replay`, which tests compare it with. Sources, i386:
asm/fixmap.h, asm/pgtable_32_areas.h, arch/x86/mm/init_32.c; ARM: asm/memory.h, asm/highmem.h,
asm/fixmap.h, arch/arm/mm/mmu.c (adjust_lowmem_bounds); mm/vmalloc.c for the arena's limits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from collectors.errors import HmtraceError
from collectors.records import dataclass

PAGE: Final = 4096
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TOP: Final = 1 << 32

SPLITS: Final = {
    "i386": {
        "3g": 0xC000_0000, "3g_opt": 0xB000_0000, "2g": 0x8000_0000,
        "2g_opt": 0x7800_0000, "1g": 0x4000_0000,
    },
    "arm": {"3g": 0xC000_0000, "3g_opt": 0xB000_0000, "2g": 0x8000_0000, "1g": 0x4000_0000},
}  # fmt: skip
"""PAGE_OFFSET by architecture and split (arch/x86/Kconfig, arch/arm/Kconfig)."""


@dataclass(frozen=True)
class KernelTraits:
    """What distinguishes the kernels that can be simulated: mm/vmalloc.c changed.

    Attributes
    ----------
    release
        As ``uname -r`` begins.
    merges_lazy
        Lazily freed areas that touch become one, and a purge gives them back in ascending order;
        else they stay apart, and go back in descending order (6.9).
    gives_back_at_once
        A purge gives all its areas back under one lock (6.9, mm/vmalloc.c: purge_vmap_node,
        reclaim_list_global); else others may get the lock between two of them.
    drains_once
        The worker purges once, however much waits afterwards (6.9).
    keeps_young_blocks
        vm_unmap_aliases() leaves fragmented blocks alone of which a quarter was never used, and
        flushes what is dirty in a block once, not at every call (6.5).
    """

    release: str
    merges_lazy: bool = True
    gives_back_at_once: bool = False
    drains_once: bool = False
    keeps_young_blocks: bool = False


KERNELS: Final = {
    "6.1": KernelTraits("6.1.0-50"),
    "6.5": KernelTraits("6.5.0-0.deb12.4", keeps_young_blocks=True),
    "6.12": KernelTraits(
        "6.12.95+deb12",
        merges_lazy=False,
        gives_back_at_once=True,
        drains_once=True,
        keeps_young_blocks=True,
    ),
}
"""The kernels by name."""

_FLAVOURS: Final = {"i386": ("-686", "-686-pae"), "arm": ("-armmp", "-armmp-lpae")}
_MOST_CPUS: Final = {"i386": 32, "arm": 8}
_ARM_RAM: Final = 0x4000_0000
"""Where RAM starts on QEMU's and many real boards."""


@dataclass(frozen=True)
class Board:
    """One machine with all the addresses of its kernel; made by :func:`make_board`.

    Attributes
    ----------
    arch, split, pae, cpus
        What was asked for.
    nr_cpus
        CONFIG_NR_CPUS.
    ram : tuple of (first byte, byte after the last)
    page_offset, high_memory, vmalloc_start, vmalloc_end, modules_start, modules_end
        Addresses.
    pkmap_base, pkmap_slots
        The window of kmap().
    fix_kmap
        Address of the first local slot of CPU 0; the others lie below.
    first_pfn, lowmem_end_pfn, max_pfn
        Frames: first RAM, first highmem, behind the last.
    page_struct, mem_map
        sizeof(struct page); address of that of frame `first_pfn`.
    kernel
        How it behaves.
    """

    arch: str
    split: str
    pae: bool
    cpus: int
    nr_cpus: int
    ram: tuple[tuple[int, int], ...]
    page_offset: int
    high_memory: int
    vmalloc_start: int
    vmalloc_end: int
    modules_start: int
    modules_end: int
    pkmap_base: int
    pkmap_slots: int
    fix_kmap: int
    first_pfn: int
    lowmem_end_pfn: int
    max_pfn: int
    page_struct: int
    mem_map: int
    kernel: KernelTraits = KERNELS["6.1"]

    @property
    def release(self) -> str:
        """As ``uname -r``."""
        return self.kernel.release + _FLAVOURS[self.arch][self.pae]

    @property
    def local_depth(self) -> int:
        """KM_MAX_IDX: slots per CPU, of which the last is never used."""
        return 16

    @property
    def lazy_max(self) -> int:
        """Pages that may wait for a purge. mm/vmalloc.c: lazy_max_pages."""
        return self.cpus.bit_length() * (32 * MIB // PAGE)

    @property
    def block_pages(self) -> int:
        """VMAP_BBMAP_BITS: pages of a vm_map_ram() block."""
        rounded = 1 << (self.nr_cpus - 1).bit_length()
        return min(1024, max(64, 128 * MIB // PAGE // rounded // 16))

    @property
    def stack_align(self) -> int:
        """Alignment of thread stacks in the arena; 0 where they are not in it (VMAP_STACK)."""
        return 0x4000 if self.arch == "arm" else 0

    def page(self, pfn: int) -> int:
        """Address of a frame's struct page (FLATMEM)."""
        return self.mem_map + (pfn - self.first_pfn) * self.page_struct

    def direct(self, pfn: int) -> int:
        """Address of a lowmem frame in the direct mapping."""
        return self.page_offset + (pfn - self.first_pfn) * PAGE

    def is_high(self, pfn: int) -> bool:
        """Whether a frame has no address of its own."""
        return pfn >= self.lowmem_end_pfn

    def local(self, cpu: int, index: int) -> int:
        """Address of a local slot. mm/highmem.c: __kmap_local_pfn_prot."""
        return self.fix_kmap - (index + self.local_depth * cpu) * PAGE


def make_board(
    arch: str = "i386",
    *,
    split: str = "3g",
    pae: bool = True,
    ram: int = GIB,
    cpus: int = 2,
    kernel: str = "6.1",
) -> Board:
    """Lay out a machine.

    Parameters
    ----------
    arch
        ``i386`` or ``arm``.
    split
        Key of :data:`SPLITS`.
    pae
        PAE, on ARM LPAE.
    ram
        Bytes.
    cpus
        CPUs that are online.
    kernel
        Key of :data:`KERNELS`.

    Raises
    ------
    HmtraceError
        Exit code 2: there is no such machine, or it would have no highmem.
    """
    if arch not in SPLITS:
        raise _wrong(f"architecture {arch!r} has no synthetic machine", ", ".join(SPLITS))
    if split not in SPLITS[arch]:
        raise _wrong(f"{arch} has no split {split!r}", ", ".join(SPLITS[arch]))
    if pae and SPLITS[arch][split] % GIB:
        raise _wrong(f"the {split} split needs a kernel without PAE or LPAE", "give --no-pae")
    if not 1 <= cpus <= _MOST_CPUS[arch]:
        raise _wrong(f"{cpus} CPUs", f"1 to {_MOST_CPUS[arch]} on {arch}")
    if kernel not in KERNELS:
        raise _wrong(f"kernel {kernel!r} cannot be simulated", ", ".join(KERNELS))
    board = (_i386 if arch == "i386" else _arm)(split, pae, ram, cpus)
    board = replace(board, kernel=KERNELS[kernel])
    if board.max_pfn - board.lowmem_end_pfn < 8 * MIB // PAGE:
        low = (board.lowmem_end_pfn - board.first_pfn) * PAGE // MIB
        raise _wrong(
            "this machine has no highmem (less than 8 MiB)",
            f"all its RAM is mapped directly: lowmem holds {low} MiB; give more --ram",
        )
    return board


def _wrong(message: str, hint: str) -> HmtraceError:
    return HmtraceError(message, hint=hint, exit_code=2)


def _down(value: int, unit: int) -> int:
    return value // unit * unit


def _mem_map(page_offset: int, low: int, pages: int, size: int) -> int:
    """Place mem_map at the top of lowmem. mm/page_alloc.c: alloc_node_mem_map."""
    return _down(page_offset + low - pages * size, PAGE) - PAGE


def _i386(split: str, pae: bool, ram: int, cpus: int) -> Board:  # noqa: FBT001
    nr_cpus, step, slots = 32, (2 * MIB if pae else 4 * MIB), (512 if pae else 1024)
    if ram > (64 if pae else 4) * GIB:
        raise _wrong(
            f"{ram // GIB} GiB are more than i386 can address", "64 GiB with --pae, else 4"
        )
    page_offset = SPLITS["i386"][split]
    permanent = 71 + 16 * nr_cpus
    boot_maps = -(-permanent // 512) * 512  # all 512 boot-time maps in one page table
    fix_start = 0xFFFF_F000 - (boot_maps + 513) * PAGE
    entry = _down(fix_start - (nr_cpus * 43 + 1) * PAGE, step)
    pkmap = _down(_down(entry - PAGE, step) - PAGE, step)
    vmalloc_end = pkmap - 2 * PAGE
    most = (vmalloc_end - page_offset - 128 * MIB) // PAGE
    # a PC's RAM ends below the PCI devices, the rest lies above 4 GiB
    near = ram if ram <= 3 * GIB + 512 * MIB else 3 * GIB
    ranges = [(0x1000, 0x9_FC00), (MIB, near)]
    if ram > near:
        ranges.append((4 * GIB, 4 * GIB + ram - near))
        if not pae:
            ranges.pop()
    max_pfn = ranges[-1][1] // PAGE
    low = min(max_pfn, most)
    high_memory = page_offset + low * PAGE
    size = 40
    first = _mem_map(page_offset, low * PAGE, -(-max_pfn // 1024) * 1024, size)
    return Board(
        "i386", split, pae, cpus, nr_cpus, tuple(ranges), page_offset, high_memory,
        high_memory + 8 * MIB, vmalloc_end, high_memory + 8 * MIB, vmalloc_end,
        pkmap, slots, 0xFFFF_F000 - 68 * PAGE, 0, low, max_pfn, size, first,
    )  # fmt: skip


def _arm(split: str, pae: bool, ram: int, cpus: int) -> Board:  # noqa: FBT001
    page_offset, vmalloc_end = SPLITS["arm"][split], 0xFF80_0000
    end = _ARM_RAM + ram
    if end > TOP and not pae:
        raise _wrong("RAM from 0x40000000 on would end above 4 GiB", "at most --ram 3G, or --pae")
    limit = vmalloc_end - 248 * MIB - page_offset + _ARM_RAM
    low_end = _down(min(end, limit), 2 * MIB)
    high_memory = page_offset + low_end - _ARM_RAM
    pages, size = ram // PAGE, 36
    return Board(
        "arm", split, pae, cpus, 8, ((_ARM_RAM, end),), page_offset, high_memory,
        _down(high_memory + 8 * MIB, 8 * MIB), vmalloc_end,
        page_offset - 16 * MIB, page_offset - 2 * MIB,
        page_offset - 2 * MIB, 512, 0xFFEF_F000 - PAGE,
        _ARM_RAM // PAGE, low_end // PAGE, end // PAGE, size,
        _mem_map(page_offset, low_end - _ARM_RAM, pages, size),
    )  # fmt: skip
