"""The table of the twins, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.twins.measure import BORDERS, FIGURES, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.twins.evidence import ArenaEvidence
    from tests.twins.measure import Foretold, Row


def as_markdown(found: Iterable[Foretold]) -> str:
    """The rows of every direction, and what proves them."""
    return "\n".join(line for one in found for line in _lines(one))


def summary(found: Iterable[Foretold]) -> str:
    """One line for each direction: how many figures are the same, and those that are not."""
    lines = ["| captured | what if | the same | not the same |", "|---|---|---|---|"]
    for one in found:
        told = [row for row in one.rows if row.foretold or row.happened]
        same = [row for row in told if row.verdict == "exact"]
        rest = "; ".join(
            f"{FIGURES[row.figure].words} {_shown(row.figure, row.foretold)} for "
            f"{_shown(row.figure, row.happened)}: *{row.verdict}*"
            for row in told
            if row.verdict != "exact"
        )
        options = as_options(one)
        lines.append(f"| {one.one} | `{options}` | {len(same)} of {len(told)} | {rest or '–'} |")
    return "\n".join(lines)


def as_options(one: Foretold) -> str:
    """The options by which the other's machine is asked for."""
    words = {True: "--pae", False: "--no-pae"}
    return " ".join(
        words[value] if isinstance(value, bool) else f"--{name} {value}"
        for name, value in one.options.items()
    )


def _lines(one: Foretold) -> Iterator[str]:
    yield f"### {one.name}: {one.one} with `{as_options(one)}`"
    yield ""
    yield f"beside {one.other or 'what was written down of its twin'}"
    yield ""
    yield "| | foretold | happened | |"
    yield "|---|---:|---:|---|"
    for row in one.rows:
        if row.foretold or row.happened:
            yield _line(row)
    yield ""
    if one.arena is not None:
        yield from proof(one.arena)
        yield ""


def _line(row: Row) -> str:
    shown = [_shown(row.figure, value) for value in (row.foretold, row.happened)]
    aside = row.verdict
    if row.verdict not in ("exact", "off") and row.foretold is not None and row.happened:
        aside = f"{(row.foretold - row.happened) / row.happened * 100:+.1f} %, {row.verdict}"
    return f"| {FIGURES[row.figure].words} | {shown[0]} | {shown[1]} | {aside} |"


def _shown(figure: str, value: float | None) -> str:
    if value is None:
        return "unknown"
    if figure in BORDERS and figure != "slots":
        return f"{int(value):x}"
    return f"{value:.0f}"


def proof(arena: ArenaEvidence) -> Iterator[str]:
    """What the requests of both traces say, line by line."""
    yield (
        f"- of the other's own {arena.requests_there} requests the model places {arena.own} where "
        f"that kernel did, with {arena.own_failures} failures (there: {arena.failures}) and "
        f"{arena.own_purges} purges (there: {arena.purges})"
    )
    words = f"- {arena.alike} of {arena.requests} and {arena.requests_there} requests are alike"
    if arena.compared:
        words += (
            f"; of the {arena.compared} before a failure that only one of both had, "
            f"{arena.placed_alike} are foretold at the address that they got there"
        )
    yield words


def legend() -> str:
    """What the verdicts mean."""
    return "\n".join(f"- *{name}*: {words}" for name, words in VERDICTS.items())
