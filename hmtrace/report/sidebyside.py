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
from replay.rules.splits import sign_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.outcome import Outcome

_OTHER_WAY = {"≥": "≤", "≤": "≥"}
_ABOUT = "≈"
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
        How it goes with the pages that are highmem, of which the trace may not tell all: ``up``,
        then it is the same bound as their number, ``down``, then it is the other one, ``about``,
        neither; empty: not at all.
    """

    name: str
    value: Callable[[Outcome], float | None]
    shown: Callable[[float | None], str]
    bound: str = ""


SHARE = "  share of CPU time"
ROWS = (
    Row("kmap of highmem", lambda o: o.pool.maps, count, bound="up"),
    Row("  new mappings", lambda o: o.pool.new_mappings, count, bound="up"),
    Row("  pool flushes", lambda o: o.pool.flushes, count, bound="up"),
    Row("  slots in use, most", lambda o: o.pool.max_used, count, bound="up"),
    Row("  slots visited, mean", lambda o: o.pool.scan_mean or None, number, bound="about"),
    Row("  waits", lambda o: o.pool.waits, count, bound="up"),
    Row("  time waited", lambda o: o.pool.wait_ns, duration, bound="up"),
    Row("local mappings", lambda o: o.local.maps, count, bound="up"),
    Row("  of lowmem pages", lambda o: o.local.lowmem, count, bound="down"),
    Row("  depth, most", lambda o: o.local.max_depth, count, bound="up"),
    Row("arena size", lambda o: o.arena.size, size),
    Row("  failures", lambda o: o.arena.failures, count),
    Row("  purges that flushed", lambda o: o.arena.lazy_purges, count),
    Row("  in use, most", lambda o: o.arena.peak_live, size),
    Row("  largest hole, least", lambda o: o.arena.largest_hole_min, size),
    Row("TLB flushes, full", lambda o: o.tlb.full, count, bound="up"),
    Row("  ranged", lambda o: o.tlb.range, count, bound="up"),
    Row("  single", lambda o: o.tlb.single, count, bound="up"),
    Row("  IPIs", lambda o: o.tlb.ipis, count, bound="up"),
    Row("cost", lambda o: o.cost.total_ns, duration, bound="up"),
    Row(SHARE, lambda o: o.cost.share_of_span, share, bound="up"),
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
        bound = _sign(row, outcome, after_value)
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
    bounds = f"; figures of highmem are at {outcome.bound} so much" if outcome.bound else ""
    yield from findings_section(outcome.findings, aside=f"of the what-if{bounds}")
    caveats = [*outcome.caveats, *assumptions, *source.notes]
    if outcome.bound:
        caveats.insert(0, _signs_in_words(outcome))
    if not changed:
        caveats.insert(0, UNCHANGED)
    yield from calibration_section(calibration)
    yield from caveats_section(caveats)
    yield Text()
    yield reproducibility(source)


def _sign(row: Row, outcome: Outcome, value: float | None) -> str:
    """In which sense a figure holds; "" as it stands."""
    sign = sign_of(outcome)
    if not row.bound or outcome.bound is None or value is None:
        return ""
    if row.bound == "about":
        return _ABOUT
    bound = sign if row.bound == "up" else _OTHER_WAY[sign]
    return "" if bound == "≤" and not value else bound


def _signs_in_words(outcome: Outcome) -> str:
    """What the signs of a table mean."""
    sign = sign_of(outcome)
    other = {"least": "most", "most": "least"}[outcome.bound or "least"]
    words = f"{sign} marks what is at {outcome.bound} so much there: figures, and how they change"
    of_other = any(row.bound == "down" and _sign(row, outcome, row.value(outcome)) for row in ROWS)
    if of_other:
        words += f"; {_OTHER_WAY[sign]} what is at {other} so much"
    if any(row.bound == "about" and row.value(outcome) for row in ROWS):
        words += f"; {_ABOUT} what may be more or less"
    return words


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
