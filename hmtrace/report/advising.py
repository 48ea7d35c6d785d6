"""Which split to choose, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.caveats import caveats_section
from hmtrace.report.lowmem import lowmem_section
from hmtrace.report.machine import machine_in_words
from hmtrace.report.options import options_table
from hmtrace.report.parts import heading, indented, joined, labelled
from hmtrace.report.reasons import (
    NOT_SEEN,
    name_of,
    process_in_words,
    request_in_words,
    words,
)
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import clean, mib, size
from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS
from replay.whatif import reasons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.machine.model import Machine
    from replay.outcome import Outcome

_CONFIG_NAMES: Final = {"PAE": "X86_PAE", "LPAE": "ARM_LPAE"}
_SPLIT_SWITCHES: Final = {
    ("csky", "2g"): "PAGE_OFFSET_80000000",
    ("csky", "2.5g"): "PAGE_OFFSET_A0000000",
    ("xtensa", "128m"): "XTENSA_KSEG_MMU_V2",
    ("xtensa", "256m"): "XTENSA_KSEG_256M",
    ("xtensa", "512m"): "XTENSA_KSEG_512M",
}
"""Switches of the configuration that set a split, where that is not VMSPLIT_…."""
_POWERPC_CEILING: Final = 0xF000_0000
"""PAGE_OFFSET and LOWMEM_SIZE must not add up to more (arch/powerpc/mm/init_32.c)."""


@dataclass(frozen=True)
class Advised:
    """Advice for one capture, and what it was read from."""

    source: InputSummary
    assumptions: tuple[str, ...]
    baseline: Outcome
    advice: reasons.Advice


def advice_renderables(advised: Advised) -> Iterator[RenderableType]:
    """Lines and sections of `advise` for one capture.

    Yields
    ------
    RenderableType
        Title, captured machine, the choice, all builds, what speaks for and against the choice,
        what of the others, what was not seen, what to do.
    """
    advice = advised.advice
    yield from title_lines("advise", advised.source)
    yield Text()
    yield labelled(machines_rows(advised))
    yield heading(choice_in_words(advice.choice), f"evidence: {advice.evidence}")
    yield indented(Text(in_short(advice.choice, advice.now)))
    yield indented(options_table(advice))
    yield from sections_behind(advised)
    yield Text()
    yield reproducibility(advised.source)


def machines_rows(advised: Advised) -> list[tuple[str, str]]:
    """The captured machine, and the one that is advised for where that is another."""
    here, there = advised.baseline, advised.advice.now.outcome
    rows = [("captured", machine_in_words(here.machine, here.layout))]
    if there is not here:
        rows.append(("advice for", machine_in_words(there.machine, there.layout)))
    return rows


def sections_behind(advised: Advised) -> Iterator[RenderableType]:
    """The sections behind the choice and the table of builds.

    Yields
    ------
    RenderableType
        What speaks for and against the choice, what of the others, how lowmem fared, what was not
        seen, what to do, caveats.
    """
    advice, baseline = advised.advice, advised.baseline
    yield heading("Reasons")
    yield labelled(_reasons(advice))
    yield from _others(advice)
    is_another = advice.now.outcome is not baseline
    yield from lowmem_section(baseline.lowmem, "of the captured machine" if is_another else "")
    yield heading("Not told")
    yield labelled([("", NOT_SEEN[code]) for code in advice.not_seen])
    if todo := list(_todo(advice)):
        yield heading("Do")
        yield labelled(todo)
    caveats = [*advice.choice.outcome.caveats, *advised.assumptions, *advised.source.notes]
    yield from caveats_section(caveats)


def choice_in_words(choice: reasons.Option) -> str:
    """What to do: ``Choose 2g, no HIGHMEM``."""
    return f"{'Stay with' if choice.is_now else 'Choose'} {name_of(choice.build)}"


def in_short(choice: reasons.Option, now: reasons.Option) -> str:
    """What a build leaves, in one line."""
    layout, before = choice.outcome.layout, now.outcome.layout
    arena = choice.outcome.arena.size
    parts = [f"{size(layout.lowmem_bytes)} lowmem"]
    parts.append(f"{size(layout.highmem_bytes)} highmem" if layout.highmem_bytes else "none high")
    same = arena == now.outcome.arena.size
    parts.append(f"vmalloc {'stays ' if same else ''}{size(arena)}")
    less = before.user_end - layout.user_end
    parts.append(
        f"user space {'-' if less > 0 else '+'}{size(abs(less))}" if less else "same user space"
    )
    return joined(parts)


def _reasons(advice: reasons.Advice) -> Iterator[tuple[str, str]]:
    """What speaks for the choice, and what it leaves."""
    choice = advice.choice
    yield from (("for it", words(reason)) for reason in choice.gains)
    yield from (("mind", words(reason)) for reason in choice.mind)
    if choice.is_now:
        yield from (("why not", told) for told in _why_stay(advice))
    if not any(isinstance(reason, reasons.UserSpace) for reason in choice.mind):
        yield "process", _process(advice)
    yield from _arena_rows(choice, advice.now)
    yield "lowmem", _fixed(choice, advice.now)
    if told := _defaults(advice):
        yield "Linux 7", told


def _why_stay(advice: reasons.Advice) -> Iterator[str]:
    """Why nothing else is chosen."""
    if not advice.choice.outcome.layout.highmem_bytes:
        yield "there is no highmem: no split has less to map"
        return
    options = [option for option in advice.options if not option.is_now]
    if any(option.is_better for option in options):
        yield "what would be better rests on what the capture does not show (below)"
    elif len({option.build.split for option in advice.options}) == 1:
        yield "this kernel has one split only"
    elif not any(not o.outcome.layout.highmem_bytes and not o.lost_ram for o in options):
        yield "no split of this kernel makes all of the RAM lowmem"
    else:
        yield "the capture does not show that anything is gained by another one"


def _process(advice: reasons.Advice) -> str:
    user = advice.choice.outcome.layout.user_end
    if advice.largest is None:
        return f"has {size(user)}; the largest was not recorded"
    return f"has {size(user)}; {process_in_words(advice.largest, user)}"


def _arena_rows(choice: reasons.Option, now: reasons.Option) -> Iterator[tuple[str, str]]:
    """The arena against what was asked of it, and the modules' own area."""
    arena, layout = choice.outcome.arena, choice.outcome.layout
    parts = []
    if arena.peak_live is not None:
        parts.append(f"at most {mib(arena.peak_live)} of {mib(arena.size)} in use")
    if arena.largest_request is not None:
        parts.append(f"largest request {request_in_words(*arena.largest_request)}")
    if arena.largest_hole_min is not None:
        parts.append(f"the largest hole never below {mib(arena.largest_hole_min)}")
    if parts:
        yield "arena", ", ".join(parts)
    if layout.modules_start != layout.vmalloc_start:
        own = f"{size(layout.modules_end - layout.modules_start)} of their own"
        here = now.outcome.arena.modules
        if here is not None and here.peak:
            own += f", at most {mib(here.peak)} of {mib(here.size)} in use now"
        yield "modules", own


def _fixed(choice: reasons.Option, now: reasons.Option) -> str:
    """What lowmem pays whatever runs."""
    fixed, machine = choice.fixed, choice.outcome.machine
    model = "SPARSEMEM" if "SPARSEMEM" in machine.config else "FLATMEM"
    of_high = f", {mib(fixed.of_highmem)} of it for highmem" if fixed.of_highmem else ""
    parts = [
        f"page array {mib(fixed.mem_map)} ({machine.page_struct} bytes a page, {model}){of_high}"
    ]
    if fixed.pool:
        parts.append(f"pool's page table and addresses {mib(fixed.pool)}")
    elif now.fixed.pool:
        parts.append(f"no pool (now {mib(now.fixed.pool)})")
    if fixed.kasan:
        parts.append(f"KASAN's shadow {mib(fixed.kasan)}")
    parts.append(f"{mib(fixed.left)} are left")
    return joined(parts)


def _defaults(advice: reasons.Advice) -> str:
    """Which splits patches of December 2025 would make the default of such a kernel."""
    arch, pae = ARCHES[advice.now.outcome.machine.arch], advice.now.build.pae
    if not arch.proposed_defaults:
        return ""
    high, low = (arch.proposed_defaults[highmem, pae] for highmem in (True, False))
    told = f"patches of December 2025 would make {high} the default of such a kernel"
    return told if high == low else f"{told} with HIGHMEM, {low} without"


def _others(advice: reasons.Advice) -> Iterator[RenderableType]:
    """What of the others."""
    rows = [
        (name_of(option.build), _other(option, advice.choice))
        for option in advice.listed
        if option is not advice.choice
    ]
    if rows:
        yield heading("The others")
        yield labelled(rows)


def _other(option: reasons.Option, choice: reasons.Option) -> str:
    """Why another one is not chosen; what holds of the choice alike is not said again."""
    if option.is_now:
        return "; ".join(["as it is now", *map(words, option.mind)])
    user = f"a process has {size(option.outcome.layout.user_end)}"
    if option.against:
        told = list(map(words, option.against))
        only = isinstance(option.against[0], reasons.NotReleased) and len(option.against) == 1
        return "; ".join([*told, *(["else it would do", user] if only and option.gains else [])])
    if option.is_better and option.doubts:
        return f"would be better if {' and '.join(map(_condition, option.doubts))}"
    minded = [
        words(reason)
        for reason in option.mind
        if not isinstance(reason, reasons.UserSpace) and reason not in choice.mind
    ]
    if option.is_better:
        return "; ".join(["would do too", user, *minded])
    if option.may:
        return "; ".join([*map(words, option.may), user, *minded])
    return "; ".join(["gains nothing", *minded])


def _condition(doubt: reasons.Reason) -> str:
    if isinstance(doubt, reasons.UserSpace):
        return f"no process needs more than {size(doubt.user)}: record the largest"
    if isinstance(doubt, reasons.WithoutWide):
        return f"{doubt.name} may go, and with it no-execute pages"
    return words(doubt)


def _todo(advice: reasons.Advice) -> Iterator[tuple[str, str]]:
    """What to do."""
    choice = advice.choice
    if not choice.is_now:
        yield "build", "  ".join(config_of(choice))
        if choice.build.vmalloc is not None:
            yield "boot", f"vmalloc={choice.build.vmalloc >> 20}M"
        yield "then", "capture the same workload again: hmtrace compare OLD NEW"
    elif advice.trial is not None:
        tried = "  ".join(config_of(advice.trial))
        yield "try", f"{tried}, and capture again: this trace does not tell how much that spares"
    here = advice.now.outcome
    own = 0 if here.arena.modules is None else here.arena.modules.failures
    if here.arena.failures > own:
        find = "hmtrace sweep CAPTURE --find min:vmalloc --where failures=0"
        yield "or", f"keep the split and enlarge the arena, at lowmem's expense: {find}"


def config_of(option: reasons.Option) -> list[str]:
    """Lines of the kernel's configuration.

    arch/x86/Kconfig: the split is asked for with EXPERT only; HIGHMEM64G, which implies PAE, went
    in 6.15, and with it the choice that had NOHIGHMEM. arch/powerpc/Kconfig: with ADVANCED_OPTIONS
    each of these numbers may be set.
    """
    machine, build = option.outcome.machine, option.build
    lines = _split_lines(machine, build)
    old = GENERATIONS[machine.generation].x86_highmem64g
    if machine.arch != "i386":
        lines.append(f"CONFIG_HIGHMEM={'y' if build.highmem else 'n'}")
    elif build.highmem:
        lines.append(f"CONFIG_HIGHMEM{'64G' if build.pae and old else '4G'}=y")
    else:
        lines.append("CONFIG_NOHIGHMEM=y" if old else "CONFIG_HIGHMEM4G=n")
    if machine.arch == "i386" and build.pae:
        lines.append("CONFIG_X86_PAE=y")
    if build.without:
        lines.append(f"CONFIG_{_CONFIG_NAMES.get(build.without, build.without)}=n")
    return lines


def _split_lines(machine: Machine, build: reasons.Build) -> list[str]:
    """Those that set the split."""
    arch = ARCHES[machine.arch]
    if len(arch.splits) == 1:
        return []
    if machine.arch == "powerpc32":
        start = arch.splits[build.split]
        return [
            "CONFIG_ADVANCED_OPTIONS=y",
            f"CONFIG_PAGE_OFFSET={start:#x}",
            f"CONFIG_LOWMEM_SIZE={_POWERPC_CEILING - start:#x}",
            f"CONFIG_TASK_SIZE={start:#x}",
        ]
    expert = ["CONFIG_EXPERT=y"] if machine.arch == "i386" else []
    switch = _SPLIT_SWITCHES.get((machine.arch, build.split), f"VMSPLIT_{build.split.upper()}")
    return [*expert, f"CONFIG_{clean(switch)}=y"]
