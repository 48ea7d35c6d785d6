"""The same machine with something else: what may be asked of a what-if machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError, one_of
from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS, generation_for
from replay.machine.kconfig import is_realtime
from replay.machine.layout import layout_of
from replay.machine.model import MAX_POOL, GiB, MiB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from replay.machine.costs import Costs
    from replay.machine.model import Arch, Machine, Ranges


_NOT_OF_THE_MAP: Final = ("cpus", "costs", "converted", "config")
"""What may differ while the address map stays that of the captured machine; of the configuration
nothing is changed but where page tables lie."""
_CONVERSION: Final = "kmap=kmap_local"
UNSET: Final = -1
"""In place of a boot option's value: it is not given."""


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
    highmem_size: int | None = None,
    highpte: bool | None = None,
    page_size: int | None = None,
    generation: str | None = None,
    release: str | None = None,
    convert: Sequence[str] | None = None,
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
    highmem_size
        Boot option ``highmem=``: bytes of the highmem zone; :data:`UNSET`: not given.
    highpte
        Whether it is built with CONFIG_HIGHPTE.
    release
        Version of the kernel, as ``uname -r`` prints it or shorter; decides `generation`.
    page_size
        Bytes per page.
    convert
        Call sites that have kmap_local_page() in place of kmap() (:func:`conversion_of`).

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
    if highmem_size is not None:
        changes["highmem"] = _highmem_size(arch, highmem_size)
    if highpte is not None:
        built = replace(
            machine, highmem_enabled=changes.get("highmem_enabled", machine.highmem_enabled)
        )
        changes["config"] = _config_with(built, arch, highpte=highpte)
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
            hint = one_of(generation, GENERATIONS)
            raise HmtraceError(msg, hint=hint, exit_code=2)
        changes["generation"] = generation
    if release is not None:
        changes |= {"release": release, "generation": generation_for(release)}
    if changes.get("generation", machine.generation) != machine.generation:
        changes["vmalloc_end"] = None  # a number of the platform's in the other kernel
        config = changes.get("config", machine.config)
        if not GENERATIONS[machine.generation].local_per_cpu and not is_realtime(config):
            # 5.11 brought it; where an older kernel has it, RT patches did
            changes["config"] = config - {"KMAP_LOCAL"}
    if costs is not None:
        changes["costs"] = costs
    if convert is not None:
        changes["converted"] = tuple(convert)
    changed = replace(machine, **changes)
    if replace(changed, **{name: getattr(machine, name) for name in _NOT_OF_THE_MAP}) != machine:
        # what its files say is of the captured machine; but that its kernel follows a rule stays
        known = changed.border_told and machine.told is None
        known = known and changed.generation == machine.generation
        changed = replace(changed, told=None, border_told=known)
    _require_layout(changed)
    _require_local(changed)
    if highmem_size is not None:
        _require_highmem(changed)
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


def has_highpte(machine: Machine) -> bool:
    """Whether user page tables come from highmem."""
    arch = _arch(machine.arch)
    config = machine.config or arch.default_config
    is_there = arch.name != "i386" or GENERATIONS[machine.generation].x86_highpte
    return arch.has_highpte and is_there and "HIGHPTE" in config and machine.highmem_enabled


def conversion_of(text: str) -> str:
    """The call site of a conversion, empty for all of them.

    Parameters
    ----------
    text
        ``kmap=kmap_local`` or ``kmap=kmap_local@SITE``.

    Raises
    ------
    HmtraceError
        Exit code 2: it is something else.

    Examples
    --------
    >>> conversion_of("kmap=kmap_local@dir_get_page"), conversion_of("kmap=kmap_local")
    ('dir_get_page', '')
    """
    what, has_site, site = text.partition("@")
    if what.replace(" ", "") != _CONVERSION or (has_site and not site):
        msg = f"--convert: {text!r} is no conversion"
        hint = f"{_CONVERSION} for all call sites, {_CONVERSION}@SITE for one"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    return site


def _require_local(machine: Machine) -> None:
    """Refuse to convert what a kernel does not have.

    It came with 5.11: f3ba3c710ac5 "mm/highmem: Provide kmap_local*".
    """
    for text in machine.converted:
        conversion_of(text)
    if machine.converted and layout_of(machine).kmap_per_cpu:
        msg = "--convert: this kernel has no kmap_local_page(), which came with 5.11"
        raise HmtraceError(msg, hint="give --kernel 6.1 as well", exit_code=2)


def _highmem_size(arch: Arch, size: int) -> int | None:
    """Value of ``highmem=``."""
    if not arch.highmem_option:
        msg = f"the size of the highmem zone is no option of {arch.name}: highmem= is x86's"
        raise HmtraceError(msg, hint="leave --highmem-size out", exit_code=2)
    return None if size == UNSET else size


def _config_with(machine: Machine, arch: Arch, *, highpte: bool) -> frozenset[str]:
    """The build with or without CONFIG_HIGHPTE."""
    if highpte and not arch.has_highpte:
        msg = f"{arch.name} has no HIGHPTE: its page tables are lowmem"
        raise HmtraceError(msg, hint="leave --highpte out", exit_code=2)
    config = machine.config or arch.default_config
    if highpte and not machine.highmem_enabled:
        msg = "a kernel without HIGHMEM has no HIGHPTE"
        raise HmtraceError(msg, hint="leave --highpte out", exit_code=2)
    return config | {"HIGHPTE"} if highpte else config - {"HIGHPTE"}


def _require_highmem(machine: Machine) -> None:
    """Refuse a ``highmem=`` that the kernel would ignore, in its words.

    arch/x86/mm/init_32.c: lowmem_pfn_init, highmem_pfn_init.
    """
    layout, size = layout_of(machine), machine.highmem
    if size is None or layout.max_pfn - layout.lowmem_end_pfn == size // layout.page_size:
        return
    why = [note for note in layout.notes if note.startswith("highmem=")]
    msg = why[0] if why else "highmem= is not what the kernel makes of it"
    most = (layout.max_pfn - layout.lowmem_end_pfn) * layout.page_size // MiB
    raise HmtraceError(
        f"highmem={size // MiB}M: {msg.removeprefix('highmem= ')}",
        hint=f"without it the zone has {most} MiB of {machine.ram_bytes // MiB} MiB of RAM",
        exit_code=2,
    )


def _arch(name: str) -> Arch:
    arch = ARCHES.get(name)
    if arch is None:
        msg = f"hmtrace has no model of architecture {name!r}"
        raise HmtraceError(msg, hint=one_of(name, ARCHES), exit_code=2)
    return arch


def _max_phys(arch: Arch, pae: bool) -> int:  # noqa: FBT001
    return arch.max_phys_pae if pae else arch.max_phys


def _require_split(arch: Arch, split: str, pae: bool) -> None:  # noqa: FBT001
    if split not in arch.splits:
        msg = f"{arch.name} has no split {split!r}"
        raise HmtraceError(msg, hint=one_of(split, arch.splits), exit_code=2)
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
