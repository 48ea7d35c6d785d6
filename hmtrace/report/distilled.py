"""What a workload file holds, for `info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.text import clean, count, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.whatif.workload import Workload

_TAKEN_BY = "replay, sweep, advise, info"
_NEED_EVENTS = "report, validate, convert to a table, replay --calibrate"


class Distilled(NamedTuple):
    """A workload file.

    Attributes
    ----------
    bytes
        Of the file.
    trace
        Name of the trace's file.
    made_by
        Version of hmtrace that distilled it.
    workload
        What is in it.
    """

    bytes: int
    trace: str
    made_by: str
    workload: Workload


def distilled_sections(file: Distilled) -> Iterator[RenderableType]:
    """What was kept of the trace, and what can be done with it.

    Yields
    ------
    RenderableType
        Two sections.
    """
    found = file.workload.found
    yield heading("Operations  in the trace")
    table = plain_table(("operation", "left"), ("rows", "right"))
    for op, rows in found.ops.items():
        table.add_row(op, count(rows))
    yield indented(table if found.ops else Text("none: no function that hmtrace knows was traced"))
    yield heading("Workload  what is kept of it")
    origin = f"{clean(file.trace)} by hmtrace {clean(file.made_by)}"
    numbers = _numbers(file.workload).items()
    yield labelled(
        [
            *((name.replace("_", " "), count(number)) for name, number in numbers),
            ("file", f"{size(file.bytes)}, of {origin}"),
            ("taken by", _TAKEN_BY),
            ("too little", f"for {_NEED_EVENTS}: they need the trace"),
        ]
    )


def distilled_document(file: Distilled) -> dict[str, Any]:
    """The same for the JSON document."""
    return {
        "bytes": file.bytes,
        "trace": file.trace,
        "made_by": file.made_by,
        **_numbers(file.workload),
    }


def _numbers(workload: Workload) -> dict[str, int]:
    pages, lows = (workload.parts.get(name).height for name in ("pages", "lows"))
    return {
        "calls_of_the_pool": workload.calls()["code"].count,
        "pages": pages + lows,
        "tasks": workload.parts.get(f"{workload.pool}-tasks").height,
        "call_sites": len(workload.site_names),
        "windows": workload.windows,
    }
