"""JSON document of `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hmtrace.report.document import schema
from hmtrace.report.plain import plain
from hmtrace.report.verdict import verdict_document
from replay.compare.changes import CHANGED

if TYPE_CHECKING:
    from replay.compare.changes import Change
    from replay.compare.noise import Noise
    from replay.compare.run import Comparison
    from replay.compare.side import Side
    from replay.compare.sites import FunctionChange


def compare_document(found: Comparison) -> dict[str, Any]:
    """Both runs, every figure, the call sites, and what is not comparable."""
    joined = found.sites
    return {
        **schema("compare"),
        "a": _side(found.one),
        "b": _side(found.other),
        "per": {
            "unit": found.work.unit,
            "units": found.work.per,
            "a": found.work.one.value,
            "b": found.work.other.value,
        },
        "noise": {"basis": found.basis, "repeats": list(found.repeats)},
        "is_same": found.is_same,
        "machines": [
            {"fact": one.fact, "a": plain(one.one), "b": plain(one.other)}
            for one in found.machines
        ],
        "figures": [_figure(change) for change in found.changes],
        "cost": _cost(found),
        "sites": [] if joined is None else [_site(one) for one in joined.functions],
        "converted": [] if joined is None else plain(joined.converted),
        "nameless": None
        if joined is None
        else {name: plain(one) for name, one in zip(("a", "b"), joined.nameless, strict=True)},
        "findings": {"a": plain(dict(found.gone)), "b": plain(dict(found.new))},
        "not_comparable": [
            {
                "code": one.code,
                "about": one.about or None,
                "a": plain(one.one),
                "b": plain(one.other),
            }
            for one in found.apart
        ],
    }  # fmt: skip


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "kind": side.kind,
        "sha256": side.trace,
        "span_ns": side.span_ns,
        "clock": side.clock or None,
        "is_emulated": side.is_emulated,
        "is_lossy": side.is_lossy,
        "machine": plain(side.facts),
        "evidence": plain(side.evidence),
    }


def _figure(change: Change) -> dict[str, Any]:
    known = change.verdict == CHANGED or change.difference is not None
    return {
        "name": change.name,
        "kind": change.kind,
        "a": plain(change.one.value),
        "b": plain(change.other.value),
        "a_sense": change.one.sense,
        "b_sense": change.other.sense,
        "per": plain(change.rates),
        "verdict": change.verdict,
        "change": plain(change.share) if change.sense is None and known else None,
        "difference": plain(change.difference),
        "sense": change.sense,
        "noise": _noise(change.noise),
        "cost_ns": plain(change.cost_ns),
        "reason": change.why or None,
    }


def _noise(noise: Noise | None) -> dict[str, Any] | None:
    return None if noise is None else plain(noise)


def _cost(found: Comparison) -> dict[str, Any] | None:
    cost = found.cost
    if cost is None:
        return None
    return {
        "a_ns": plain(cost.one),
        "b_ns": plain(cost.other),
        "noise_ns": plain(cost.noise),
        "word": cost.word or None,
        "verdict": None if cost.verdict is None else verdict_document(cost.verdict),
        "reasons": list(cost.why),
    }


def _site(one: FunctionChange) -> dict[str, Any]:
    return {
        "function": one.function,
        "op": one.op,
        "a": plain(one.one),
        "b": plain(one.other),
        "per": plain(one.rates),
        "verdict": one.verdict,
        "change": plain(one.share),
        "difference": plain(one.difference),
        "noise": _noise(one.noise),
        "cost_ns": plain(one.cost_ns),
    }
