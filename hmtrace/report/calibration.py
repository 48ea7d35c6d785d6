"""Costs that were measured from the trace: by kind of call, with their spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import Elided, heading, indented, labelled, plain_table
from hmtrace.report.text import clean, count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.cost.calibrate import Calibration
    from replay.machine.costs import Spread


def calibration_section(calibration: Calibration | None) -> Iterator[RenderableType]:
    """One row per kind of call.

    Parameters
    ----------
    calibration
        None where ``--calibrate`` was not given.

    Yields
    ------
    RenderableType
        Heading and table.
    """
    if calibration is None:
        return
    yield heading("Calibration", "time from entry to return, probes included")
    if not calibration.measured:
        yield indented(Text("no call of this capture has a traced return"))
        return
    table = plain_table(
        ("call", "left"),
        ("count", "right"),
        ("quartile", "right"),
        ("median", "right"),
        ("quartile", "right"),
        ("sets", "left"),
        expand_first=True,
    )
    found: dict[str, Spread] = {}
    for row in calibration.measured:
        found |= row.sets
        table.add_row(
            Elided(clean(row.what, 60), 0),
            count(row.count),
            duration(row.q1),
            duration(row.median),
            duration(row.q3),
            ", ".join(row.sets),
        )
    yield indented(table)
    rows = []
    if found:
        words = (f"{name} {_figure(spread)}" for name, spread in found.items())
        rows.append(("taken", f"{', '.join(words)}; the least and the most are the quartiles"))
    if calibration.probes_ns is not None:
        rows.append(("probes", f"take {duration(calibration.probes_ns)} of each"))
    if rows:
        yield labelled(rows)


def _figure(spread: Spread) -> str:
    low, likely, high = (f"{end:.0f}" if end >= 10 else f"{end:.2g}" for end in spread)
    return likely if low == high else f"{likely} ({low} to {high})"
