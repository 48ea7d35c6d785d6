"""Make a machine that was put together from facts agree with what its files say of its map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from replay.machine.layout import check, layout_of
from replay.machine.model import MiB, Told
from replay.machine.told import border_of, contradictions, is_possible, told_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from collectors.snapshot import FactName, Snapshot
    from replay.machine.model import Layout, Machine


def fit_border(machine: Machine, snapshot: Snapshot, assumed: list[str]) -> Machine:
    """Find what explains a border of lowmem that the rules do not give.

    A limit of the platform, or ``vmalloc=``: where there is no command line, or where it also gives
    the observed arena, for a kernel that was built with another reserve.

    Parameters
    ----------
    machine
        By the rest of the facts.
    snapshot
        Its zones, or else its printed map, have the border.
    assumed
        Gets the words.

    Returns
    -------
    Machine
        The same, or one whose border is the observed one.
    """
    have = layout_of(machine)
    observed = border_of(have, snapshot)
    if observed is None:
        return machine
    if have.lowmem_end_pfn == observed or have.max_pfn <= observed:
        return machine
    for trial, words in _explanations(machine, have.lowmem_end_pfn, observed, snapshot):
        try:
            built = trial.vmalloc != machine.vmalloc
            fits = _explains(layout_of(trial), observed, snapshot, built=built)
        except HmtraceError:
            continue
        if fits:
            assumed.append(f"{words}: the observed border of lowmem says so")
            return trial
    return machine


def _explains(layout: Layout, observed: int, snapshot: Snapshot, *, built: bool) -> bool:
    """Whether a layout has the observed border.

    A reserve for the arena that the command line does not name (`built`: the kernel may have been
    built so) has to explain an observed arena, too: a border alone has many reasons.
    """
    if layout.lowmem_end_pfn != observed:
        return False
    if not built or snapshot.cmdline is None:
        return True
    arena = layout.vmalloc_start, layout.vmalloc_end
    return arena == (snapshot.vmalloc_start, snapshot.vmalloc_end)


_LIMITED: Final = ("mips32", "powerpc32", "microblaze")
"""Architectures whose lowmem a platform or the configuration may limit (Machine.lowmem_limit)."""


def _explanations(
    machine: Machine, have: int, observed: int, snapshot: Snapshot
) -> Iterator[tuple[Machine, str]]:
    """Machines that may have the observed border, the likeliest first, and what they differ in."""
    page = machine.page_size
    if machine.arch in _LIMITED and machine.lowmem_limit is None and observed < have:
        limit = observed * page - (machine.ram[0][0] if machine.arch != "mips32" else 0)
        yield replace(machine, lowmem_limit=limit), f"lowmem of {limit // MiB} MiB"
    if snapshot.cmdline is not None and snapshot.vmalloc is not None:
        return
    delta = (have - observed) * page
    for default in (machine.vmalloc or 0, 120 * MiB, 128 * MiB, 240 * MiB, 248 * MiB):
        if default + delta >= MiB:
            size = default + delta
            yield replace(machine, vmalloc=size), f"vmalloc={size / MiB:g}M"


def believe(
    machine: Machine,
    snapshot: Snapshot,
    sources: Mapping[FactName, str] | None,
    assumed: list[str],
) -> Machine:
    """Follow the machine's files where the rules give another address map, and say so.

    Parameters
    ----------
    machine
        By the rules.
    snapshot, sources
        As for :func:`replay.machine.from_facts.machine_from`.
    assumed
        Gets the words, one for each part of the map that differs.

    Returns
    -------
    Machine
        With :attr:`~replay.machine.model.Machine.told`, where the files can be right.
    """
    derived = layout_of(machine)
    told = told_by(derived, snapshot)
    if told is not None:
        machine = _with_told(machine, derived, told)
    assumed += contradictions(check(derived, snapshot, sources), machine.told)
    return machine


def _with_told(machine: Machine, derived: Layout, told: Told) -> Machine:
    """The machine with all that the files say, or with what of it goes together."""

    def trial(believed: Told) -> Machine | None:
        changed = replace(machine, told=believed)
        try:
            if is_possible(derived, believed):
                layout_of(changed)
                return changed
        except HmtraceError:
            pass  # parts overlap: files of two machines, or a damaged one
        return None

    whole = trial(told)
    if whole is not None:
        return whole
    kept = Told()
    for name, value in told._asdict().items():
        if value and trial(more := kept._replace(**{name: value})) is not None:
            kept = more
    return machine if kept == Told() else replace(machine, told=kept)
