"""Figures as the findings put them into words; the reports have more room for theirs."""

from __future__ import annotations

from typing import Final

_MIB: Final = 1 << 20


def percent(part: float) -> str:
    """Share of a whole, one digit behind the point."""
    return "under 0.1 %" if 0 < part < 0.001 else f"{100 * part:.1f} %"


def grouped(value: int) -> str:
    """Digits in groups of three, as the reports have them."""
    return f"{value:,}".replace(",", " ")


def counted(value: int, one: str, many: str | None = None) -> str:
    """Number of things, and their name: ``1 slot``, ``2 slots``."""
    return f"{grouped(value)} {one if value == 1 else many or one + 's'}"


def times(value: int) -> str:
    """How often: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(value, f"{grouped(value)} times")


def duration(ns: float) -> str:
    """Time in the largest unit of which there is one."""
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= factor:
            return f"{ns / factor:.1f} {unit}"
    return f"{ns:.0f} ns"


def size(value: int) -> str:
    """Bytes, cut off as in the kernel's messages; GiB only where nothing is left over."""
    if value and value % (1 << 30) == 0:
        return f"{value >> 30} GiB"
    if value >= _MIB:
        return f"{value // _MIB} MiB"
    return f"{value // 1024} KiB" if value >= 1024 else f"{value} bytes"
