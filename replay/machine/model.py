"""The machine that a trace is replayed on: one immutable description.

Everything that follows from it (address map, limits, zones) is derived in
:mod:`replay.machine.layout`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from collectors.events import HmtraceError
from replay.cost.formulas import Costs
from replay.machine.arches import ARCHES
from replay.machine.arches.base import MAX_POOL, PAGE, GiB, MiB
from replay.machine.generations import DEFAULT, GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replay.machine.arches.base import Arch, Ranges


@dataclass(frozen=True)
class Machine:
    """A 32-bit HIGHMEM machine and its kernel's configuration.

    Attributes
    ----------
    arch
        Key in :data:`replay.machine.arches.ARCHES`: ``i386``, ``arm``.
    split
        Key in the architecture's split table: ``3g``, ``3g_opt``, ``2g``, ``2g_opt``, ``1g``; of
        architectures without such a choice the one that they have.
    ram
        Usable physical ranges as (first byte, byte after the last), ascending.
    pae
        PAE on i386, LPAE on ARM.
    cpus
        Online CPUs.
    nr_cpus
        CONFIG_NR_CPUS: the fixmap and the vmap blocks are sized by it.
    pkmap_slots
        LAST_PKMAP where it is not the architecture's own.
    vmalloc
        ``vmalloc=`` in bytes (ARC: CONFIG_ARC_KVADDR_SIZE); None: the architecture's default.
    highmem
        ``highmem=`` in bytes; None: not given.
    mem
        ``mem=`` in bytes; None: not given.
    reservetop
        ``reservetop=`` in bytes (i386).
    generation
        Key in :data:`replay.machine.generations.GENERATIONS`: a set of named behaviours.
    config
        The CONFIG_* switches that are on, without the prefix, of those that matter; empty: the
        default of the distribution kernels that the architecture module names.
    page_struct
        sizeof(struct page) in bytes.
    mem_map
        Address of struct page of the first frame; None where unknown.
    release
        ``uname -r``, shown only.
    costs
        Nanoseconds per elementary operation.
    highmem_enabled
        CONFIG_HIGHMEM.
    phys_offset
        Physical address of PAGE_OFFSET on ARM; None: the start of RAM.
    tlb_erratum
        The CPU needs the workaround of ARM erratum 798181.
    pti
        Page-table isolation is on (i386 with PAE).
    tlb_flush
        How the CPUs flush: on x86 what drops a whole TLB, ``invpcid``, ``pge`` or ``cr3``; on ARM
        what reaches the other CPUs, ``broadcast`` or ``ipi``. Empty: not known, and taken for
        ``pge``, and for what the configuration says.
    page_size
        Bytes per page.
    lowmem_limit
        Most lowmem in bytes where the configuration or the platform says: CONFIG_LOWMEM_SIZE
        (powerpc32, microblaze), HIGHMEM_START (mips32); None: the default.
    dma_zone
        Bytes from the start of RAM that ZONE_DMA ends after on ARM boards that limit it
        (``dma_zone_size``); None: it holds all of lowmem, where it exists.
    huge_pages
        Transparent huge pages are on: the kernel keeps more memory free for them.
    cache_colours
        Colours of the data cache: its way size by the page size, where that is larger
        (xtensa, mips32).
    """

    arch: str
    split: str = "3g"
    ram: tuple[tuple[int, int], ...] = ((0, 1 << 30),)
    pae: bool = False
    cpus: int = 1
    nr_cpus: int = 32
    pkmap_slots: int | None = None
    vmalloc: int | None = None
    highmem: int | None = None
    mem: int | None = None
    reservetop: int | None = None
    generation: str = DEFAULT
    config: frozenset[str] = frozenset()
    page_struct: int = 32
    mem_map: int | None = None
    release: str = ""
    costs: Costs = field(default_factory=Costs.default)
    highmem_enabled: bool = True
    phys_offset: int | None = None
    tlb_erratum: bool = False
    pti: bool = False
    tlb_flush: str = ""
    page_size: int = PAGE
    lowmem_limit: int | None = None
    cache_colours: int = 1
    dma_zone: int | None = None
    huge_pages: bool = False

    @property
    def ram_bytes(self) -> int:
        """Bytes of usable RAM."""
        return sum(end - start for start, end in self.ram)

    @classmethod
    def from_facts(cls, values: Mapping[str, Any]) -> tuple[Machine, tuple[str, ...]]:
        """Describe the machine that a capture was made on.

        Parameters
        ----------
        values
            ``Facts.values()``; any of them may be missing.

        Returns
        -------
        machine
            With the distribution kernels' defaults where the facts say nothing.
        assumptions
            In words, what was assumed for want of facts.

        Raises
        ------
        HmtraceError
            If the facts name an architecture that hmtrace does not model.
        """
        from replay.machine.from_facts import describe

        return describe(cls, values)

    def with_options(
        self,
        *,
        split: str | None = None,
        ram: int | None = None,
        pae: bool | None = None,
        pkmap: int | None = None,
        vmalloc: int | None = None,
        cpus: int | None = None,
        page_size: int | None = None,
        generation: str | None = None,
        costs: Costs | None = None,
    ) -> Machine:
        """The same machine with something else: the what-if questions.

        Parameters
        ----------
        split, pae, vmalloc, cpus, generation, costs
            As the attributes; None: unchanged.
        ram
            Bytes of RAM; the ranges are made as the firmware of such a machine lays them out.
        pkmap
            Slots of the kmap() pool.
        page_size
            Bytes per page.

        Returns
        -------
        Machine
            Whose layout is known to exist.

        Raises
        ------
        HmtraceError
            Exit code 2, with a hint, for a combination that cannot exist.
        """
        arch = _arch(self.arch)
        wide = self.pae if pae is None else pae
        if wide and not arch.pae_name:
            msg = f"{arch.name} has no PAE"
            raise HmtraceError(msg, hint="leave --pae out", exit_code=2)
        changes: dict[str, Any] = {"pae": wide}
        if page_size is not None:
            changes["page_size"] = page_size  # layout_of knows which exist
        name = self.split if split is None else split.lower().replace("/", "_")
        _require_split(arch, name, wide)
        changes["split"] = name
        if ram is not None:
            changes |= self._ram_changes(arch, ram, wide)
        elif self.ram and self.ram[-1][1] > (limit := _max_phys(arch, wide)):
            needs = f"needs {arch.pae_name}" if arch.pae_name else f"cannot be had on {arch.name}"
            msg = f"RAM up to {self.ram[-1][1] / GiB:g} GiB {needs}"
            hint = f"give --ram as well, at most {limit // GiB}G"
            raise HmtraceError(msg, hint=hint, exit_code=2)
        if wide != self.pae:
            changes["pkmap_slots"] = None  # the other page-table format has its own pool size
        if pkmap is not None:
            if not 1 <= pkmap <= MAX_POOL:
                msg = f"a pool of {pkmap} slots is not between 1 and {MAX_POOL}"
                hint = "kernels have 512 or 1024"
                raise HmtraceError(msg, hint=hint, exit_code=2)
            changes["pkmap_slots"] = pkmap
        if vmalloc is not None:
            if not arch.arena_option:
                msg = f"the arena of {arch.name} has a fixed place; vmalloc= does not exist there"
                raise HmtraceError(msg, hint="leave --vmalloc out", exit_code=2)
            if vmalloc < MiB:
                msg = f"an arena of {vmalloc} bytes is too small"
                hint = "give a size such as --vmalloc 256M"
                raise HmtraceError(msg, hint=hint, exit_code=2)
            changes["vmalloc"] = vmalloc
        if cpus is not None:
            if not 1 <= cpus <= self.nr_cpus:
                msg = f"{cpus} CPUs: the kernel is built for 1 to {self.nr_cpus} (NR_CPUS)"
                raise HmtraceError(msg, hint=f"give --cpus up to {self.nr_cpus}", exit_code=2)
            changes["cpus"] = cpus
        if generation is not None:
            if generation not in GENERATIONS:
                msg = f"unknown kernel generation {generation!r}"
                hint = _did_you_mean(generation, list(GENERATIONS))
                raise HmtraceError(msg, hint=hint, exit_code=2)
            changes["generation"] = generation
        if costs is not None:
            changes["costs"] = costs
        changed = replace(self, **changes)
        _require_layout(changed)
        return changed

    def _ram_changes(self, arch: Arch, ram: int, pae: bool) -> dict[str, Any]:  # noqa: FBT001
        limit = _max_phys(arch, pae)
        if not 16 * MiB <= ram <= limit:
            if limit < ram <= arch.max_phys_pae:
                msg = f"{ram / GiB:g} GiB of RAM need {arch.pae_name}"
                hint = f"give --pae, or at most --ram {limit // GiB}G"
            else:
                msg = f"{ram / GiB:g} GiB of RAM are not between 16 MiB and {limit // GiB} GiB"
                hint = "give a size such as --ram 4G"
            raise HmtraceError(msg, hint=hint, exit_code=2)
        # the firmware keeps a little of RAM for itself; a nominal size means the same machine
        nominal = -(-self.ram_bytes // (32 * MiB)) * (32 * MiB)
        ranges: Ranges = self.ram if ram == nominal else arch.ram_for(ram, self.ram, pae)
        return {"ram": ranges, "mem": None, "mem_map": self.mem_map if ram == nominal else None}


def _arch(name: str) -> Arch:
    arch = ARCHES.get(name)
    if arch is None:
        msg = f"hmtrace has no model of architecture {name!r}"
        raise HmtraceError(msg, hint=_did_you_mean(name, list(ARCHES)), exit_code=2)
    return arch


def _max_phys(arch: Arch, pae: bool) -> int:  # noqa: FBT001
    return arch.max_phys_pae if pae else arch.max_phys


def _require_split(arch: Arch, split: str, pae: bool) -> None:  # noqa: FBT001
    if split not in arch.splits:
        msg = f"{arch.name} has no split {split!r}"
        raise HmtraceError(msg, hint=f"it has {', '.join(arch.splits)}", exit_code=2)
    if pae and split not in arch.pae_splits:
        msg = f"the split {split} does not exist with {arch.pae_name}"
        hint = (
            f"give --no-pae, or one of {', '.join(s for s in arch.splits if s in arch.pae_splits)}"
        )
        raise HmtraceError(msg, hint=hint, exit_code=2)


def _require_layout(machine: Machine) -> None:
    """Fail now, with the option's name, rather than when the layout is asked for."""
    from replay.machine.layout import layout_of

    layout = layout_of(machine)
    if layout.mem_map_bytes + 32 * MiB > layout.lowmem_bytes:
        msg = (
            f"the page array of {machine.ram_bytes / GiB:.1f} GiB of RAM takes "
            f"{layout.mem_map_bytes // MiB} MiB of {layout.lowmem_bytes // MiB} MiB of lowmem"
        )
        hint = "give a split with more lowmem, or less --ram"
        raise HmtraceError(msg, hint=hint, exit_code=2)


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
