"""Two runs beside each other: what changed, dearest first; what did not; what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace import __version__
from hmtrace.report.compare_sites import converted_section, sites_section_of
from hmtrace.report.compare_words import (
    NAMES,
    PER,
    SHORT_PER,
    apart_rows,
    basis_in_words,
    change_in_words,
    cost_change,
    cost_in_short,
    differs_in_words,
    expected_of,
    figure,
    noise_in_words,
    rate,
    why_in_words,
    work_in_words,
)
from hmtrace.report.parts import Fitted, heading, indented, joined, labelled
from hmtrace.report.source import lost_in_words
from hmtrace.report.text import clean, count, duration, plural
from replay.compare.changes import PERHAPS, RUN, SAME, UNKNOWN, WITHIN
from replay.compare.figures import COUNT
from replay.compare.noise import CHANCE, EXACT
from replay.compare.side import CAPTURED, ROW, WHAT_IF

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.compare.changes import Change
    from replay.compare.run import Comparison
    from replay.compare.side import Side

_ELSEWHERE: Final = "wider, or --format json"
_KIND: Final = {CAPTURED: "captured", WHAT_IF: "what if", ROW: "row of a sweep"}
_SHORT: Final = 8
_SOURCES: Final = ("A", "B")


def compare_renderables(
    found: Comparison, sources: Sequence[InputSummary | None]
) -> Iterator[RenderableType]:
    """Lines and sections of `compare`.

    Parameters
    ----------
    found
        Both runs.
    sources
        What was read of each that is a capture.

    Yields
    ------
    RenderableType
        Both sides, what changed in short, figures, call sites, what is not comparable.
    """
    yield Text.assemble(("hmtrace compare", "bold"))
    yield labelled(
        [
            (name, _side_in_words(side, source))
            for name, side, source in zip(_SOURCES, (found.one, found.other), sources, strict=True)
        ]
    )
    yield from _losses(sources)
    yield heading("In short")
    yield labelled(list(_in_short(found)))
    changed = [change for change in found.changes if change.is_change and change.kind == COUNT]
    changed.sort(key=lambda c: -abs(c.cost_ns or 0))
    beyond = "beyond chance, " if found.basis == CHANCE else ""
    dearest = ", dearest first" if any(change.cost_ns for change in changed) else ""
    aside = f"{beyond}{PER[found.work.unit]}{dearest}"
    yield from _table(found, changed, "Changed", aside)
    maybe = [c for c in found.changes if c.verdict == PERHAPS and c.kind == COUNT]
    yield from _table(found, maybe, "Perhaps changed", "too few repetitions to tell")
    yield from converted_section(found)
    alike = [c for c in found.changes if c.verdict in (SAME, WITHIN) and c.kind == COUNT]
    # that there are 1000 kmap() per 1000 says nothing
    shown = [c for c in alike if (c.one.value or c.other.value) and not found.work.is_it(c)]
    yield from _table(found, shown, "Not changed", "the same, or within the noise")
    yield from _extremes(found)
    yield from _unknown(found)
    yield from sites_section_of(found)
    if rows := list(apart_rows(found)):
        yield heading("Not comparable")
        yield labelled(rows)
    yield Text()
    digests = [
        f"sha256 of {name} {clean(side.trace[:12])}"
        for name, side in zip(_SOURCES, (found.one, found.other), strict=True)
        if side.trace and side.kind != ROW
    ]
    yield Text(joined([f"hmtrace {__version__}", *digests]), style="dim")


def _side_in_words(side: Side, source: InputSummary | None) -> str:
    facts = side.facts
    machine = joined(
        [
            clean(facts.get("arch") or "") + (" PAE" if facts.get("pae") else ""),
            clean(facts.get("release") or facts.get("generation") or ""),
            plural(facts["cpus"], "CPU") if facts.get("cpus") else "",
            duration(side.span_ns) if side.span_ns else "",
            clean(source.origin.format) if source is not None else "",
        ]
    )
    return f"{clean(side.name)}\n{joined([_KIND[side.kind], machine])}"


def _losses(sources: Sequence[InputSummary | None]) -> Iterator[RenderableType]:
    lines = [
        f"!! {name} {lost_in_words(source.lost)}"
        for name, source in zip(_SOURCES, sources, strict=True)
        if source is not None and source.lost.intervals
    ]
    if lines:
        yield Text()
        yield Text("\n".join(lines), style="bold red")


def _in_short(found: Comparison) -> Iterator[tuple[str, str]]:
    """What a reader wants to know first."""
    if found.is_same:
        yield "the same", "both are the same trace on the same machine: nothing changed"
        return
    counts = [change for change in found.changes if found.is_told(change)]
    changed = sorted((c for c in counts if c.is_change), key=lambda c: -abs(c.cost_ns or 0))
    yield (
        "changed",
        ", ".join(map(_short, changed[:_SHORT])) + _more(changed)
        if changed
        else ("nothing by more than the noise" if any(map(_is_known, counts)) else "not known"),
    )
    if maybe := [change for change in counts if change.verdict == PERHAPS]:
        yield "perhaps", ", ".join(map(_short, maybe))
    for label, findings in (("only in B", found.new), ("only in A", found.gone)):
        if findings:
            yield label, ", ".join(f"{clean(rule)} ({severity})" for rule, severity in findings)
    for label, verdict in (("the same", SAME), ("in noise", WITHIN)):
        alike = [c for c in counts if c.verdict == verdict and (c.one.value or c.other.value)]
        if alike:
            yield label, ", ".join(NAMES[change.name] for change in alike)
    levels = [c for c in found.changes if c.kind != COUNT and c.name == "local_depth"]
    for level in levels:
        if level.one.value or level.other.value:
            runs = (found.one, found.other)
            one, other = (f" of {run.limit}" if run.limit else "" for run in runs)
            yield (
                "depth",
                f"{figure(level.name, level.one)}{one if one != other else ''} → "
                f"{figure(level.name, level.other)}{other}",
            )
    yield "cost", cost_in_short(found.cost, found.work)
    machines = [" ".join(differs_in_words(one)) for one in found.machines]
    yield "machine", joined(machines) or "the same, as far as both tell"
    yield "unit", work_in_words(found.work)
    yield "noise", basis_in_words(found)


def _is_known(change: Change) -> bool:
    return change.verdict != UNKNOWN and bool(change.one.value or change.other.value)


def _more(changed: Sequence[Change]) -> str:
    return f", {len(changed) - _SHORT} more" if len(changed) > _SHORT else ""


def _short(change: Change) -> str:
    return f"{NAMES[change.name]} {change_in_words(change)}"


def _table(
    found: Comparison, changes: Sequence[Change], title: str, aside: str
) -> Iterator[RenderableType]:
    """Figures side by side, where there are any."""
    if not changes:
        return
    yield heading(title, aside)
    is_run = found.work.unit == RUN
    per = [] if is_run else [(SHORT_PER[found.work.unit], "right")]
    columns = [
        ("", "left"), ("A → B", "right"), *per, ("change", "right"), ("noise", "right"),
        *([("cost", "right")] if any(c.cost_ns for c in changes if c.is_change) else []),
    ]  # fmt: skip
    rows = []
    for change in changes:
        whole = f"{figure(change.name, change.one)} → {figure(change.name, change.other)}"
        both = [] if is_run else [f"{rate(change.rates[0])} → {rate(change.rates[1])}"]
        cells = [
            NAMES[change.name],
            whole,
            *both,
            change_in_words(change),
            noise_in_words(change.noise, expected_of(change)),
            cost_change(change.cost_ns),
        ]
        rows.append([Text(cell) for cell in cells[: len(columns)]])
    spare = ("noise",) if is_run else ("A → B", "noise")
    yield indented(Fitted(columns, rows, spare, _ELSEWHERE))


def _extremes(found: Comparison) -> Iterator[RenderableType]:
    """The most, the least, and times: as they are, for they do not add up."""
    levels = [
        c
        for c in found.changes
        if c.kind != COUNT and c.verdict != UNKNOWN and (c.one.value or c.other.value)
    ]
    if not levels:
        return
    known = any(found.repeats) or found.basis == EXACT
    aside = "" if known else "; what two captures differ by is not known"
    yield heading("Extremes and times", f"of the whole run{aside}")
    rows = []
    for change in levels:
        of = {"pool_used": (found.one.slots, found.other.slots)}
        of["local_depth"] = (found.one.limit, found.other.limit)
        limits = of.get(change.name, (None, None))
        cells = [
            f"{figure(change.name, known)}{f' of {count(limit)}' if limit else ''}"
            for known, limit in zip((change.one, change.other), limits, strict=True)
        ]
        words = change_in_words(change)
        words = words if known else words.removesuffix(" ?")
        rows.append(
            (NAMES[change.name], f"{cells[0]} → {cells[1]}  {words if words != '=' else ''}")
        )
    yield labelled(rows)


def _unknown(found: Comparison) -> Iterator[RenderableType]:
    """Figures of which it cannot be said whether they changed."""
    rows = [
        (
            NAMES[change.name],
            f"{figure(change.name, change.one)} → {figure(change.name, change.other)}: "
            f"{why_in_words(change.why)}",
        )
        for change in found.changes
        if change.verdict == UNKNOWN and (change.one.value or change.other.value)
    ]
    if rows:
        yield heading("Not known whether changed")
        yield labelled(rows)
