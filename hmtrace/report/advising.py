"""Which split to choose, on one page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from hmtrace.report.caveats import caveats_section
from hmtrace.report.document import schema, source_document
from hmtrace.report.lowmem import lowmem_section
from hmtrace.report.machine import machine_in_words
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.plain import plain
from hmtrace.report.sidebyside import SIGNS, difference
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.sweep import NONE, figure_in_words
from hmtrace.report.text import clean, count, duration, plural, size
from replay.whatif import advise
from replay.whatif.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome

STATUS: Final = 'for p in /proc/[0-9]*; do cat "$p/status"; done > status.txt'
_NOT_SEEN: Final = {
    "lost": "events were lost in tracing: what they were is missing from every figure",
    "processes": f"the largest process was not recorded; at the end of a capture: {STATUS}",
    "zones": "how full highmem was: no zoneinfo in the capture",
    "areas": "the arena at the start: no vmallocinfo in the capture, so failures and purges under "
    "another arena are not predicted",
    "no-calls": "no mapping was traced, so nothing is known of what other splits would spare",
    "no-arena": "no allocation of the arena was traced",
    "bound": "pages that are lowmem now: under a split with less lowmem more would be mapped",
    "dma": "devices that reach only part of lowmem (DMA masks): with more lowmem the kernel may "
    "hand out memory that they do not reach",
    "never-mapped": "pages of processes that were never mapped by the kernel: how much of highmem "
    "they fill",
}
_VERDICTS: Final = {"now": "now", "mind": "better?", "as now": "no gain"}
_OPTIONS: Final = {
    "i386": ("CONFIG_HIGHMEM4G=y", "CONFIG_NOHIGHMEM=y"),
    "arm": ("CONFIG_HIGHMEM=y", "CONFIG_HIGHMEM=n"),
}
"""How a kernel is built with highmem and without, where that is not CONFIG_HIGHMEM."""


@dataclass(frozen=True)
class Advised:
    """Advice for one capture, and what it was read from."""

    source: InputSummary
    assumptions: tuple[str, ...]
    baseline: Outcome
    advice: advise.Advice


def name_of(build: advise.Build) -> str:
    """A build in one or two words."""
    return _split_of(build) + (", HIGHMEM" if build.highmem else ", no HIGHMEM")


def advice_renderables(advised: Advised) -> Iterator[RenderableType]:
    """Lines and sections of `advise` for one capture.

    Yields
    ------
    RenderableType
        Title, captured machine, the choice, all builds, what speaks for and against the choice,
        why not the others, what was not seen, what to do.
    """
    advice, baseline = advised.advice, advised.baseline
    choice = advice.choice
    yield from title_lines("advise", advised.source)
    yield Text()
    yield labelled([("captured", machine_in_words(baseline.machine, baseline.layout))])
    yield heading(_choice_in_words(choice), f"evidence: {advice.evidence}")
    yield indented(Text(_in_short(choice, baseline)))
    yield indented(_table(advice))
    yield indented(Text(_legend(advice), style="dim"))
    yield from _reasons(advice)
    yield from _others(advice)
    yield from lowmem_section(baseline.lowmem)
    yield heading("Not told")
    yield labelled([("", _NOT_SEEN[code]) for code in advice.not_seen])
    if not choice.is_now:
        yield heading("Do")
        yield labelled([("build", "  ".join(_config(choice)))])
    caveats = [*choice.outcome.caveats, *advised.assumptions, *advised.source.notes]
    yield from caveats_section(caveats)
    yield Text()
    yield reproducibility(advised.source)


def _choice_in_words(choice: advise.Option) -> str:
    return f"{'Stay with' if choice.is_now else 'Choose'} {name_of(choice.build)}"


def _in_short(choice: advise.Option, now: Outcome) -> str:
    layout, before = choice.outcome.layout, now.layout
    arena = choice.outcome.arena.size
    parts = [f"{size(layout.lowmem_bytes)} lowmem"]
    parts.append(f"{size(layout.highmem_bytes)} highmem" if layout.highmem_bytes else "none high")
    same = arena == now.arena.size
    parts.append(f"vmalloc {'stays ' if same else ''}{size(arena)}")
    less = before.user_end - layout.user_end
    parts.append(
        f"user space {'-' if less > 0 else '+'}{size(abs(less))}" if less else "same user space"
    )
    return " · ".join(parts)


def _table(advice: advise.Advice) -> RenderableType:
    with_failures = any(option.outcome.arena.failures for option in advice.options)
    columns = ["", "split", "lowmem", "high", "user", "vmalloc", "maps"]
    columns += [*(["fail"] * with_failures), "cost"]
    table = plain_table(
        *((name, "left" if name in ("", "split") else "right") for name in columns),
        ("verdict", "left"),
    )
    for option in advice.options:
        outcome, build = option.outcome, option.build
        maps = outcome.pool.maps + outcome.local.maps
        sign = SIGNS[outcome.bound] if maps else ""
        table.add_row(
            ">" if option is advice.choice else "*" if option.is_now else "",
            _split_of(build),
            _mib(outcome.layout.lowmem_bytes),
            _mib(outcome.layout.highmem_bytes) if build.highmem else "off",
            _mib(outcome.layout.user_end),
            _mib(outcome.arena.size),
            f"{sign}{count(maps)}" if maps else NONE,
            *([_figure("failures", outcome)] * with_failures),
            _figure("cost_ns", outcome).replace(" ", ""),
            _VERDICTS.get(option.verdict, option.verdict),
        )
    return table


def _figure(name: str, outcome: Outcome) -> str:
    return figure_in_words(name, FIGURES[name].value(outcome), outcome.bound)


def _mib(value: int) -> str:
    return count(value >> 20) if value else NONE


def _split_of(build: advise.Build) -> str:
    return clean(build.split) + (f" -{build.without}" if build.without else "")


def _legend(advice: advise.Advice) -> str:
    """What the signs of the table mean."""
    words = ["MiB", "> the choice", "* as captured"]
    if any(not option.build.highmem for option in advice.options):
        words.append("off: without CONFIG_HIGHMEM")
    bounds = {o.outcome.bound for o in advice.options if o.outcome.pool.maps + o.outcome.local.maps}
    words.extend(
        f"{SIGNS[bound]} at {bound} so much" for bound in ("least", "most") if bound in bounds
    )
    if any(option.verdict == "mind" for option in advice.options):
        words.append("better?: mind what is said below")
    return " · ".join(words)


def _reasons(advice: advise.Advice) -> Iterator[RenderableType]:
    choice = advice.choice
    rows = [("for it", _words(reason)) for reason in choice.gains]
    rows += [("mind", _words(reason)) for reason in choice.mind]
    rows += _arena_row(choice)
    rows += [("why not", words) for words in _why_stay(advice)]
    yield heading("Reasons")
    yield labelled(rows)


def _why_stay(advice: advise.Advice) -> Iterator[str]:
    """Why nothing else is chosen, and what would change that."""
    if not advice.choice.is_now:
        return
    if not advice.choice.outcome.layout.highmem_bytes:
        yield "there is no highmem: no split has less to map"
    for option in advice.options:
        if option.is_better and option.is_untold:
            user = size(option.outcome.layout.user_end)
            yield (
                f"{name_of(option.build)} would be better if no process needs more than {user}: "
                "record the largest"
            )
    reached = [o for o in advice.options if not o.outcome.layout.highmem_bytes and not o.lost_ram]
    if not reached:
        yield "no split of this kernel makes all of the RAM lowmem"


def _arena_row(choice: advise.Option) -> list[tuple[str, str]]:
    arena = choice.outcome.arena
    if arena.peak_live is None or arena.largest_hole_min is None:
        return []
    return [(
        "arena",
        f"at most {size(arena.peak_live)} of {size(arena.size)} in use, the largest hole never "
        f"below {size(arena.largest_hole_min)}",
    )]  # fmt: skip


def _others(advice: advise.Advice) -> Iterator[RenderableType]:
    """Why not the others."""
    rows = [
        (name_of(option.build), "; ".join(map(_words, option.against)))
        for option in advice.options
        if option.against
    ]
    if rows:
        yield heading("Against the others")
        yield labelled(rows)


def _config(choice: advise.Option) -> list[str]:
    """Lines of the kernel's configuration."""
    machine, build = choice.outcome.machine, choice.build
    lines = [f"CONFIG_VMSPLIT_{build.split.upper()}=y"]
    built = _OPTIONS.get(machine.arch, ("CONFIG_HIGHMEM=y", "CONFIG_HIGHMEM=n"))
    lines.append(built[0] if build.highmem else built[1])
    if build.without:
        lines.append(
            f"CONFIG_{ {'PAE': 'X86_PAE', 'LPAE': 'ARM_LPAE'}.get(build.without, build.without) }=n"
        )
    return lines


@singledispatch
def _words(reason: object) -> str:
    raise TypeError(type(reason))


@_words.register(advise.LessRam)
def _(reason: advise.LessRam) -> str:
    return f"{size(reason.bytes)} of RAM are out of reach"


@_words.register(advise.TinyZone)
def _(reason: advise.TinyZone) -> str:
    return f"a highmem zone of {size(reason.bytes)} runs out first, with lowmem free"


@_words.register(advise.NotReleased)
def _(reason: advise.NotReleased) -> str:
    return reason.words


@_words.register(advise.WithoutWide)
def _(reason: advise.WithoutWide) -> str:
    nx = " and with it no-execute pages" if reason.name == "PAE" else ""
    return f"{reason.name} has to go{nx}"


@_words.register(advise.Failures)
def _(reason: advise.Failures) -> str:
    return f"{count(reason.there)} of the arena's allocations fail, now {count(reason.here)}"


@_words.register(advise.Waits)
def _(reason: advise.Waits) -> str:
    words = f"{count(reason.there)} waits for a slot of the pool, now {count(reason.here)}"
    return f"{words}; {plural(reason.asleep, 'task')} never wake up" if reason.asleep else words


@_words.register(advise.NothingMapped)
def _(reason: advise.NothingMapped) -> str:
    words = (
        f"no page is highmem: {count(reason.kmap)} kmap() and {count(reason.local)} local mappings "
        "need no slot"
    )
    if not reason.flushes:
        return words
    return f"{words}, {plural(reason.flushes, 'flush', 'flushes')} of the pool are gone"


@_words.register(advise.UserSpace)
def _(reason: advise.UserSpace) -> str:
    words = f"a process has {size(reason.less)} less: {size(reason.user)}"
    if reason.largest is None:
        return f"{words}; the largest process was not recorded"
    largest = reason.largest
    fits = "fits" if largest.vm_peak <= reason.user else "does not fit"
    close = largest.vm_peak > advise.SCARCE_PART * reason.user and fits == "fits"
    return (
        f"{words}; the largest was {clean(largest.name)}-{largest.pid} with "
        f"{size(largest.vm_peak)}: {'only just ' if close else ''}{fits}"
    )


@_words.register(advise.Cost)
def _(reason: advise.Cost) -> str:
    more = difference(reason.here, reason.there)
    return f"mapping costs {duration(reason.there)}, now {duration(reason.here)} ({more})"


def fleet_renderables(advised: Sequence[Advised]) -> Iterator[RenderableType]:
    """The page of several captures: each one's choice, the best common one, who loses by it."""
    yield heading(f"{plural(len(advised), 'capture')}")
    table = plain_table(
        ("capture", "left"), ("now", "left"), ("choice", "left"), ("evidence", "left")
    )
    for one in advised:
        now = next(option for option in one.advice.options if option.is_now)
        table.add_row(
            _capture(one),
            name_of(now.build),
            "stay" if one.advice.choice.is_now else name_of(one.advice.choice.build),
            one.advice.evidence,
        )
    yield indented(table)
    best, losers, lacking = common_choice(advised)
    if best is None:
        yield indented(Text("no build is there for all of them"))
        return
    yield heading(f"The best for all: {name_of(best)}")
    rows = [
        (
            _capture(one),
            "; ".join(map(_words, reasons)),
        )
        for one, reasons in losers
    ]
    yield labelled(rows or [("", "nobody loses by it")])
    if lacking:
        yield indented(Text(f"{plural(lacking, 'capture')} of kernels that cannot be built so"))


def _capture(advised: Advised) -> str:
    """The last part of a capture's path."""
    return clean(advised.source.origin.path.rstrip("/").rsplit("/", 1)[-1])


def common_choice(
    advised: Sequence[Advised],
) -> tuple[advise.Build | None, list[tuple[Advised, tuple[advise.Reason, ...]]], int]:
    """The build that the fewest lose by, who loses and why, and how many cannot have it."""
    votes: Counter[tuple[str, bool]] = Counter()
    for one in advised:
        for option in one.advice.options:
            key = option.build.split, option.build.highmem
            votes[key] += option.verdict != "no"
            votes[key] += option is one.advice.choice
    if not votes:
        return None, [], 0
    split, highmem = votes.most_common(1)[0][0]
    losers, lacking, build = [], 0, None
    for one in advised:
        options = [
            o for o in one.advice.options if (o.build.split, o.build.highmem) == (split, highmem)
        ]
        if not options:
            lacking += 1
            continue
        build = build or options[0].build
        if options[0].against:
            losers.append((one, options[0].against))
    return build, losers, lacking


def advice_document(advised: Sequence[Advised]) -> dict[str, Any]:
    """Document of `advise`."""
    return {**schema("advise"), "captures": [_document(one) for one in advised]}


def _document(one: Advised) -> dict[str, Any]:
    advice = one.advice
    return {
        **source_document(one.source),
        "assumptions": list(one.assumptions),
        "choice": {
            "split": advice.choice.build.split,
            "highmem": advice.choice.build.highmem,
            "is_now": advice.choice.is_now,
            "reasons": [_words(reason) for reason in (*advice.choice.gains, *advice.choice.mind)],
        },
        "evidence": advice.evidence,
        "largest_process": plain(advice.largest),
        "splits": [_split_document(option) for option in advice.options],
        "not_seen": [{"code": code, "words": _NOT_SEEN[code]} for code in advice.not_seen],
    }


def _split_document(option: advise.Option) -> dict[str, Any]:
    outcome, build = option.outcome, option.build
    return {
        "split": build.split,
        "highmem_enabled": build.highmem,
        "without": build.without or None,
        "available": build.proposed is None,
        "is_now": option.is_now,
        "lowmem": outcome.layout.lowmem_bytes,
        "highmem": outcome.layout.highmem_bytes,
        "lost_ram": option.lost_ram,
        "user": outcome.layout.user_end,
        "vmalloc": outcome.arena.size,
        "modules": outcome.layout.modules_end - outcome.layout.modules_start,
        "mem_map": outcome.layout.mem_map_bytes,
        "peak_arena": outcome.arena.peak_live,
        "maps": outcome.pool.maps,
        "local": outcome.local.maps,
        "flushes": outcome.pool.flushes,
        "waits": outcome.pool.waits,
        "failures": outcome.arena.failures,
        "purged_pages": outcome.tlb.range_pages,
        "cost_ns": plain(outcome.cost.total_ns),
        "bound": outcome.bound,
        "verdict": option.verdict,
        "reasons": [_words(r) for r in (*option.against, *option.mind, *option.gains)],
    }
