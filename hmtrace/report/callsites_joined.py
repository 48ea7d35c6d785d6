"""What `sites` says of several captures: one table, joined by symbol."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.callsites import ORDERS, api_and_user, module_of
from hmtrace.report.conversion import WRONG, reasons, verdict
from hmtrace.report.document import schema, source_document
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.sites import site_name
from hmtrace.report.text import clean, count, duration, plural
from replay.sites.join import join, site_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from hmtrace.report.callsites import CallSites
    from hmtrace.report.source import InputSummary
    from replay.sites.join import SiteKey
    from replay.whatif.callers import SiteUse

_MOST_COLUMNS = 4
"""Captures that have a column each."""
_WIDE = 110


class SitesOf(NamedTuple):
    """The call sites of one of the captures.

    Attributes
    ----------
    name
        As the user named it.
    source, assumptions
        What was read, and what the capture's files left open.
    found
        Its call sites.
    """

    name: str
    source: InputSummary
    assumptions: tuple[str, ...]
    found: CallSites


@dataclass(frozen=True)
class JoinedUse:
    """A function that maps, in several captures.

    Attributes
    ----------
    key
        By what it is joined.
    module, api
        Its module or folder of source, and the function of the API that it calls: those of the
        first capture that tells.
    uses
        Its call sites by capture; none where it has none.
    """

    key: SiteKey
    module: str
    api: str
    uses: tuple[tuple[SiteUse, ...], ...]

    @property
    def all(self) -> list[SiteUse]:
        """Its call sites."""
        return [use for here in self.uses for use in here]

    @property
    def counts(self) -> list[int]:
        """Calls by capture."""
        return [sum(use.site.count for use in here) for here in self.uses]

    @property
    def name(self) -> str:
        """Symbol and module."""
        return f"{self.key.symbol} [{self.key.module}]" if self.key.module else self.key.symbol

    def sum(self, value: Callable[[SiteUse], float | None]) -> float | None:
        """Sum of a figure where it is known; None: nowhere."""
        known = [told for use in self.all if (told := value(use)) is not None]
        return sum(known) if known else None

    def most(self, value: Callable[[SiteUse], float | None]) -> float | None:
        """Greatest of a figure; None: it is known nowhere."""
        return max((told for use in self.all if (told := value(use)) is not None), default=None)

    def figures(self) -> dict[str, float | None]:
        """What its sites come to: sums, and the greatest of times and depths."""
        flagged = [use for use in self.all if use.in_interrupt is not None]
        calls = sum(use.site.count for use in flagged)
        irq = sum((use.in_interrupt or 0.0) * use.site.count for use in flagged)
        return {
            "count": sum(self.counts),
            "tasks": self.sum(lambda use: use.site.tasks),
            "in_interrupt": irq / calls if calls else None,
            "median_ns": self.most(lambda use: use.held and use.held.median),
            "p99_ns": self.most(lambda use: use.held and use.held.p99),
            "longest_ns": self.most(lambda use: use.held and use.held.longest),
            "depth": self.most(lambda use: use.depth),
            "over_switch": self.sum(lambda use: use.over_switch),
            "other_task": self.sum(lambda use: use.other_task),
            "out_of_order": self.sum(lambda use: use.out_of_order),
            "slept": self.sum(lambda use: use.slept),
            "held_at_end": self.sum(lambda use: use.held_at_end),
            "bytes": self.sum(lambda use: use.site.bytes),
            "cost_ns": self.sum(lambda use: use.cost_ns),
        }


_KEYS = {
    "calls": "count", "cost": "cost_ns", "held": "median_ns", "p99": "p99_ns",
    "longest": "longest_ns", "depth": "depth", "tasks": "tasks", "irq": "in_interrupt",
    "switch": "over_switch", "order": "out_of_order", "other-task": "other_task",
    "at-end": "held_at_end", "bytes": "bytes",
}  # fmt: skip
"""Figure by the name of its order."""


def joined_uses(captures: Sequence[SitesOf], order: str) -> list[JoinedUse]:
    """Call sites of several captures, joined by symbol, in an order of :data:`ORDERS`."""
    rows = join(
        [capture.found.callers.uses for capture in captures],
        lambda use, number: site_key(captures[number].found.text_of(use), use.site.op, number),
    )
    found = []
    for key, uses in rows.items():
        number = next(number for number, here in enumerate(uses) if here)
        place = captures[number].found.places[uses[number][0].site.site]
        api, _ = api_and_user(uses[number][0], place.frames)
        found.append(JoinedUse(key, module_of(place), api, tuple(map(tuple, uses))))
    found.sort(key=lambda row: (-sum(row.counts), row.key[:3]))
    if order == "module":
        found.sort(key=lambda row: row.module)
    elif order == "api":
        found.sort(key=lambda row: row.api)
    elif order == "site":
        found.sort(key=lambda row: row.key[:3])
    else:
        found.sort(key=lambda row: -_known(row.figures()[_KEYS[order]]))
    return found


def _known(value: float | None) -> float:
    return -1.0 if value is None else value


# Page -------------------------------------------------------------------------------------------


def joined_renderables(
    captures: Sequence[SitesOf], order: str, number: int
) -> Iterator[RenderableType]:
    """The page: which captures, the table, what each conversion says."""
    rows = joined_uses(captures, order)
    yield Text.assemble(("hmtrace sites", "bold"), f"  {plural(len(captures), 'capture')}")
    yield labelled([(letter(n), _told(capture)) for n, capture in enumerate(captures)])
    some = f"{count(number)} of {count(len(rows))}, " if number < len(rows) else ""
    yield heading("Call sites", f"{some}joined by symbol, {ORDERS[order]}")
    yield indented(_JoinedTable(rows[:number], len(captures)))
    lines = [*_verdicts(captures, rows[:number])]
    if lines:
        yield heading("As kmap_local_page()", "as far as the traces show")
        yield labelled(lines)
    yield heading("By module")
    table = plain_table(
        ("module", "left"), ("sites", "right"), ("calls", "right"), ("cost", "right")
    )
    for total in module_sums(rows):
        table.add_row(
            Text(clean(total["module"])), count(total["sites"]), count(total["calls"]),
            duration(total["cost_ns"]),
        )  # fmt: skip
    yield indented(table)


def letter(number: int) -> str:
    """What a capture is called in a table: A, B, …, Z, AA, …."""
    text = ""
    number += 1
    while number:
        number, at = divmod(number - 1, 26)
        text = chr(ord("A") + at) + text
    return text


def _told(capture: SitesOf) -> str:
    calls = sum(use.site.count for use in capture.found.callers.uses)
    release = clean(capture.source.release or "kernel unknown")
    return f"{clean(capture.name)} · {release} · {plural(calls, 'call')}"


class _JoinedTable:
    """The table, with a column for each of a few captures."""

    def __init__(self, rows: Sequence[JoinedUse], captures: int) -> None:
        self._rows, self._captures = rows, captures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        letters = [letter(n) for n in range(self._captures)]
        shown = letters if self._captures <= _MOST_COLUMNS * (1 + wide) else ["in"]
        left = any(row.figures()["held_at_end"] for row in self._rows)
        titles = ["calls", *shown, "longest", "depth", *["at end"] * left, "cost"]
        columns = [("site", "left"), ("op", "left"), *((title, "right") for title in titles)]
        table = plain_table(*columns, expand_first=True)
        for row in self._rows:
            told = row.figures()
            here = [count(n) for n in row.counts]
            if shown == ["in"]:
                here = [f"{sum(n > 0 for n in row.counts)} of {self._captures}"]
            cells = {
                "calls": count(sum(row.counts)),
                **dict(zip(shown, here, strict=True)),
                "longest": _or_dash(told["longest_ns"], duration),
                "depth": _or_dash(told["depth"], count),
                "at end": _or_dash(told["held_at_end"], count),
                "cost": duration(told["cost_ns"] or 0.0),
            }
            table.add_row(
                site_name(clean(row.name)),
                Text(clean(row.key.op.removeprefix("kmap_"))),
                *(cells[title] for title in titles),
            )
        yield table


def _or_dash(value: float | None, say: Callable[[int], str]) -> str:
    return "-" if value is None else say(int(value))


def _verdicts(captures: Sequence[SitesOf], rows: Sequence[JoinedUse]) -> Iterator[tuple[str, str]]:
    """Of each kmap() what speaks against its conversion, and where."""
    for row in rows:
        against, judged = [], 0
        for number, uses in enumerate(row.uses):
            limit = captures[number].found.callers.limit
            for use in uses:
                if use.conversion is None:
                    continue
                judged += 1
                if verdict(use.conversion, limit) == WRONG:
                    why = next(iter(reasons(use.conversion, limit)))
                    against.append(("no", f"{clean(row.name)}: {letter(number)}: {why}"))
        yield from against
        if judged and not against:
            yield "yes so far", f"{clean(row.name)}: nothing in {plural(judged, 'site')} forbids it"


# Documents --------------------------------------------------------------------------------------


def module_sums(rows: Sequence[JoinedUse]) -> list[dict[str, Any]]:
    """What the sites of each module come to in all captures, most calls first."""
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        empty = {"sites": 0, "calls": 0, "counts": [0] * len(row.counts), "cost_ns": 0.0}
        total = sums.setdefault(row.module, {"module": row.module, **empty})
        total["sites"] += 1
        total["calls"] += sum(row.counts)
        total["counts"] = [a + b for a, b in zip(total["counts"], row.counts, strict=True)]
        total["cost_ns"] += row.figures()["cost_ns"] or 0.0
    return sorted(sums.values(), key=lambda total: (-total["calls"], total["module"]))


def joined_document(captures: Sequence[SitesOf], order: str) -> dict[str, Any]:
    """All of it: the captures, and each site with its counts by capture."""
    rows = joined_uses(captures, order)
    return {
        **schema("sites"),
        "captures": [
            {
                **source_document(capture.source),
                "name": capture.name,
                "calls": sum(use.site.count for use in capture.found.callers.uses),
                "assumptions": list(capture.assumptions),
                "notes": [*capture.source.notes, *capture.found.notes],
            }
            for capture in captures
        ],
        "sites": [_site(row, captures) for row in rows],
        "modules": module_sums(rows),
    }


def _site(row: JoinedUse, captures: Sequence[SitesOf]) -> dict[str, Any]:
    return {
        "symbol": row.key.symbol,
        "module": row.key.module or None,
        "within": row.module,
        "op": row.key.op,
        "api": row.api,
        **row.figures(),
        "counts": row.counts,
        "costs_ns": [sum(use.cost_ns for use in here) for here in row.uses],
        "sites": [[use.site.site for use in here] for here in row.uses],
        "verdicts": [
            [verdict(use.conversion, of.found.callers.limit) for use in here if use.conversion]
            for here, of in zip(row.uses, captures, strict=True)
        ],
    }


def joined_csv(captures: Sequence[SitesOf], order: str) -> str:
    """The sites as CSV: figures in all, and calls by capture."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    rows = joined_uses(captures, order)
    first = ("symbol", "module", "op", "api")
    figures = list(JoinedUse(site_key("", ""), "", "", ()).figures())
    lines.writerow([*first, *figures, *(f"count {clean(c.name)}" for c in captures)])
    for row in rows:
        told = row.figures()
        lines.writerow(
            [
                *map(clean, (row.key.symbol, row.module, row.key.op, row.api)),
                *("" if told[name] is None else told[name] for name in figures),
                *row.counts,
            ]
        )
    return text.getvalue()
