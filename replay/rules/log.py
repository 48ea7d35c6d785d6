"""What the kernel's log says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case


class VmapFailuresLogged(NamedTuple):
    """Lines of the kernel's log about failed vmap allocations."""

    lines: int


class KmapWarningsLogged(NamedTuple):
    """Lines of the kernel's log that warn about kmap."""

    lines: int


def _vmap_log(case: Case) -> Iterator[Finding]:
    """mm/vmalloc.c: alloc_vmap_area complains where it fails."""
    lines = case.snapshot.vmap_failures or 0
    if lines and not case.is_whatif:  # another machine's kernel did not say it
        yield Finding("arena-exhausted-log", "warning", VmapFailuresLogged(lines), lines)


def _kmap_log(case: Case) -> Iterator[Finding]:
    """mm/highmem.c: the kernel's own warnings."""
    lines = case.snapshot.kmap_warnings or 0
    if lines and not case.is_whatif:
        yield Finding("kmap-warnings-log", "warning", KmapWarningsLogged(lines), lines)


class RamComplaints(NamedTuple):
    """What the kernel's log says of RAM that it does not take as it was given, a line each."""

    lines: tuple[str, ...]


def _ram_log(case: Case) -> Iterator[Finding]:
    """arch/arm/mm/mmu.c: adjust_lowmem_bounds; arch/x86/mm/init_32.c: highmem_pfn_init."""
    lines = case.snapshot.highmem_complaints
    if lines and not case.is_whatif:
        yield Finding("ram-log", "warning", RamComplaints(tuple(lines)), len(lines))


VMAP_LOG: Final = FindingRule(
    "arena-exhausted-log", ("warning",),
    "The kernel's log has failed allocations of address space, some time since boot.",
    "as for arena-exhausted; a capture of that time tells who asks for what",
    _vmap_log, (evidence.LOG,),
)  # fmt: skip
KMAP_LOG: Final = FindingRule(
    "kmap-warnings-log", ("warning",),
    "The kernel's log has its own warnings about temporary mappings.",
    "the log names the call that is wrong",
    _kmap_log, (evidence.LOG,),
)  # fmt: skip
RAM_LOG: Final = FindingRule(
    "ram-log", ("warning",),
    "The kernel's log says that it leaves RAM alone, or has no highmem as it was told to.",
    "the log names the range or the option; a split with more lowmem, or HIGHMEM",
    _ram_log, (evidence.LOG,),
)  # fmt: skip
RULES: Final = (VMAP_LOG, KMAP_LOG, RAM_LOG)
