"""Costs that were measured from the trace: by kind of call, with their spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.parts import Elided, heading, indented, plain_table
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
    for row in calibration.measured:
        sets = ", ".join(f"{name} {_figure(spread)}" for name, spread in row.sets.items())
        table.add_row(
            Elided(clean(row.what, 60), 0),
            count(row.count),
            duration(row.q1),
            duration(row.median),
            duration(row.q3),
            sets,
        )
    yield table
    if calibration.probes_ns is not None:
        yield indented(
            Text(f"the probes themselves take {duration(calibration.probes_ns)} of each")
        )


def _figure(spread: Spread) -> str:
    low, likely, high = (f"{end:.0f}" if end >= 10 else f"{end:.2g}" for end in spread)
    return likely if low == high else f"{likely} ({low} to {high})"
