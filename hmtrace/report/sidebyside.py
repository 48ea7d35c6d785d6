"""A what-if beside the captured machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from hmtrace.report.calibration import calibration_section
from hmtrace.report.findings import caveats_section, findings_section
from hmtrace.report.machine import machine_in_words, machine_rows
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import count, duration, number, plural, share, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.outcome import Outcome

SIGNS = {"least": "≥", "most": "≤", None: ""}
"""Of :attr:`replay.outcome.Outcome.bound`."""
UNCHANGED = (
    "nothing was changed, so the model's figures of the captured machine stand beside each other: "
    "--split, --ram, --pkmap, --vmalloc, --cpus, --kernel, --machine and others change it"
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
        Whether it only grows with the pages that are highmem, so that it is a bound where the
        trace does not tell all of them.
    """

    name: str
    value: Callable[[Outcome], float | None]
    shown: Callable[[float | None], str]
    bound: bool = False


SHARE = "  share of CPU time"
ROWS = (
    Row("kmap of highmem", lambda o: o.pool.maps, count, bound=True),
    Row("  new mappings", lambda o: o.pool.new_mappings, count, bound=True),
    Row("  pool flushes", lambda o: o.pool.flushes, count, bound=True),
    Row("  slots in use, most", lambda o: o.pool.max_used, count, bound=True),
    Row("  slots visited, mean", lambda o: o.pool.scan_mean or None, number),
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
    Row(SHARE, lambda o: o.cost.share_of_span, share, bound=True),
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
    changed = is_changed(baseline, outcome)
    yield labelled(
        [
            ("captured", machine_in_words(baseline.machine, baseline.layout)),
            (
                "what if",
                machine_in_words(outcome.machine, outcome.layout)
                if changed
                else "the same machine: nothing was changed",
            ),
        ]
    )
    sign = SIGNS[outcome.bound]
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
        exact = after_value is None or (outcome.bound == "most" and not after_value)
        bound = sign if row.bound and not exact else ""
        change = difference(before_value, after_value, bound)
        if row.name == SHARE and baseline.cpus != outcome.cpus:
            change = f"of {plural(outcome.cpus, 'CPU')}"  # of another whole: no change of cost
        table.add_row(
            row.name,
            row.shown(before_value),
            f"{bound} {row.shown(after_value)}" if bound else row.shown(after_value),
            change,
        )
    yield indented(table)
    yield from findings_section(outcome.findings)
    caveats = [*outcome.caveats, *assumptions, *source.notes]
    if sign:
        marked = f"{sign} marks what is at {outcome.bound} so much there"
        caveats.insert(0, f"{marked}: figures, and how they change")
    if not changed:
        caveats.insert(0, UNCHANGED)
    yield from calibration_section(calibration)
    yield from caveats_section(caveats)
    yield Text()
    yield reproducibility(source)


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
