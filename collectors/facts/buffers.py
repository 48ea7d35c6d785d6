"""State of the trace buffers: stats (per_cpu/cpuN/stats), trace_clock, trace_settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

_CPU = re.compile(r"^(?:==|#|CPU:?)\s{0,40}+\S{0,80}?(\d{1,4})\s{0,40}+:?\s{0,40}+$")
_FIELD = re.compile(r"^(entries|overrun|commit overrun|dropped events|read events): (\d{1,19})$")
_CLOCK = re.compile(r"\[([\w-]+)\]")


def parse_stats(text: str, sheet: Sheet) -> None:
    """Write down what the ring buffers lost.

    Facts: buffer_entries, overrun, dropped (each CPU to number of events). Overrun events were
    overwritten by newer ones, dropped events were refused (kernel/trace/ring_buffer.c). Events that
    were read are no longer in the buffer: of an empty one they are the entries.
    """
    fields = ("entries", "overrun", "dropped events", "read events")
    by_field: dict[str, dict[int, int]] = {field: {} for field in fields}
    cpu = 0
    for line in text.split("\n"):
        if match := _CPU.match(line):
            cpu = int(match[1])
        elif match := _FIELD.match(line):
            field, number = match[1], int(match[2])
            if field == "commit overrun":  # events refused while nested ones were committed
                by_field["dropped events"][cpu] = by_field["dropped events"].get(cpu, 0) + number
            else:
                have = by_field[field].get(cpu, 0)
                by_field[field][cpu] = have + number
    for of_cpu, read in by_field.pop("read events").items():
        if by_field["entries"].get(of_cpu) == 0:
            by_field["entries"][of_cpu] = read
    names: dict[str, FactName] = {
        "entries": "buffer_entries",
        "overrun": "overrun",
        "dropped events": "dropped",
    }
    for field, values in by_field.items():
        if values:
            sheet.add(names[field], values, detail=f"{sum(values.values())} {field}")


def parse_clock(text: str, sheet: Sheet) -> None:
    """Write down the trace clock in brackets. Fact: clock."""
    if match := _CLOCK.search(text):
        sheet.add("clock", match[1], detail=text.strip().split("\n", 1)[0])


def parse_settings(text: str, sheet: Sheet) -> None:
    """Write down the clock from a file of ``== name`` sections. Fact: clock."""
    _, found, rest = text.partition("== trace_clock\n")
    if found:
        parse_clock(rest.split("\n", 1)[0], sheet)
