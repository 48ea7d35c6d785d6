"""Call sites of two runs: who maps more, who less, and whose kmap() became local."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace.report.compare_words import (
    NAMES,
    PER,
    SHORT_PER,
    cost_change,
    figure,
    noise_in_words,
    rate,
    share_in_words,
)
from hmtrace.report.parts import Fitted, elide, heading, indented, joined, labelled
from hmtrace.report.text import clean, count, duration, plural, share
from replay.compare.changes import CHANGED, PERHAPS, RUN, SAME, WITHIN
from replay.cost.causes import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.compare.changes import Change
    from replay.compare.run import Comparison
    from replay.compare.sites import Converted, FunctionChange, Nameless

_SHOWN: Final = 10
_NAMED: Final = 5
_WIDTH: Final = 34
_SHORT: Final = {"kmap_local": "local"}
_OF_CONVERSION: Final = (
    "kmap", "local", "pool_flushes", "ipis", "tlb_single", "local_depth", "local_saved", "waits",
)  # fmt: skip


def converted_section(found: Comparison) -> Iterator[RenderableType]:
    """Functions whose kmap() became kmap_local_page(), and what came of it.

    Yields
    ------
    RenderableType
        Nothing where there are none.
    """
    converted = [] if found.sites is None else found.sites.converted
    if not converted:
        return
    yield heading("From kmap() to kmap_local_page()", "functions that map by the other API in B")
    yield labelled([("", _function(one)) for one in converted[:_SHOWN]])
    rows = []
    by_name = {change.name: change for change in found.changes}
    for name in _OF_CONVERSION:
        change = by_name[name]
        if change.one.value is None or change.other.value is None:
            rows.append((NAMES[name], "not known in both"))
        elif change.one.value or change.other.value:
            both = f"{figure(name, change.one)} → {figure(name, change.other)}"
            if name == "local_depth":
                both += f" of {found.other.limit}" if found.other.limit else ""
            elif found.work.unit != RUN:
                rates = " → ".join(map(rate, change.rates))
                both += f"  {SHORT_PER[found.work.unit]}: {rates}"
            rows.append((NAMES[name], both))
    rows += _everywhere(found, by_name)
    rows.append(("restore cost", _restore_cost(found)))
    yield labelled(rows)


def _everywhere(found: Comparison, by_name: dict[str, Change]) -> Iterator[tuple[str, str]]:
    """Flushes of every CPU's TLB, full or ranged."""
    full, ranged = by_name["tlb_full"], by_name["tlb_ranged"]
    sums = []
    for known in ((full.one, ranged.one), (full.other, ranged.other)):
        values = [one.value for one in known]
        if None in values:
            return
        sums.append(sum(value or 0 for value in values))
    words = f"{count(sums[0])} → {count(sums[1])} flushes, full or ranged"
    if found.work.unit != RUN:
        units = (found.work.one.value, found.work.other.value)
        rates = [
            rate(n / of * found.work.per if of else None) for n, of in zip(sums, units, strict=True)
        ]
        words += f"  {SHORT_PER[found.work.unit]}: {' → '.join(rates)}"
    yield "of every CPU", words


def _restore_cost(found: Comparison) -> str:
    """What context switches cost by taking local mappings down and putting them back."""
    words = []
    for side, units in ((found.one, found.work.one.value), (found.other, found.work.other.value)):
        if side.cost is None or not side.cost.causes or not units:
            return "not told"
        cost = side.cost.causes.get(Cause.SWITCHES)
        ends = (
            [ns / units * found.work.per for ns in (cost.ns, cost.low, cost.high)] if cost else []
        )
        words.append(
            f"{duration(ends[0])} ({duration(ends[1])} to {duration(ends[2])})" if ends else "none"
        )
    per = "" if found.work.unit == RUN else f" {PER[found.work.unit]}"
    return f"{words[0]} → {words[1]}{per}: switches take mappings down and put them back"


def _function(one: Converted) -> str:
    kmap, local = one.kmap, one.local
    return joined(
        [
            f"{clean(one.function)}: kmap() {count(kmap[0].calls)} → {count(kmap[1].calls)}",
            f"local {count(local[0].calls)} → {count(local[1].calls)}",
            f"depth at most {local[1].depth}" if local[1].depth is not None else "",
            f"{count(local[1].over_switch)} over switches" if local[1].over_switch else "",
        ]
    )


def sites_section_of(found: Comparison) -> Iterator[RenderableType]:
    """Call sites by function.

    Yields
    ------
    RenderableType
        The functions whose calls changed, those of one run alone, and how many did not change.
    """
    joined_sites = found.sites
    if joined_sites is None:
        return
    functions = joined_sites.functions
    unnamed = list(_nameless(joined_sites.nameless))
    if not functions and not unnamed:
        return
    changed = [f for f in functions if f.verdict in (CHANGED, PERHAPS)]
    in_both = [f for f in changed if f.one.calls and f.other.calls]
    yield heading("Call sites, by function", f"{PER[found.work.unit]}, dearest first")
    if in_both:
        yield indented(_table(found, in_both[:_SHOWN]))
    rows = []
    if len(in_both) > _SHOWN:
        rows.append(("", f"{len(in_both) - _SHOWN} more: --format json"))
    rows += _of_one(changed, functions)
    alike = sum(f.verdict in (SAME, WITHIN) for f in functions)
    if alike:
        rows.append(("alike", f"{plural(alike, 'function')}: the same, or within the noise"))
    unknown = len(functions) - alike - len(changed)
    if unknown:
        rows.append(("not known", f"{plural(unknown, 'function')}: not told alike in both"))
    rows += [("no names", words) for words in unnamed]
    if rows:
        yield labelled(rows)


def _of_one(
    changed: Sequence[FunctionChange], functions: Sequence[FunctionChange]
) -> Iterator[tuple[str, str]]:
    """Functions that map in one run alone: perhaps they became others."""
    for side, mine in (("A", [f for f in changed if not f.other.calls]),
                       ("B", [f for f in changed if not f.one.calls])):  # fmt: skip
        by_op: dict[str, list[FunctionChange]] = {}
        for one in mine:
            by_op.setdefault(one.op, []).append(one)
        for op, of_op in by_op.items():
            calls = [(f.one if side == "A" else f.other).calls for f in of_op]
            ranked = sorted(zip(calls, of_op, strict=True), key=lambda pair: -pair[0])
            names = ", ".join(f"{clean(f.function)} {count(n)}" for n, f in ranked[:_NAMED])
            more = f", {len(ranked) - _NAMED} more" if len(ranked) > _NAMED else ""
            whole = sum(_calls(f, side) for f in functions if f.op == op)
            api = clean(_SHORT.get(op, op))
            words = f"{api}, {count(sum(calls))} of {count(whole)} calls: {names}{more}"
            yield f"only in {side}", words


def _calls(function: FunctionChange, side: str) -> int:
    return (function.one if side == "A" else function.other).calls


def _nameless(both: tuple[Nameless, Nameless]) -> Iterator[str]:
    for side, one in zip(("A", "B"), both, strict=True):
        if one.calls:
            yield (
                f"{count(one.calls)} of {count(one.whole)} calls of {side} "
                f"({share(one.calls / one.whole)}) are from sites without a name: joined by nothing"
            )


def _table(found: Comparison, functions: Sequence[FunctionChange]) -> RenderableType:
    is_run = found.work.unit == RUN
    per = [] if is_run else [(SHORT_PER[found.work.unit], "right")]
    columns = [
        ("function", "left"), ("API", "left"), ("A → B", "right"), *per, ("change", "right"),
        ("noise", "right"), ("cost", "right"),
    ]  # fmt: skip
    rows = []
    for one in functions:
        expected = one.other.calls - (one.difference or 0)
        words = share_in_words(expected, one.other.calls)
        cells = [
            elide(clean(one.function), _WIDTH, 10),
            clean(_SHORT.get(one.op, one.op)),
            f"{count(one.one.calls)} → {count(one.other.calls)}",
            *([] if is_run else [f"{rate(one.rates[0])} → {rate(one.rates[1])}"]),
            f"{words} ?" if one.verdict == PERHAPS else words,
            noise_in_words(one.noise, expected),
            cost_change(one.cost_ns),
        ]
        rows.append([Text(cell) for cell in cells])
    spare = ("noise",) if is_run else ("A → B", "noise", "cost")
    return Fitted(columns, rows, spare, "wider, or --format json")
