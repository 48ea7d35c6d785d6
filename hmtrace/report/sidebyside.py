"""A what-if beside the captured machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from hmtrace.report.calibration import calibration_section
from hmtrace.report.caveats import caveats_section
from hmtrace.report.conversion import conversion_section
from hmtrace.report.findings import findings_section
from hmtrace.report.machine import machine_in_words, machine_rows
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.purges import purges_beside
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import clean, count, duration, mib, number, plural, share
from hmtrace.report.verdict import verdict_in_words
from replay.cost.verdict import cost_verdict, lock_verdict
from replay.machine.options import has_highpte
from replay.whatif.figures import FIGURES, sense_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.outcome import Outcome
    from replay.whatif.convert import Conversion

SIGNS = {"least": "≥", "most": "≤", "about": "≈", None: ""}
"""Of :func:`replay.whatif.figures.sense_of`."""
MEANINGS = {
    "least": "at least so much",
    "most": "at most so much",
    "about": "may be more or less",
}
_SO_MUCH = {
    "least": "at least so much",
    "most": "at most so much",
    "about": "more or less so much",
}
UNCHANGED = (
    "nothing was changed, so the model's figures of the captured machine stand beside each other: "
    "--split, --ram, --pkmap, --vmalloc, --cpus, --kernel, --machine and others change it"
)


class Row(NamedTuple):
    """One figure of an outcome: words for it, its name, and how it is written."""

    words: str
    figure: str
    shown: Callable[[float | None], str]


ROWS = (
    Row("kmap of highmem", "kmap", count),
    Row("  new mappings", "new_mappings", count),
    Row("  pool flushes", "pool_flushes", count),
    Row("  slots in use, most", "pool_used", count),
    Row("  slots visited, mean", "scan", number),
    Row("  waits", "waits", count),
    Row("  time waited", "wait_ns", duration),
    Row("  kmap_lock held, mean", "lock_hold_ns", duration),
    Row("  kmap_lock held, of time", "lock_share", share),
    Row("local mappings", "local", count),
    Row("  of lowmem pages", "local_lowmem", count),
    Row("  depth, most", "local_depth", count),
    Row("  held at switches", "local_saved", count),
    Row("arena size", "vmalloc", mib),
    Row("  failures", "failures", count),
    Row("  purges that flushed", "purges", count),
    Row("  in use, most", "arena_live", mib),
    Row("  largest hole, least", "largest_hole", mib),
    Row("TLB flushes, full", "tlb_full", count),
    Row("  ranged", "tlb_ranged", count),
    Row("  single", "tlb_single", count),
    Row("  IPIs", "ipis", count),
    Row("cost", "cost_ns", duration),
    Row("  share of CPU time", "cost_share", share),
)


def replay_renderables(
    source: InputSummary,
    baseline: Outcome,
    outcome: Outcome,
    assumptions: Sequence[str] = (),
    calibration: Calibration | None = None,
    conversion: Conversion | None = None,
) -> Iterator[RenderableType]:
    """Lines and sections of `replay`.

    Parameters
    ----------
    source
        What was read.
    baseline
        The captured machine.
    outcome
        The other machine.
    assumptions
        What the captured machine's files did not say.
    calibration
        Costs measured from the trace, with ``--calibrate``.
    conversion
        What ``--convert`` means.

    Yields
    ------
    RenderableType
        Title, losses, both machines, figures side by side, findings of the what-if, caveats.
    """
    yield from title_lines("replay", source)
    yield Text()
    changed = is_changed(baseline, outcome)
    there = machine_in_words(outcome.machine, outcome.layout)
    if has_highpte(outcome.machine) != has_highpte(baseline.machine):
        there += f", page tables {'high' if has_highpte(outcome.machine) else 'low'}"
    if "KASAN" in baseline.machine.config ^ outcome.machine.config:
        there += f", {'with' if 'KASAN' in outcome.machine.config else 'without'} KASAN"
    if conversion is not None:
        there += f", {clean(conversion.words)}"
    yield labelled(
        [
            ("captured", machine_in_words(baseline.machine, baseline.layout)),
            (
                "what if",
                there if changed else "the same machine: nothing was changed",
            ),
        ]
    )
    yield heading("Captured and what if")
    table = plain_table(
        ("", "left"), ("captured", "right"), ("what if", "right"), ("difference", "right")
    )
    for name, before, after in zip(
        (n for n, _ in machine_rows(baseline.machine, baseline.layout)),
        (v for _, v in machine_rows(baseline.machine, baseline.layout)),
        (v for _, v in machine_rows(outcome.machine, outcome.layout)),
        strict=True,
    ):
        table.add_row(name, before, after, "" if before == after else "changed")
    for row in ROWS:
        figure = FIGURES[row.figure]
        before_value, after_value = figure.value(baseline), figure.value(outcome)
        if not before_value and not after_value and row.words.startswith("  "):
            continue
        bound = SIGNS[sense_of(row.figure, after_value, outcome.bound, outcome.arena.apart)]
        change = difference(before_value, after_value, bound)
        if row.figure == "cost_share" and baseline.cpus != outcome.cpus:
            change = f"of {plural(outcome.cpus, 'CPU')}"  # of another whole: no change of cost
        table.add_row(
            row.words,
            row.shown(before_value),
            f"{bound} {row.shown(after_value)}" if bound else row.shown(after_value),
            change,
        )
    yield indented(table)
    if changed:
        yield Text()
        yield labelled(list(_verdicts(baseline, outcome)))
    if conversion is not None:
        yield from conversion_section(conversion, outcome.local.limit)
    bounds = f"; figures of highmem are {_SO_MUCH[outcome.bound]}" if outcome.bound else ""
    yield from findings_section(outcome.findings, aside=f"of the what-if{bounds}")
    caveats = [*outcome.caveats, *assumptions, *source.notes]
    if signs := _signs_in_words(outcome):
        caveats.insert(0, signs)
    if not changed:
        caveats.insert(0, UNCHANGED)
    yield from purges_beside(baseline.purges, outcome.purges, about=bool(outcome.arena.apart))
    yield from calibration_section(calibration)
    yield from caveats_section(caveats)
    yield Text()
    yield reproducibility(source)


def _verdicts(baseline: Outcome, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Whether it is cheaper there, and holds kmap_lock for less time, over the ranges of costs."""
    cost = cost_verdict(baseline, outcome)
    yield "cost", verdict_in_words(cost)
    if cost.asleep:
        return
    # of a bound it may be more or less: pages that are mapped more often are other pages
    if baseline.cost.lock_units and outcome.cost.lock_units and outcome.bound is None:
        lock = lock_verdict(baseline, outcome)
        words = verdict_in_words(lock).replace("cheaper", "shorter").replace("dearer", "longer")
        yield "lock", f"held {words}"


def _signs_in_words(outcome: Outcome) -> str:
    """What the signs of a table mean, that of the outcome's bound first; "" without any."""
    told = {row.figure: FIGURES[row.figure].value(outcome) for row in ROWS}
    senses = {
        sense_of(name, value, outcome.bound, outcome.arena.apart)
        for name, value in told.items()
        if value or FIGURES[name].bound != "about"
    }
    known = [sense for sense in MEANINGS if sense in senses]
    words = [
        f"{SIGNS[sense]} what {'' if sense == 'about' else 'is '}{MEANINGS[sense]}"
        for sense in sorted(known, key=lambda sense: sense != outcome.bound)
    ]
    if not words:
        return ""
    first = words[0].replace(" what ", " marks what ", 1)
    return "; ".join((f"{first} there: figures, and how they change", *words[1:]))


def is_changed(baseline: Outcome, outcome: Outcome) -> bool:
    """Whether anything but costs is another machine's."""
    return replace(outcome.machine, costs=baseline.machine.costs, told=None) != replace(
        baseline.machine, told=None
    )


def difference(before: float | None, after: float | None, bound: str = "") -> str:
    """Change in words: ``+12 %``, ``-88 %``, ``×5.2``, ``gone``, ``new``, empty for none.

    Parameters
    ----------
    before, after
        The two figures.
    bound
        ``≥`` or ``≤`` where `after` is one; then the change is too.

    Examples
    --------
    >>> difference(200, 100), difference(100, 520), difference(3, 0), difference(0, 3)
    ('-50 %', '×5.2', 'gone', 'new')
    >>> difference(200, 0, "≥"), difference(200, 150, "≤"), difference(0, 3, "≥")
    ('≥ -100 %', '≤ -25 %', 'new')
    """
    if before is None or after is None or before == after:
        return ""
    if bound and before:
        return f"{bound} {'-100 %' if not after else difference(before, after)}"
    if not after:
        return "gone"
    if not before:
        return "new"
    if after >= 2 * before:
        return f"×{after / before:.1f}"
    percent = (after - before) / before * 100
    if abs(percent) < 0.05:
        return "+<0.1 %" if percent > 0 else "-<0.1 %"
    return f"{percent:+.1f} %" if abs(percent) < 10 else f"{percent:+.0f} %"
