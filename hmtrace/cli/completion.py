"""What the shell completes behind an option: names, never anything that takes long to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace.cli.presets import LIST
from replay.machine.cpus import cpu_costs
from replay.machine.presets import presets

if TYPE_CHECKING:
    from collections.abc import Iterable

_GIB: Final = 1 << 30
POOLS: Final = {"512": "PAE, LPAE and ARM", "1024": "others", "128": "", "256": "", "2048": ""}


def arches(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--arch``."""
    from replay.machine.arches import ARCHES

    return _starting(incomplete, ((arch.name, arch.title) for arch in ARCHES.values()))


def simulated(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``synth --arch``."""
    from collectors.synthetic.board import SPLITS
    from replay.machine.arches import ARCHES

    return _starting(incomplete, ((name, ARCHES[name].title) for name in SPLITS))


def splits(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--split`` on the usual machines, with how much user space each leaves."""
    from replay.machine.arches import ARCHES

    usual = [ARCHES[name] for name in ("i386", "arm")]
    words = {}
    for name in usual[0].splits:
        shares = {arch.name: f"{arch.splits[name] / _GIB:g} GiB" for arch in usual}
        if len(set(shares.values())) > 1:
            shares = {arch: f"{share} ({arch})" for arch, share in shares.items()}
        narrow = "" if any(name in arch.pae_splits for arch in usual) else "; not with PAE"
        words[name] = f"{' or '.join(dict.fromkeys(shares.values()))} for user space{narrow}"
    return _starting(incomplete, words.items())


def pools(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--pkmap``."""
    return _starting(incomplete, POOLS.items())


def page_sizes(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--page-size``."""
    from replay.machine.arches import ARCHES

    sizes = {size for arch in ARCHES.values() for size in arch.page_sizes}
    return _starting(incomplete, ((f"{size >> 10}K", "") for size in sorted(sizes)))


def kernels(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``synth --kernel``."""
    from collectors.synthetic.board import KERNELS

    return _starting(incomplete, ((name, "") for name in KERNELS))


def generations(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--kernel`` of `layout` and `replay`: kernels whose rules differ."""
    from replay.machine.generations import GENERATIONS

    words = ((name, f"since {_version(g.since)}") for name, g in GENERATIONS.items())
    return _starting(incomplete, words)


def machines(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--machine`` that are names; shells offer files where none fits."""
    names = [(preset.name, preset.title) for preset in presets()]
    return _starting(incomplete, [*names, (LIST, "show all")])


def costs(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--costs`` that are names; shells offer files where none fits."""
    return _starting(incomplete, [(cpu.name, cpu.title) for cpu in cpu_costs()])


def scenarios(incomplete: str) -> list[tuple[str, str]]:
    """Scenarios of ``synth``."""
    from collectors.synthetic.scenarios import SCENARIOS

    return _starting(incomplete, ((name, s.title) for name, s in SCENARIOS.items()))


def rules(incomplete: str) -> list[tuple[str, str]]:
    """Values of ``--rule``."""
    from replay.rules.judge import RULES

    return _starting(incomplete, ((rule.name, rule.meaning) for rule in RULES))


def _starting(incomplete: str, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in known if pair[0].startswith(incomplete)]


def _version(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
