"""A what-if beside the captured machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from hmtrace.report.calibration import calibration_section
from hmtrace.report.findings import caveats_section, findings_section
from hmtrace.report.machine import machine_in_words, machine_rows
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import count, duration, number, share, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.outcome import Outcome

MARK = "≥ marks lower bounds, and a fall beside one is the largest that it can be"
LOWER_BOUND = (
    "lower bound: the other machine has less lowmem, and a trace shows kmap() only of pages that "
    "were highmem where it was captured; for the full count, boot the captured board with a larger "
    "vmalloc=, so that its border is as low as the other machine has it"
)


class Row(NamedTuple):
    """One figure of an outcome.

    Attributes
    ----------
    name
        Words for it.
    value
        The figure.
    shown
        How it is written.
    bound
        Whether it only grows with highmem, so that it is a lower bound on a machine with less
        lowmem.
    """

    name: str
    value: Callable[[Outcome], float | None]
    shown: Callable[[float | None], str]
    bound: bool = False


ROWS = (
    Row("kmap of highmem", lambda o: o.pool.maps, count, bound=True),
    Row("  new mappings", lambda o: o.pool.new_mappings, count, bound=True),
    Row("  pool flushes", lambda o: o.pool.flushes, count, bound=True),
    Row("  slots in use, most", lambda o: o.pool.max_used, count, bound=True),
    Row("  slots visited, mean", lambda o: o.pool.scan_mean, number),
    Row("  waits", lambda o: o.pool.waits, count, bound=True),
    Row("  time waited", lambda o: o.pool.wait_ns, duration, bound=True),
    Row("local mappings", lambda o: o.local.maps, count, bound=True),
    Row("  of lowmem pages", lambda o: o.local.lowmem, count),
    Row("  depth, most", lambda o: o.local.max_depth, count),
    Row("arena size", lambda o: o.arena.size, size),
    Row("  failures", lambda o: o.arena.failures, count),
    Row("  purges that flushed", lambda o: o.arena.lazy_purges, count),
    Row("  in use, most", lambda o: o.arena.peak_live, size),
    Row("  largest hole, least", lambda o: o.arena.largest_hole_min, size),
    Row("TLB flushes, full", lambda o: o.tlb.full, count, bound=True),
    Row("  ranged", lambda o: o.tlb.range, count, bound=True),
    Row("  single", lambda o: o.tlb.single, count, bound=True),
    Row("  IPIs", lambda o: o.tlb.ipis, count, bound=True),
    Row("cost", lambda o: o.cost.total_ns, duration, bound=True),
    Row("  share of CPU time", lambda o: o.cost.share_of_span, share, bound=True),
)


def replay_renderables(
    source: InputSummary,
    baseline: Outcome,
    outcome: Outcome,
    assumptions: Sequence[str] = (),
    calibration: Calibration | None = None,
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

    Yields
    ------
    RenderableType
        Title, losses, both machines, figures side by side, findings of the what-if, caveats.
    """
    yield from title_lines("replay", source)
    yield Text()
    yield labelled(
        [
            ("captured", machine_in_words(baseline.machine, baseline.layout)),
            ("what if", machine_in_words(outcome.machine, outcome.layout)),
        ]
    )
    bounded = is_lower_bound(baseline, outcome)
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
        before_value, after_value = row.value(baseline), row.value(outcome)
        if not before_value and not after_value and row.name.startswith("  "):
            continue
        uncertain = bounded and row.bound and after_value is not None
        table.add_row(
            row.name,
            row.shown(before_value),
            ("≥ " if uncertain else "") + row.shown(after_value),
            difference(before_value, after_value, bounded=uncertain),
        )
    yield indented(table)
    yield from findings_section(outcome.findings)
    caveats = [*outcome.caveats, *assumptions, *source.notes]
    if bounded:
        if not any("lower bound" in caveat for caveat in outcome.caveats):
            caveats.insert(0, LOWER_BOUND)
        caveats.insert(0, MARK)
    yield from calibration_section(calibration)
    yield from caveats_section(caveats)
    yield Text()
    yield reproducibility(source)


def is_lower_bound(baseline: Outcome, outcome: Outcome) -> bool:
    """Whether the other machine has less lowmem than the captured one.

    Pages that would be highmem there only were never seen by kmap_high() (include/linux/
    highmem-internal.h: kmap returns the direct address of a lowmem page).
    """
    return outcome.layout.lowmem_bytes < baseline.layout.lowmem_bytes


def difference(before: float | None, after: float | None, *, bounded: bool = False) -> str:
    """Change in words: ``+12 %``, ``-88 %``, ``×5.2``, ``gone``, ``new``, empty for none.

    Parameters
    ----------
    before, after
        The two figures.
    bounded
        `after` is a lower bound: a rise is the least, a fall the most that can be.

    Examples
    --------
    >>> difference(200, 100), difference(100, 520), difference(3, 0), difference(0, 3)
    ('-50 %', '×5.2', 'gone', 'new')
    """
    if before is None or after is None or before == after:
        return ""
    if bounded and after < before:
        return "none seen" if not after else "≤ " + difference(before, after)
    if not after:
        return "gone"
    if not before:
        return "new"
    if after >= 2 * before:
        return f"{'≥ ' if bounded else ''}×{after / before:.1f}"
    percent = (after - before) / before * 100
    if abs(percent) < 0.05:
        return "+<0.1 %" if percent > 0 else "-<0.1 %"
    return f"{percent:+.1f} %" if abs(percent) < 10 else f"{percent:+.0f} %"
