"""What a capture holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from collectors.records import dataclass
from collectors.snapshot import Recording
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.text import address, clean, count, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars as pl
    from rich.console import RenderableType

    from collectors.facts import Facts
    from collectors.snapshot import FactName
    from hmtrace.report.answers import Answer

_RAW_SHOWN = 16


@dataclass(frozen=True)
class Contents:
    """Rows per operation, and how many of them have which column.

    Attributes
    ----------
    events
        Number of rows per operation, in the order of :data:`collectors.events.OPS`.
    known
        Per operation, number of rows with a value in ``page``, ``pfn``, ``vaddr``, ``end_ts``
        (a return was traced) and ``site`` (``caller`` or ``site``).
    """

    events: dict[str, int]
    known: dict[str, dict[str, int]]

    def has(self, op: str, column: str | None = None) -> int:
        """Number of rows of an operation, or of those with a value in a column."""
        return self.events.get(op, 0) if column is None else self.known.get(op, {}).get(column, 0)


def survey(events: pl.LazyFrame) -> Contents:
    """Count what an event table holds, in one pass.

    Parameters
    ----------
    events
        Event table.

    Returns
    -------
    Contents
    """
    import polars as pl

    from collectors.events import OPS

    rows = (
        events.group_by(pl.col("op").cast(pl.String))
        .agg(
            pl.len().alias("rows"),
            *(pl.col(name).is_not_null().sum() for name in ("page", "pfn", "vaddr", "end_ts")),
            (pl.col("caller").is_not_null() | pl.col("site").is_not_null()).sum().alias("site"),
        )
        .collect()
        .rows_by_key("op", named=True, unique=True)
    )
    counted: dict[str, dict[str, int]] = {op: rows[op] for op in OPS if op in rows}
    return Contents({op: row.pop("rows") for op, row in counted.items()}, counted)


def contents_sections(
    contents: Contents, raw_events: Mapping[str, int], answers: Sequence[Answer]
) -> Iterator[RenderableType]:
    """Events by kind, raw events, and what can be answered.

    Parameters
    ----------
    contents
        From :func:`survey`.
    raw_events
        ``Capture.raw_events``.
    answers
        From :func:`hmtrace.report.answers.answers`.

    Yields
    ------
    RenderableType
        Three sections.
    """
    yield heading("Operations")
    if contents.events:
        table = plain_table(
            ("operation", "left"),
            ("rows", "right"),
            ("page", "right"),
            ("frame", "right"),
            ("address", "right"),
            ("return", "right"),
            ("caller", "right"),
        )
        for op, rows in contents.events.items():
            known = contents.known[op]
            cells = (known[name] for name in ("page", "pfn", "vaddr", "end_ts", "site"))
            table.add_row(op, count(rows), *(count(cell) if cell else "·" for cell in cells))
        yield indented(table)
    else:
        yield indented(Text("none: no function that hmtrace knows was traced"))
    yield heading("Events in the trace")
    yield indented(_raw_table(raw_events))
    yield heading("What it can answer")
    grid = plain_table(("", "left"), ("", "left"), ("", "left"))
    grid.show_header = False
    for answer in answers:
        style = "green" if answer.answered else "yellow"
        grid.add_row(
            Text("yes" if answer.answered else "no", style=style),
            Text(answer.question),
            Text(answer.reason, style="dim"),
        )
    yield indented(grid)


def _raw_table(raw_events: Mapping[str, int]) -> RenderableType:
    if not raw_events:
        return Text("none")
    ranked = sorted(raw_events.items(), key=lambda item: (-item[1], item[0]))
    table = plain_table(("function or tracepoint", "left"), ("events", "right"))
    for name, number in ranked[:_RAW_SHOWN]:
        table.add_row(Text(clean(name, 50)), count(number))
    if rest := ranked[_RAW_SHOWN:]:
        table.add_row(f"{len(rest)} more", count(sum(number for _, number in rest)))
    return table


_ADDRESSES = frozenset(
    {"page_offset", "vmalloc_start", "vmalloc_end", "high_memory", "mem_map", "pci_hole"}
)
_INSTEAD = {"cpus_booted": "cpus", "ram_bytes": "ram"}
"""Facts that are of interest only where the other one is not known."""
_SIZES = frozenset(
    {"mem_total", "ram_bytes", "lowmem_bytes", "highmem_bytes", "vmalloc", "vmalloc_total"}
)
_LABELS = {
    "pae": "PAE",
    "page_offset": "PAGE_OFFSET",
    "cpus": "CPUs",
    "nr_cpus": "NR_CPUS",
    "ram": "RAM",
    "cpus_booted": "CPUs",
    "ram_bytes": "RAM",
    "lowmem_bytes": "LowTotal",
    "highmem_bytes": "HighTotal",
    "vmalloc": "vmalloc=",
    "page_struct": "struct page",
    "cpu_model": "CPU",
}
_SHOWN: tuple[FactName, ...] = (
    "release",
    "arch",
    "pae",
    "split",
    "page_offset",
    "cpus",
    "cpus_booted",
    "nr_cpus",
    "ram",
    "ram_bytes",
    "lowmem_bytes",
    "highmem_bytes",
    "vmalloc",
    "vmalloc_start",
    "vmalloc_end",
    "page_struct",
    "cpu_model",
    "board",
    "recording",
)
"""Facts worth a line for everybody; the others are in the JSON document."""


def facts_section(facts: Facts) -> Iterator[RenderableType]:
    """What the machine said about itself, each fact with its source.

    Parameters
    ----------
    facts
        Of the capture.

    Yields
    ------
    RenderableType
        Heading and facts.
    """
    yield heading("Machine", "as its own files say")
    rows = []
    for name in _SHOWN:
        if name in facts and _INSTEAD.get(name) not in facts:
            fact = facts[name]
            text = Text(fact_in_words(name, fact.value))
            text.append(f"  ({clean(fact.source)})", style="dim")
            rows.append((_LABELS.get(name, name.replace("_", " ")), text))
    if rows:
        yield labelled(rows)
    else:
        yield indented(
            Text("no files of the machine beside the trace; the trace alone does not say")
        )


def fact_in_words(name: str, value: Any) -> str:
    """Value of a fact as people read it."""
    if name == "ram" and isinstance(value, list | tuple):
        ranges = [f"{address(int(a))}-{address(int(b))}" for a, b in value]
        total = size(sum(b - a for a, b in value))
        return f"{total}: {', '.join(ranges[:4])}{', …' if len(ranges) > 4 else ''}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "recording" and isinstance(value, Recording):
        before, recorded, after = value.times_cs or (0, 0, 0)
        alone = (before + after) / 2
        cost = f", which made its command {recorded / alone - 1:+.0%} longer" if alone else ""
        return f"by hmtrace recorder {clean(value.version)}{cost}"
    if name in _ADDRESSES and isinstance(value, int):
        return address(value)
    if name in _SIZES and isinstance(value, int):
        return size(value)
    return clean(value)
