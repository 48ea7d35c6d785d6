"""The machine's files beside a trace, as a recorder copies them from a real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from collectors.synthetic.board import GIB, MIB, PAGE
from collectors.synthetic.probes import PROBES, SymbolMap, definition

if TYPE_CHECKING:
    from collectors.synthetic.board import Board
    from collectors.synthetic.kernel import Kernel

_SWITCHES = {
    "i386": "X86_32 SMP HIGHMEM X86_LOCAL_APIC X86_IO_APIC PCI_MMCONFIG ACPI_APEI_GHES "
    "CPU_SUP_INTEL X86_IOPL_IOPERM ZONE_DMA MEMCG SLUB HIGHPTE FLATMEM MODULES",
    "arm": "ARM SMP HIGHMEM HIGHPTE CPU_V7 CPU_TLB_V7 ARM_ERRATA_798181 ARM_ERRATA_720789 "
    "MEMCG SLUB FLATMEM ZONE_DMA MODULES VMAP_STACK",
}
"""What Debian's kernels have of the switches that matter."""


def machine_files(kernel: Kernel) -> dict[str, str]:
    """Files by name, of the moment before the trace.

    Parameters
    ----------
    kernel
        Booted, no task started yet.
    """
    board = kernel.board
    return {
        "version": f"Linux version {board.release} (hmtrace synth) #1 SMP simulated\n",
        "cmdline": "console=ttyS0 nokaslr\n",
        "config": _config(board),
        "iomem": "".join(f"{a:08x}-{b - 1:08x} : System RAM\n" for a, b in board.ram),
        "zoneinfo": _zoneinfo(board),
        "meminfo": _meminfo(board),
        "cpuinfo": _cpuinfo(board),
        "kallsyms": SymbolMap(board.page_offset).kallsyms(),
        "kprobe_events": "".join(f"{definition(p, board.arch)}\n" for p in PROBES),
        "trace_clock": "[local] global counter uptime perf mono mono_raw boot tai\n",
        "vmallocinfo.start": _vmallocinfo(kernel),
        "pkmap.start": _pkmap(kernel),
        "state.json": json.dumps(_state(kernel)) + "\n",
    }


def _config(board: Board) -> str:
    name = {"i386": "x86", "arm": "arm"}[board.arch]
    on = [*_SWITCHES[board.arch].split(), f"VMSPLIT_{board.split.upper()}"]
    if board.pae:
        on.append("X86_PAE" if board.arch == "i386" else "ARM_LPAE")
    if board.arch == "i386":
        on.append("HIGHMEM64G" if board.pae else "HIGHMEM4G")
    lines = [f"# Linux/{name} {board.release.partition('-')[0]} Kernel Configuration"]
    lines += [f"CONFIG_{switch}=y" for switch in sorted(on)]
    lines += [f"CONFIG_NR_CPUS={board.nr_cpus}", f"CONFIG_PAGE_OFFSET=0x{board.page_offset:X}"]
    return "\n".join(lines) + "\n"


def _zones(board: Board) -> list[tuple[str, int, int]]:
    """Name, first frame, frame behind the last."""
    if board.arch == "arm":
        lower = [("DMA", board.first_pfn, board.lowmem_end_pfn)]
    else:
        lower = [("DMA", 1, 4096), ("Normal", 4096, board.lowmem_end_pfn)]
    return [*lower, ("HighMem", board.lowmem_end_pfn, board.max_pfn)]


def _present(board: Board, first: int, end: int) -> int:
    pieces = ((max(a // PAGE, first), min(b // PAGE, end)) for a, b in board.ram)
    return sum(max(0, b - a) for a, b in pieces)


def _zoneinfo(board: Board) -> str:
    lines = []
    for name, first, end in _zones(board):
        present = _present(board, first, end)
        lines += [
            f"Node 0, zone {name:>8}", f"        spanned  {end - first}",
            f"        present  {present}", f"        managed  {present}",
            f"  start_pfn:           {first}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _meminfo(board: Board) -> str:
    first = board.first_pfn or 1
    low = _present(board, first, board.lowmem_end_pfn) * 4
    high = _present(board, board.lowmem_end_pfn, board.max_pfn) * 4
    arena = (board.vmalloc_end - board.vmalloc_start) // 1024
    values = {"MemTotal": low + high, "HighTotal": high, "LowTotal": low, "VmallocTotal": arena}
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in values.items())


def _cpuinfo(board: Board) -> str:
    if board.arch == "i386":
        flags = "fpu de tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat sse sse2"
        one = f"vendor_id\t: Simulated\nmodel name\t: simulated 32-bit PC\nflags\t\t: {flags}\n"
    else:
        one = (
            "model name\t: simulated ARMv7 board\nFeatures\t: half thumb vfp neon lpae\n"
            "CPU implementer\t: 0x41\nCPU variant\t: 0x0\nCPU part\t: 0xc07\nCPU revision\t: 5\n"
        )
    return "\n".join(f"processor\t: {cpu}\n{one}" for cpu in range(board.cpus))


def _vmallocinfo(kernel: Kernel) -> str:
    lines = []
    for start, area in sorted(kernel.arena.busy.items()):
        size = area.end - start
        tail = f"phys=0x{0xFE00_0000 + start % MIB:016x}" if area.kind == "ioremap" else (
            f"pages={size // PAGE - 1}")  # fmt: skip
        lines.append(f"0x{start:08x}-0x{area.end:08x} {size:7d} {area.caller} {tail} {area.kind}")
    return "\n".join(lines) + "\n"


def _pkmap(kernel: Kernel) -> str:
    """What a reader of /proc/kcore prints; the word is mem_map."""
    board = kernel.board
    low = board.high_memory - board.page_offset
    arena = board.vmalloc_end - board.vmalloc_start
    return (
        f"# phdr 1 type 1 va {board.vmalloc_start:x} memsz {arena:x} off 37800000\n"
        f"# phdr 2 type 1 va {board.page_offset:x} memsz {low:x} off 2000\n"
        f"last_pkmap_nr {kernel.pool.last} (rc 0 0 0 0) npk {board.pkmap_slots}\n"
        f"word {board.page_offset + 0x1EE_0A24:x} = {board.mem_map:08x}\n"
    )


def _state(kernel: Kernel) -> dict[str, Any]:
    busy = [(start, area.end) for start, area in sorted(kernel.arena.busy.items())]
    return {
        "free": kernel.arena.free.as_json(),
        "busy": _balanced(busy),
        "lazy": _balanced(kernel.arena.lazy),
        "lazy_nr": kernel.arena.lazy_pages,
        "last": kernel.pool.last,
        "count": {},
    }


def _balanced(areas: list[tuple[int, int]]) -> list[Any] | None:
    """A search tree over areas; only that of free blocks has to have the kernel's shape."""
    if not areas:
        return None
    middle = len(areas) // 2
    start, end = areas[middle]
    return [start, end, 0, _balanced(areas[:middle]), _balanced(areas[middle + 1 :])]


def describe(board: Board) -> dict[str, Any]:
    """The machine in the file of the true outcome."""
    ram = sum(b - a for a, b in board.ram)
    return {
        "arch": board.arch, "pae": board.pae, "split": board.split, "cpus": board.cpus,
        "ram_mib": ram // MIB, "ram_gib": round(ram / GIB, 2), "release": board.release,
        "pkmap_base": board.pkmap_base, "pkmap_slots": board.pkmap_slots,
        "vmalloc_start": board.vmalloc_start, "vmalloc_end": board.vmalloc_end,
        "lowmem_end_pfn": board.lowmem_end_pfn, "max_pfn": board.max_pfn,
    }  # fmt: skip
