"""What the simulated kernel's tracer records: probes, their arguments, and the symbols.

The probes are those of the README and the recorder. A symbol's size and place are made up; only
the names are a real kernel's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.probes import FUNCTION_OF, FUNCTIONS, slot_of
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

HEX, UNSIGNED, SIGNED, BYTE = "x32", "u32", "s32", "x8"
"""Types of arguments, as kprobe_events has them."""


@dataclass(frozen=True)
class SimulatedProbe:
    """A probe at the entry or the return of a function.

    Attributes
    ----------
    name
        Of the event.
    function
        That is probed.
    args
        (name, type) of each value.
    returns
        Return probe.
    preempt
        Preemption depth that the event shows.
    """

    name: str
    function: str
    args: tuple[tuple[str, str], ...] = ()
    returns: bool = False
    preempt: int = 0


def _pair(
    name: str, function: str, args: Iterable[tuple[str, str]], result: Iterable[tuple[str, str]]
) -> tuple[SimulatedProbe, SimulatedProbe]:
    return SimulatedProbe(name, function, tuple(args)), SimulatedProbe(
        f"{name}_ret", function, tuple(result), returns=True
    )


_VADDR = (("vaddr", HEX),)
_RANGE = (("start", HEX), ("end", HEX))

PROBES: Final = (
    *_pair("kmap_high", "kmap_high", [("page", HEX)], _VADDR),
    SimulatedProbe("kunmap_high", "kunmap_high", (("page", HEX),)),
    SimulatedProbe("flush_all_zero_pkmaps", "flush_all_zero_pkmaps", preempt=1),
    SimulatedProbe("kmap_flush_unused", "__kmap_flush_unused"),
    *_pair("kmap_local_page", "__kmap_local_page_prot", [("page", HEX)], _VADDR),
    *_pair("kmap_local_pfn", "__kmap_local_pfn_prot", [("pfn", HEX)], _VADDR),
    SimulatedProbe("kunmap_local", "kunmap_local_indexed", _VADDR),
    SimulatedProbe("kmap_local_sched_out", "__kmap_local_sched_out", preempt=2),
    SimulatedProbe("kmap_local_sched_in", "__kmap_local_sched_in", preempt=2),
    SimulatedProbe("flush_tlb_kernel_range", "flush_tlb_kernel_range", _RANGE),
    SimulatedProbe("flush_tlb_all", "flush_tlb_all"),
    *_pair("vmap", "vmap", [("pages", HEX), ("count", UNSIGNED), ("flags", HEX)], _VADDR),
    SimulatedProbe("vunmap", "vunmap", _VADDR),
    *_pair("vm_map_ram", "vm_map_ram", [("pages", HEX), ("count", UNSIGNED), ("node", SIGNED)],
           _VADDR),
    SimulatedProbe("vm_unmap_ram", "vm_unmap_ram", (("vaddr", HEX), ("count", UNSIGNED))),
    *_pair("alloc_vmap_area", "alloc_vmap_area",
           [("size", HEX), ("align", HEX), ("vstart", HEX), ("vend", HEX)],
           [("va", HEX), ("va_start", HEX), ("va_end", HEX)]),
    SimulatedProbe("free_vmap_area_noflush", "free_vmap_area_noflush",
          (("va", HEX), ("va_start", HEX), ("va_end", HEX))),
    *_pair("purge_vmap_area_lazy", "__purge_vmap_area_lazy", _RANGE, [("ret", BYTE)]),
    SimulatedProbe("purge_fragmented_blocks", "purge_fragmented_blocks_allcpus"),
    SimulatedProbe("vm_unmap_aliases_part", "_vm_unmap_aliases", (*_RANGE, ("flush", SIGNED))),
    *_pair("vmalloc", "__vmalloc_node_range",
           [("size", HEX), ("align", HEX), ("start", HEX), ("end", HEX)], _VADDR),
    SimulatedProbe("vfree", "vfree", _VADDR),
)  # fmt: skip
"""Everything that is probed; the position of a probe is its number in records."""

NUMBER: Final = {probe.name: number for number, probe in enumerate(PROBES)}
SWITCH: Final = len(PROBES)
"""Number of sched:sched_switch."""

_REGISTERS: Final = {
    "i386": ("%ax", "%dx", "%cx", "$stack1"),
    "arm": ("%r0", "%r1", "%r2", "%r3"),
}


def definition(probe: SimulatedProbe, arch: str) -> str:
    """Line of kprobe_events that makes this probe."""
    code = FUNCTION_OF[probe.function]
    read = ("$retval",) if probe.returns else ("", *_REGISTERS[arch])
    words = ["r256" if probe.returns else "p"]
    words[0] += f":hm/{probe.name}"
    words.append(probe.function)
    for name, kind in probe.args:
        slot = slot_of(code, name, is_return=probe.returns)
        if slot is None:
            raise ValueError(f"{probe.function} has no {name}")
        where = FUNCTIONS[code].fetch(slot, is_return=probe.returns).format(*read)
        words.append(f"{name}={where}:{kind}")
    return " ".join(words)


class TracedEvent(NamedTuple):
    """One event as the tracer saw it.

    Attributes
    ----------
    ts
        Nanoseconds; no two events share one.
    cpu, pid, comm
        Where and who.
    probe
        Position in :data:`PROBES`, or :data:`SWITCH`.
    values
        Arguments; of a switch: (prev_comm, prev_pid, state, next_comm, next_pid).
    site
        Return probes: where the function was called from, as index in :data:`SITES`; else 0.
    pinned
        The task may not migrate (migrate_disable).
    """

    ts: int
    cpu: int
    pid: int
    comm: str
    probe: int
    values: tuple[Any, ...]
    site: int
    pinned: bool


# Symbols ------------------------------------------------------------------------------------

_FUNCTIONS: Final = sorted({probe.function for probe in PROBES})

SITES: Final = (
    "kernel_init+0x0",  # index 0: nobody
    # the kernel's own
    "__kmap_local_page_prot+0x51", "alloc_vmap_area+0x2a4", "__get_vm_area_node+0xb4",
    "vmap+0x65", "__vmalloc_node_range+0x9d", "new_vmap_block+0x72", "vm_map_ram+0x2f1",
    "drain_vmap_area_work+0x36", "_vm_unmap_aliases+0x128", "change_page_attr_set_clr+0xe9",
    # scenarios'
    "dir_get_page+0x5e", "minix_find_entry+0x8c", "minix_make_empty+0x4b",
    "copy_page_to_iter+0x1b3", "copy_page_from_iter_atomic+0x17d", "block_read_full_folio+0x3d",
    "zram_bvec_rw+0x3e6", "zs_map_object+0xd7", "zs_compact+0x242", "clear_huge_page+0x58",
    "copy_page_range+0x4aa", "handle_mm_fault+0x2e9", "unmap_page_range+0x2f8",
    "copy_strings+0x1c2", "wp_page_copy+0xb6", "module_alloc+0x4d", "load_module+0x7c1",
    "do_init_module+0x1a4", "free_module+0xce", "bpf_prog_alloc_no_stats+0x2b",
    "kernel_clone+0x9d", "sendfile_pages+0x71", "pipe_buf_gather+0x44", "ubifs_leb_read+0x88",
    "crypto_gather+0x39", "kunmap_missing+0x21", "old_driver_copy+0x66", "xfs_buf_map+0xd2",
    "erofs_decompress+0x1fd", "f2fs_decompress+0x153", "dma_frame_vmap+0x57", "udmabuf_vmap+0x3a",
    "snd_ring_alloc+0x28", "socket_ring_alloc+0x6c", "readahead_gather+0x94",
)  # fmt: skip
"""Call sites: return addresses as ``function+offset``."""

SITE: Final = {site.partition("+")[0]: number for number, site in enumerate(SITES)}
"""Number of the call site in each function."""

SIZE: Final = 0x1400
"""Bytes of every function."""


class SymbolMap:
    """Where the functions of one machine are.

    Parameters
    ----------
    page_offset
        The kernel's text starts 16 MiB above it.
    """

    def __init__(self, page_offset: int) -> None:
        names = sorted({*_FUNCTIONS, *SITE})
        base = page_offset + 0x0100_0000
        self.address = {name: base + number * SIZE for number, name in enumerate(names)}
        self.site = [
            self.address[name] + int(offset, 16)
            for name, _, offset in (site.partition("+") for site in SITES)
        ]

    def kallsyms(self) -> str:
        """Lines of /proc/kallsyms."""
        lines = [f"{address:08x} T {name}" for name, address in self.address.items()]
        end = max(self.address.values()) + SIZE
        return "\n".join([*lines, f"{end:08x} T _etext"]) + "\n"
