"""`hmtrace compare`: what changed between two captures, outcomes or rows of a sweep."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from collectors.errors import HmtraceError
from hmtrace.cli.options import (
    ColorOption,
    CostsOption,
    ForceOption,
    FormatOption,
    OutputOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat

if TYPE_CHECKING:
    from hmtrace.cli.sides import ToldSide
    from replay.compare.run import Comparison

EXAMPLES = (
    "hmtrace compare captures/before captures/after",
    "hmtrace compare captures/before captures/after --per second",
    "hmtrace compare before after --noise before-2 --noise before-3 --noise-b after-2",
    "hmtrace replay captures/board-7 --split 2g --format json | hmtrace compare captures/board-7 -",
    "hmtrace compare sweep.json:split=3g sweep.json:split=2g",
    "hmtrace compare replay.json:baseline replay.json --fail-on 5%",
)
_SIDE = (
    "A capture, a JSON document of report or replay (FILE:baseline: its captured machine), or "
    "a row of a sweep's JSON, Parquet or CSV (FILE:split=2g,ram=1G, FILE:captured, FILE:1)."
)


class WorkUnit(StrEnum):
    """Value of ``--per``."""

    KMAP = "kmap"
    EVENT = "event"
    SECOND = "second"
    RUN = "run"


def compare(
    one: Annotated[str, typer.Argument(metavar="A", help=_SIDE, show_default=False)],
    other: Annotated[str, typer.Argument(metavar="B", help="As A.", show_default=False)],
    per: Annotated[
        WorkUnit | None,
        typer.Option(
            "--per",
            help="What figures are given per: 1000 kmap(), 1000 calls that map, a second, or the "
            "whole run. Usually what both have.",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="CAPTURE",
            help="Another capture of A's workload on A's machine; again for more. What they differ "
            "by is no change.",
            show_default=False,
        ),
    ] = None,
    noise_b: Annotated[
        list[str] | None,
        typer.Option(
            "--noise-b", metavar="CAPTURE", help="The same of B's workload.", show_default=False
        ),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="PERCENT",
            help="Exit with 1 where a count, or the cost, is more in B by at least so much, and by "
            "more than the noise.",
            show_default=False,
        ),
    ] = None,
    costs: CostsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say what changed between two runs, by how much more than noise, and what is not comparable.

    Figures are given per unit of work and ranked by what they cost. A change within the noise is
    not called one; a figure that is a bound makes a bound of its change, or nothing.
    """
    limit = None if fail_on is None else _percent(fail_on)
    again = (noise or [], noise_b or [])
    given = [one, other, *again[0], *again[1]]
    if given.count("-") > 1:
        raise HmtraceError("stdin can be read once only", exit_code=2)
    from hmtrace.cli.sides import told, words_of

    words = [words_of(text) for text in given]
    files = [each.file for each in words if each.file is not None and each.text != "-"]
    captures = [each.text for each in words if each.file is None]
    target = Output.create(
        output_format, color, output, force=force, captures=captures, files=[costs, *files]
    )
    sides = [told(each, costs) for each in words]
    found = _compared(sides, len(again[0]), per)
    _show(target, found, sides)
    if limit is not None and _fails(found, limit):
        raise typer.Exit(1)


def _compared(sides: list[ToldSide], of_a: int, per: WorkUnit | None) -> Comparison:
    from replay.compare.run import compare_runs

    one, other, *others = [each.side for each in sides]
    unit = None if per is None else per.value
    return compare_runs(one, other, unit, (others[:of_a], others[of_a:]))


def _show(target: Output, found: Comparison, sides: list[ToldSide]) -> None:
    if target.is_json:
        from hmtrace.cli.captures import warn_of_loss
        from hmtrace.report.compare_document import compare_document

        for each in sides:
            if each.source is not None:
                warn_of_loss(each.source)
        target.document(compare_document(found))
        return
    from hmtrace.report.compare import compare_renderables

    target.table(*compare_renderables(found, [each.source for each in sides[:2]]))


def _percent(text: str) -> float:
    """Share that ``--fail-on`` names."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise HmtraceError(f"--fail-on: {text!r} is no percentage", hint="such as 5%", exit_code=2)
    return value / 100


def _fails(found: Comparison, limit: float) -> bool:
    """Whether anything became more by so much; says what on stderr."""
    from hmtrace.report.compare_words import NAMES, change_in_words
    from hmtrace.report.text import unglued

    more = [
        f"{NAMES[change.name]} {change_in_words(change)}"
        for change in found.grown()
        if change.share is None or change.share >= limit
    ]
    cost = found.cost
    if cost is not None and cost.word == "dearer" and cost.likely >= limit * cost.one[1]:
        more.append(f"cost +{cost.likely / cost.one[1]:.0%}" if cost.one[1] else "cost")
    if more:
        sys.stderr.write(unglued(f"hmtrace: more in B: {', '.join(more)}\n"))
    return bool(more)
