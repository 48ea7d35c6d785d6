"""Which captures are twins."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Pair(NamedTuple):
    """Two captures of one workload.

    Attributes
    ----------
    name
        For the table.
    one, other
        Folders of the captures.
    there, back
        Options by which the other's machine is asked for, starting from the one, and back.
    script
        Tasks that carry out the workload; what else runs meanwhile is not the same twice.
    """

    name: str
    one: str
    other: str
    there: dict[str, Any]
    back: dict[str, Any]
    script: tuple[str, ...] = ()


BIGGER: Final = {"vmalloc": "256M"}
SMALLER: Final = {"vmalloc": "128M"}

PAIRS: Final = (
    Pair("minix", "i386-twin-vmalloc128", "i386-twin-vmalloc256", BIGGER, SMALLER, ("perl",)),
    Pair(
        "vmap", "i386-twin-vmap-vmalloc128", "i386-twin-vmap-vmalloc256", BIGGER, SMALLER,
        ("insmod",),
    ),
    Pair(
        "vmap, kernels", "i386-hog-e-vmapfail-pae-smp1", "i386-510-hog-e-vmapfail-pae-smp1",
        {"kernel": "5.10"}, {"kernel": "6.1"}, ("insmod",),
    ),
    Pair(
        "minix, kernels", "i386-510-minix-pae-m1024-smp2", "i386-65-minix-pae-m1024-smp2",
        {"kernel": "6.5"}, {"kernel": "5.10"}, ("perl",),
    ),
    Pair(
        "minix, PAE", "i386-61-shell-minix-pae1g", "i386-61-shell-minix-nopae1g",
        {"pae": False}, {"pae": True}, ("sh", "mkdir"),
    ),
    Pair(
        "minix, RAM", "i386-61-shell-minix-pae1g", "i386-61-shell-minix-pae2g",
        {"ram": "2G"}, {"ram": "1G"}, ("sh", "mkdir"),
    ),
)  # fmt: skip


class Recorded(NamedTuple):
    """A capture whose twin is not kept: what that one did was written down.

    Attributes
    ----------
    name, one, there
        As of :class:`Pair`.
    happened
        Figures of the lost twin, by their names in :mod:`tests.twins.measure`.
    source
        Where they were written down.
    """

    name: str
    one: str
    there: dict[str, Any]
    happened: dict[str, float]
    source: str


INDEX: Final = "index of the captures, ARM twins"
RECORDED: Final = (
    Recorded(
        "minix, ARM", "arm-twin-61w-v240", {"vmalloc": "384M"},
        {
            "lowmem_end": 0x6700_0000, "arena_from": 0xE780_0000, "arena_to": 0xFF80_0000,
            "pool_at": 0xBFE0_0000, "kmap": 13758, "new_mappings": 1842, "flushes": 3,
        },
        INDEX,
    ),
    Recorded(
        "minix, ARM 5.10", "arm-510-twin-v240", {"vmalloc": "384M"},
        {
            "lowmem_end": 0x6780_0000, "arena_from": 0xE800_0000, "arena_to": 0xFF80_0000,
            "pool_at": 0xBFE0_0000,
        },
        INDEX,
    ),
)  # fmt: skip
