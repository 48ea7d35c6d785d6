"""The machine that a trace is replayed on: one immutable description.

Everything that follows from it (address map, limits, zones) is derived in
:mod:`replay.layout`; nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from replay.costs import Costs


@dataclass(frozen=True)
class Machine:
    """A 32-bit HIGHMEM machine and its kernel's configuration.

    Attributes
    ----------
    arch
        Key in :data:`replay.arches.ARCHES`: ``i386``, ``arm``.
    split
        Key in the architecture's split table: ``3g``, ``3g_opt``, ``2g``, ``2g_opt``, ``1g``.
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
        ``vmalloc=`` in bytes; None: the architecture's default.
    highmem
        ``highmem=`` in bytes; None: not given.
    mem
        ``mem=`` in bytes; None: not given.
    reservetop
        ``reservetop=`` in bytes (i386).
    generation
        Key in :data:`replay.generations.GENERATIONS`: a set of named behaviours.
    config
        The CONFIG_* switches that move addresses, without the prefix; absent: the default of
        the distribution kernels that the architecture module names.
    page_struct
        sizeof(struct page) in bytes.
    mem_map
        Address of struct page of the first frame; None where unknown.
    release
        ``uname -r``, shown only.
    costs
        Nanoseconds per elementary operation.
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
    generation: str = "6.1"
    config: frozenset[str] = frozenset()
    page_struct: int = 32
    mem_map: int | None = None
    release: str = ""
    costs: Costs = field(default_factory=Costs.default)
