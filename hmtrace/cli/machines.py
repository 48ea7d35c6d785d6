"""Machines from a capture's facts, from a file, from options."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from collectors.errors import HmtraceError, one_of
from hmtrace.cli.presets import costs_file, machine_file
from hmtrace.cli.sizes import parse_size
from hmtrace.cli.toml import read_toml
from hmtrace.cli.words import arch_name, split_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from collectors.capture import Capture
    from replay.machine.costs import Costs
    from replay.machine.model import Machine

_PAGE: Final = 1 << 12
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_MOST_RAM: Final = 64 * _GIB
"""36 physical address bits: PAE and LPAE as these kernels use them."""
_SIZES: Final = (
    "vmalloc",
    "highmem",
    "mem",
    "reservetop",
    "mem_map",
    "phys_offset",
    "page_size",
    "lowmem_limit",
    "dma_zone",
    "page_offset",
    "vmalloc_end",
)
_RANGES: Final = ("ram", "nomap", "acpi")
_BY_FILES: Final = frozenset({"told", "border_told"})
"""What only a captured machine's own files say."""
_FOR_THE_READER: Final = ("title", "source")


def captured_machine(capture: Capture, costs: Path | None) -> tuple[Machine, tuple[str, ...]]:
    """Machine that a capture was made on, and what its files left open.

    Parameters
    ----------
    capture
        Its facts are used.
    costs
        ``--costs``.

    Raises
    ------
    HmtraceError
        The facts do not make a machine, or the costs file is wrong.
    """
    from replay.machine.from_facts import machine_from

    machine, assumptions = machine_from(capture.facts.snapshot(), capture.facts.sources())
    if costs is not None:
        costs = costs_file(costs)
        table = read_toml(costs, "lines look like  invlpg = 140")
        for word in _FOR_THE_READER:
            table.pop(word, None)
        machine = dataclasses.replace(machine, costs=_costs(table, costs))
    return machine, tuple(assumptions)


def default_machine(arch: str | None, file: Path | None) -> Machine:
    """Machine that options change where there is no capture.

    Parameters
    ----------
    arch
        ``--arch``; None: that of the file, or ``i386``.
    file
        ``--machine``.

    Raises
    ------
    HmtraceError
        Exit code 2: an unknown architecture, or both given and not the same.
    """
    arch = None if arch is None else arch_name(arch)
    if file is None:
        return _distribution_machine(arch or "i386", None)
    machine = read_machine(file)
    if arch is not None and arch != machine.arch:
        raise HmtraceError(
            f"--arch {arch} contradicts the file's {machine.arch}", source=str(file), exit_code=2
        )
    return machine


def target_machine(
    base: Machine,
    file: Path | None,
    *,
    split: str | None = None,
    ram: str | None = None,
    pae: bool | None = None,
    pkmap: int | None = None,
    vmalloc: str | None = None,
    cpus: int | None = None,
    nr_cpus: int | None = None,
    highmem: bool | None = None,
    highmem_size: str | int | None = None,
    highpte: bool | None = None,
    kernel: str | None = None,
    page_size: str | None = None,
    convert: Sequence[str] | None = None,
) -> Machine:
    """Machine of ``--machine`` (else `base`), changed by the options that were given.

    Raises
    ------
    HmtraceError
        Exit code 2: a value that no kernel could have, or a file that is no machine.
    """
    if pkmap is not None and pkmap & (pkmap - 1):
        raise HmtraceError(
            f"--pkmap: {pkmap} is no power of 2",
            hint="the kernel uses LAST_PKMAP as a mask: 512, 1024",
            exit_code=2,
        )
    from replay.machine.generations import GENERATIONS, is_release
    from replay.machine.options import with_options

    if kernel is not None and not is_release(kernel):
        raise HmtraceError(
            f"--kernel: {kernel!r} is no version of a kernel",
            hint=f"such as {', '.join(GENERATIONS)}, or what uname -r prints",
            exit_code=2,
        )
    machine = base if file is None else read_machine(file, base)
    return with_options(
        machine,
        split=None if split is None else split_name(split),
        ram=None if ram is None else parse_size(ram, "--ram", low=_MIB, high=_MOST_RAM),
        pae=pae,
        pkmap=pkmap,
        vmalloc=None
        if vmalloc is None
        else parse_size(vmalloc, "--vmalloc", low=_MIB, high=4 * _GIB),
        cpus=cpus,
        nr_cpus=nr_cpus,
        highmem=highmem,
        highmem_size=_highmem_size(highmem_size),
        highpte=highpte,
        release=kernel,
        page_size=None
        if page_size is None
        else parse_size(page_size, "--page-size", low=_PAGE, high=64 * _PAGE),
        convert=convert,
    )


def _highmem_size(given: str | int | None) -> int | None:
    """Bytes of ``--highmem-size``."""
    from replay.machine.options import UNSET

    if not isinstance(given, str):
        return given
    if given.lower() == "none":
        return UNSET
    return parse_size(given, "--highmem-size", low=0, high=_MOST_RAM)


def _distribution_machine(arch: str, source: str | None) -> Machine:
    """Machine with the distribution kernels' configuration and 1 GiB."""
    from collectors.snapshot import Snapshot
    from replay.machine.arches import ARCHES
    from replay.machine.from_facts import machine_from

    if arch not in ARCHES:
        raise HmtraceError(
            f"architecture {arch!r} is not known",
            source=source,
            hint=one_of(arch, ARCHES),
            exit_code=2,
        )
    return machine_from(Snapshot(arch=arch))[0]


def read_machine(path: Path, base: Machine | None = None) -> Machine:
    """Machine from a TOML file, or from the preset of that name.

    Keys are the fields of :class:`replay.machine.model.Machine`; sizes may be strings (``256M``),
    ``ram`` a size or a list of [first byte, byte after the last], ``[costs]`` a table; ``title``
    and ``source`` are words for the reader. ``release`` decides ``generation``. A file
    that says ``arch`` and ``ram`` describes a machine: what it leaves out is the default of its
    architecture, so that it is the same machine whatever `base` is. Any other file changes `base`,
    where its architecture is the same. Costs come from `base` either way.

    Raises
    ------
    HmtraceError
        Exit code 2.
    """
    from replay.machine.generations import generation_for
    from replay.machine.model import Machine
    from replay.machine.options import with_options

    path = machine_file(path)
    table = read_toml(path, "lines look like  cpus = 4")
    for word in _FOR_THE_READER:
        table.pop(word, None)
    fields = {f.name: f for f in dataclasses.fields(Machine) if f.name not in _BY_FILES}
    _check_keys(table, fields, path)
    arch = table.get("arch", base.arch if base is not None else None)
    if not isinstance(arch, str):
        said = "key 'arch' is missing" if arch is None else "arch: expected a string"
        raise HmtraceError(said, source=str(path), hint='arch = "arm", "i386", …', exit_code=2)
    same = base if base is not None and base.arch == arch else None
    if same is None or {"arch", "ram"} <= table.keys():
        start = _distribution_machine(arch, str(path))
        start = start if same is None else dataclasses.replace(start, costs=same.costs)
    else:
        start = dataclasses.replace(same, told=None, border_told=False)
    changes: dict[str, Any] = {}
    ram: int | None = None
    for name, value in table.items():
        if name == "ram" and isinstance(value, str | int):
            ram = _size(value, name, path)
        elif name in _RANGES:
            changes[name] = _ranges(value, name, path)
        elif name == "costs":
            changes[name] = _costs(value, path)
        elif name == "config":
            changes[name] = _config(_names(value, name, path), start.config, path)
        elif name == "converted":
            changes[name] = tuple(_names(value, name, path))
        elif name in _SIZES:
            changes[name] = _size(value, name, path)
        else:
            changes[name] = _scalar(value, name, getattr(start, name), path)
    if "ram" in table:
        changes = {"nomap": (), "acpi": ()} | changes
    if "release" in changes:
        # it tells more than the name of a span of kernels does
        changes["generation"] = generation_for(changes["release"])
    if changes.get("generation", start.generation) != start.generation:
        changes = {"vmalloc_end": None} | changes
    try:
        # with_options, even without a change, makes sure that such a machine can exist.
        return with_options(dataclasses.replace(start, **changes), ram=ram)
    except HmtraceError as error:
        error.source = error.source or str(path)
        raise


def _config(options: Sequence[str], config: frozenset[str], path: Path) -> frozenset[str]:
    """Options of the kernel: all of them, or those added, ``+KASAN``, and gone, ``-SMP``."""
    signs = [option[:1] for option in options if option[:1] in ("+", "-")]
    named = [option.lstrip("+-").removeprefix("CONFIG_") for option in options]
    if not signs:
        return frozenset(named)
    if len(signs) < len(options):
        raise HmtraceError(
            "config: some options have + or -, others not",
            source=str(path),
            hint='all of them, or what is added and gone: "+KASAN", "-SMP"',
            exit_code=2,
        )
    gone = {name for name, option in zip(named, options, strict=True) if option[0] == "-"}
    return (config | frozenset(named)) - gone


def _costs(table: object, path: Path) -> Costs:
    from replay.machine.costs import Costs

    if not isinstance(table, dict):
        raise _wrong(path, "costs", "a table")
    return Costs.default().with_values(table, source=str(path))


def _check_keys(table: Iterable[str], known: Iterable[str], path: Path) -> None:
    names = list(known)
    for key in table:
        if key not in names:
            raise HmtraceError(
                f"unknown key {key!r}",
                source=str(path),
                hint=one_of(key, names),
                exit_code=2,
            )


def _wrong(path: Path, name: str, wanted: str) -> HmtraceError:
    return HmtraceError(f"{name}: expected {wanted}", source=str(path), exit_code=2)


def _size(value: object, name: str, path: Path) -> int:
    if isinstance(value, str):
        return parse_size(value, f"{path}: {name}", low=0, high=_MOST_RAM)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_RAM:
        return value
    raise _wrong(path, name, "a size such as 256M, or bytes")


def _ranges(value: object, name: str, path: Path) -> tuple[tuple[int, int], ...]:
    wanted = "a size, or a list of [first byte, byte after the last], ascending"
    if not isinstance(value, list) or not value:
        raise _wrong(path, name, wanted)
    ranges, at = [], 0
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _wrong(path, name, wanted)
        start, end = (_size(edge, name, path) for edge in pair)
        if not at <= start < end:
            raise _wrong(path, name, wanted)
        ranges.append((start, end))
        at = end
    return tuple(ranges)


def _names(value: object, name: str, path: Path) -> list[str]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    raise _wrong(path, name, "a list of names")


def _scalar(value: object, name: str, like: object, path: Path) -> object:
    """Value of the kind that the field has; a field that may be None takes whole numbers."""
    wanted: type = int if like is None else type(like)
    if type(value) is wanted and (not isinstance(value, int) or 0 <= value < 1 << 40):
        return value
    names = {bool: "true or false", int: "a whole number", str: "a string"}
    raise _wrong(path, name, names.get(wanted, wanted.__name__))
