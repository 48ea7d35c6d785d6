"""What the shell completes behind an option: names, never anything that takes long to import.

The names of architectures and splits stand here a second time (the modules that define them need
polars); tests/hmtrace/test_completion.py compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace.cli.presets import LIST, presets

if TYPE_CHECKING:
    from collections.abc import Iterable

ARCHES: Final = {
    "i386": "PC, with or without PAE",
    "arm": "ARMv6 and ARMv7, with or without LPAE",
    "arc": "Synopsys ARC",
    "csky": "C-SKY",
    "microblaze": "Xilinx MicroBlaze",
    "mips32": "MIPS32",
    "powerpc32": "PowerPC, 32 bit",
    "sparc32": "SPARC V8, LEON",
    "xtensa": "Tensilica Xtensa",
    "x86_64": "no highmem; DEBUG_KMAP_LOCAL_FORCE_MAP",
}
SPLITS: Final = {
    "3g": "3 GiB for user space",
    "3g_opt": "2.75 GiB for user space; not with PAE",
    "2g": "2 GiB for user space",
    "2g_opt": "1.75 GiB (ARM) or 1.875 GiB (i386) for user space; not with PAE",
    "1g": "1 GiB for user space",
}
POOLS: Final = {"512": "PAE, LPAE and ARM", "1024": "others", "128": "", "256": "", "2048": ""}
PAGE_SIZES: Final = dict.fromkeys(("4K", "8K", "16K", "64K", "256K"), "")
SIMULATED: Final = ("i386", "arm")


def arches(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--arch``."""
    return _starting(incomplete, ARCHES.items())


def simulated(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``synth --arch``."""
    return _starting(incomplete, ((name, ARCHES[name]) for name in SIMULATED))


def splits(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--split``."""
    return _starting(incomplete, SPLITS.items())


def pools(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--pkmap``."""
    return _starting(incomplete, POOLS.items())


def page_sizes(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--page-size``."""
    return _starting(incomplete, PAGE_SIZES.items())


def kernels(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``synth --kernel``."""
    from collectors.synthetic.board import KERNELS

    return _starting(incomplete, ((name, "") for name in KERNELS))


def machines(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--machine`` that are names; shells offer files where none fits."""
    names = [(preset.name, preset.title) for preset in presets()]
    return _starting(incomplete, [*names, (LIST, "show all")])


def scenarios(incomplete: str) -> list[tuple[str, str]]:
    """Scenarios of ``synth``."""
    from collectors.synthetic.scenarios import SCENARIOS

    return _starting(incomplete, ((name, s.title) for name, s in SCENARIOS.items()))


def _starting(incomplete: str, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in known if pair[0].startswith(incomplete)]
