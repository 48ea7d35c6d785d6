"""The same machine with something else: what may be asked of a what-if machine."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from collectors.errors import HmtraceError
from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS, generation_for
from replay.machine.layout import layout_of
from replay.machine.model import MAX_POOL, GiB, MiB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.machine.costs import Costs
    from replay.machine.model import Arch, Machine, Ranges


def with_options(
    machine: Machine,
    *,
    split: str | None = None,
    ram: int | None = None,
    pae: bool | None = None,
    pkmap: int | None = None,
    vmalloc: int | None = None,
    cpus: int | None = None,
    nr_cpus: int | None = None,
    highmem: bool | None = None,
    page_size: int | None = None,
    generation: str | None = None,
    release: str | None = None,
    costs: Costs | None = None,
) -> Machine:
    """The same machine with something else: the what-if questions.

    Parameters
    ----------
    machine
        The machine that is changed.
    split, pae, vmalloc, cpus, generation, costs
        As its attributes; None: unchanged.
    ram
        Bytes of RAM; the ranges are made as the firmware of such a machine lays them out.
    pkmap
        Slots of the kmap() pool.
    nr_cpus
        CPUs that the kernel is built for; it leaves those beyond them off.
    highmem
        Whether it is built with CONFIG_HIGHMEM.
    release
        Version of the kernel, as ``uname -r`` prints it or shorter; decides `generation`.
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
    arch = _arch(machine.arch)
    wide = machine.pae if pae is None else pae
    if wide and not arch.pae_name:
        msg = f"{arch.name} has no PAE"
        raise HmtraceError(msg, hint="leave --pae out", exit_code=2)
    changes: dict[str, Any] = {"pae": wide}
    if page_size is not None:
        changes["page_size"] = page_size  # layout_of knows which exist
    name = machine.split if split is None else split.lower().replace("/", "_")
    _require_split(arch, name, wide)
    changes["split"] = name
    if split is not None:
        changes["page_offset"] = None  # the configuration's own number is that of another split
    if ram is not None:
        changes |= _ram_changes(machine, arch, ram, wide)
    elif machine.ram and machine.ram[-1][1] > (limit := _max_phys(arch, wide)):
        needs = f"needs {arch.pae_name}" if arch.pae_name else f"cannot be had on {arch.name}"
        msg = f"RAM up to {machine.ram[-1][1] / GiB:g} GiB {needs}"
        hint = f"give --ram as well, at most {limit // GiB}G"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    if wide != machine.pae:
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
    if highmem and not arch.has_highmem:
        msg = f"{arch.name} has no HIGHMEM"
        raise HmtraceError(msg, hint="leave --highmem out", exit_code=2)
    if highmem is not None:
        changes["highmem_enabled"] = highmem
    built_for = machine.nr_cpus if nr_cpus is None else nr_cpus
    if nr_cpus is not None:
        changes |= {"nr_cpus": nr_cpus, "cpus": max(1, min(machine.cpus, nr_cpus))}
    if cpus is not None:
        if not 1 <= cpus <= built_for:
            msg = f"{cpus} CPUs: the kernel is built for 1 to {built_for} (NR_CPUS)"
            hint = f"give --cpus up to {built_for}, or --nr-cpus as well"
            raise HmtraceError(msg, hint=hint, exit_code=2)
        changes["cpus"] = cpus
    if generation is not None:
        if generation not in GENERATIONS:
            msg = f"unknown kernel generation {generation!r}"
            hint = _did_you_mean(generation, list(GENERATIONS))
            raise HmtraceError(msg, hint=hint, exit_code=2)
        changes["generation"] = generation
    if release is not None:
        changes |= {"release": release, "generation": generation_for(release)}
    if changes.get("generation", machine.generation) != machine.generation:
        changes["vmalloc_end"] = None  # a number of the platform's in the other kernel
    if costs is not None:
        changes["costs"] = costs
    changed = replace(machine, **changes)
    if replace(changed, cpus=machine.cpus, costs=machine.costs) != machine:
        # what its files say is of the captured machine; but that its kernel follows a rule stays
        known = changed.border_told and machine.told is None
        known = known and changed.generation == machine.generation
        changed = replace(changed, told=None, border_told=known)
    _require_layout(changed)
    return changed


class KernelSplit(NamedTuple):
    """A split that a kernel can be built with.

    Attributes
    ----------
    name
        Key in the architecture's table.
    without
        What the kernel has to be built without for it: ``PAE``; empty: nothing.
    proposed
        Where no released kernel has it, the state of things.
    """

    name: str
    without: str
    proposed: str | None


def kernel_splits(machine: Machine) -> Iterator[KernelSplit]:
    """The splits of a machine's kernel, those with most room for a process first."""
    arch = _arch(machine.arch)
    since = GENERATIONS[machine.generation].since
    for name in sorted(arch.splits, key=lambda name: -arch.splits[name]):
        if since >= arch.younger_splits.get(name, (0, 0)):
            drops = machine.pae and name not in arch.pae_splits
            yield KernelSplit(name, arch.pae_name if drops else "", arch.proposed_splits.get(name))


def _ram_changes(machine: Machine, arch: Arch, ram: int, pae: bool) -> dict[str, Any]:  # noqa: FBT001
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
    nominal = -(-machine.ram_bytes // (32 * MiB)) * (32 * MiB)
    ranges: Ranges = machine.ram if ram == nominal else arch.ram_for(ram, machine.ram, pae)
    if ram == nominal:
        return {"ram": ranges, "mem": None}
    # what was told of the captured machine's frames is not of these
    return {"ram": ranges, "mem": None, "mem_map": None, "nomap": (), "acpi": ()}


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
    layout = layout_of(machine)
    if layout.mem_map_bytes >= layout.lowmem_bytes:
        msg = (
            f"the page array of {machine.ram_bytes / GiB:.1f} GiB of RAM takes "
            f"{layout.mem_map_bytes // MiB} MiB of {layout.lowmem_bytes // MiB} MiB of lowmem"
        )
        hint = "give a split with more lowmem, or less --ram"
        raise HmtraceError(msg, hint=hint, exit_code=2)


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
