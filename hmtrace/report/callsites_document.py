"""What `sites` says as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from hmtrace.report.callsites import api_and_user, module_of, module_totals, ordered
from hmtrace.report.conversion import FITS, OPEN, WRONG, reasons, verdict
from hmtrace.report.text import clean
from hmtrace.report.vmlinux import sizes_document

if TYPE_CHECKING:
    from hmtrace.report.callsites import CallSites
    from replay.whatif.callers import Callers, Exchange, SiteUse

_FLAT: Final = (
    "site", "symbol", "module", "address", "function", "file", "line", "api", "op", "count",
    "tasks", "in_interrupt", "held_median_ns", "held_p99_ns", "held_max_ns", "depth", "over_switch",
    "other_task", "other_cpu", "out_of_order", "slept", "held_at_end", "bytes", "cost_ns",
    "verdict", "reason",
)  # fmt: skip
"""Columns of the CSV form."""


def callsites_document(found: CallSites) -> dict[str, Any]:
    """The same as a document."""
    callers = found.callers
    return {
        "sees_switches": callers.sees_switches,
        "limit": callers.limit,
        "sites": [_site(use, found) for use in ordered(found)],
        "modules": module_totals(found),
        "converted": None if callers.exchange is None else _exchange(callers.exchange),
        "not_converted": callers.why_not or None,
        "vmlinux": sizes_document(found.sizes),
        "notes": list(found.notes),
    }


def _site(use: SiteUse, found: CallSites) -> dict[str, Any]:
    place = found.places[use.site.site]
    api, user = api_and_user(use, place.frames)
    held = use.held
    return {
        "site": use.site.site,
        "symbol": place.symbol or None,
        "module": place.module or None,
        "address": place.address,
        "function": user.function if user else None,
        "file": user.file if user else None,
        "line": user.line if user else None,
        "inlines": [frame._asdict() for frame in place.frames],
        "api": api,
        "op": use.site.op,
        "count": use.site.count,
        "tasks": use.site.tasks,
        "in_interrupt": use.in_interrupt,
        "held_ns": None
        if held is None
        else {"median": held.median, "p99": held.p99, "max": held.longest},
        "depth": use.depth,
        "over_switch": use.over_switch,
        "other_task": use.other_task,
        "other_cpu": use.conversion.moved if use.conversion else None,
        "out_of_order": use.out_of_order,
        "slept": use.slept,
        "held_at_end": use.held_at_end,
        "bytes": use.site.bytes,
        "cost_ns": use.cost_ns,
        "conversion": _conversion(use, found.callers),
    }


def _conversion(use: SiteUse, callers: Callers) -> dict[str, Any] | None:
    if use.conversion is None:
        return None
    word = verdict(use.conversion, callers.limit)
    return {
        "verdict": word,
        "safe": None if word == OPEN else word != WRONG,
        "reason": next(iter(reasons(use.conversion, callers.limit))),
        "max_depth": use.conversion.max_depth,
        "changes": None if use.exchange is None else _exchange(use.exchange),
        "free_of_cost": word == FITS,
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    names = ("pool_flushes", "ranged_flushes", "ipis", "single_flushes", "worst_depth", "waits")
    return {
        name: {"before": before, "after": after}
        for name, (before, after) in zip(names, exchange, strict=True)
    }


def callsites_csv(found: CallSites) -> str:
    """The sites as CSV: a line of titles, a line each."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_FLAT)
    for use in ordered(found):
        row = _site(use, found)
        held, conversion = row["held_ns"] or {}, row["conversion"] or {}
        row |= {f"held_{name}_ns": held.get(name) for name in ("median", "p99", "max")}
        row |= {name: conversion.get(name) for name in ("verdict", "reason")}
        row["module"] = module_of(found.places[use.site.site])
        lines.writerow([_cell(row[name]) for name in _FLAT])
    return text.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else clean(str(value))
