"""Figures of a report as Prometheus reads them (exposition format 0.0.4).

Names follow its conventions: base units in them, ``_total`` for what only grows. What is not known
has no sample. A capture is over when it is read, so a file of them is for node_exporter's textfile
collector, a push gateway, or a comparison in CI.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hmtrace import __version__
from hmtrace.report.text import clean
from replay.sites.names import function_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome

PREFIX: Final = "hmtrace_"
_NS: Final = 1e9
_Value = float | int | None


class Metric(NamedTuple):
    """A metric: its name without prefix, type, what it is, and labels with values."""

    name: str
    kind: str
    words: str
    samples: tuple[tuple[str, Mapping[str, str], _Value], ...]
    """Suffix of the name, labels, value; None is left out."""


def prometheus(source: InputSummary, outcome: Outcome) -> str:
    """Text of all metrics.

    Parameters
    ----------
    source
        What was read.
    outcome
        Its figures.
    """
    lines = []
    for metric in _metrics(source, outcome):
        told = [sample for sample in metric.samples if sample[2] is not None]
        if not told:
            continue
        name = PREFIX + metric.name
        lines += [f"# HELP {name} {_help(metric.words)}", f"# TYPE {name} {metric.kind}"]
        lines += [f"{name}{suffix}{_labels(labels)} {_number(n)}" for suffix, labels, n in told]
    return "\n".join(lines) + "\n"


def _metrics(source: InputSummary, outcome: Outcome) -> Iterator[Metric]:
    yield from _of_capture(source, outcome)
    yield from _of_pool(outcome)
    yield from _of_local(outcome)
    yield from _of_arena(outcome)
    yield from _of_cost(outcome)
    yield from _of_calls(outcome)


def _one(name: str, kind: str, words: str, value: _Value) -> Metric:
    """A metric without labels."""
    return Metric(name, kind, words, (("", {}, value),))


def _by(name: str, kind: str, words: str, label: str, values: Mapping[str, _Value]) -> Metric:
    """A metric with one label."""
    return Metric(name, kind, words, tuple(("", {label: key}, n) for key, n in values.items()))


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / _NS


def _of_capture(source: InputSummary, outcome: Outcome) -> Iterator[Metric]:
    machine = outcome.machine
    labels = {
        "version": __version__, "arch": machine.arch, "generation": machine.generation,
        "format": str(source.origin.format), "sha256": source.sha256 or "",
    }  # fmt: skip
    yield Metric("capture_info", "gauge", "What was read.", (("", labels, 1),))
    yield _one(
        "capture_span_seconds", "gauge", "Time between the first and the last event.",
        _seconds(outcome.span_ns) if source.clock_is_ns else None,
    )  # fmt: skip
    yield _one("capture_cpus", "gauge", "CPUs of the machine.", outcome.cpus)
    yield _one(
        "capture_lost_events_total", "counter", "Events known to be lost.", source.lost.events
    )
    severities = Counter(found.severity for found in outcome.findings)
    yield _by(
        "findings", "gauge", "Findings of the report.", "severity",
        {name: severities[name] for name in ("problem", "warning", "info")},
    )  # fmt: skip
    rules: Counter[tuple[str, str]] = Counter()
    for found in outcome.findings:
        rules[found.rule, found.severity] += found.count
    yield Metric(
        "finding_occurrences_total", "counter", "How often a rule found something.",
        tuple(("", {"rule": rule, "severity": s}, n) for (rule, s), n in sorted(rules.items())),
    )  # fmt: skip


def _of_pool(outcome: Outcome) -> Iterator[Metric]:
    pool = outcome.pool
    if not pool.slots:
        return
    known = not pool.pages_unknown
    yield _one("pool_slots", "gauge", "Slots of the pkmap pool.", pool.slots)
    results = {"hit": pool.hits, "new": pool.new_mappings} if known else {"unknown": pool.maps}
    yield _by(
        "pool_kmap_calls_total", "counter", "kmap() calls that got a slot.", "result", results
    )
    yield _one("pool_kunmap_calls_total", "counter", "kunmap() calls.", pool.unmaps)
    if not known:
        return
    yield _by(
        "pool_passes_total", "counter", "Runs of flush_all_zero_pkmaps().", "cause",
        {"wrap": pool.wraps, "kmap_flush_unused": pool.unused_passes},
    )  # fmt: skip
    yield _one("pool_flushes_total", "counter", "TLB flushes of the window.", pool.flushes)
    yield _one("pool_waits_total", "counter", "Sleeps in kmap() for a slot.", pool.waits)
    yield _one(
        "pool_wait_seconds_total", "counter", "Time slept for a slot.", _seconds(pool.wait_ns)
    )
    yield _one(
        "pool_longest_wait_seconds", "gauge", "The longest such wait.",
        _seconds(pool.longest_wait_ns),
    )  # fmt: skip
    yield _one("pool_used_slots_max", "gauge", "Most slots in use at once.", pool.max_used)
    yield _one("pool_used_slots_mean", "gauge", "Slots in use, mean over time.", pool.mean_used)
    yield _one("pool_stale_slots_max", "gauge", "Most stale slots at once.", pool.max_stale)
    yield _one("pool_used_slots_end", "gauge", "Slots in use at the end.", pool.still_used)


def _of_local(outcome: Outcome) -> Iterator[Metric]:
    local = outcome.local
    yield _by(
        "local_map_calls_total", "counter", "kmap_local_page() and kmap_atomic() calls.", "page",
        {"slot": local.maps, "lowmem": local.lowmem, "reused": local.reused},
    )  # fmt: skip
    yield _one("local_unmap_calls_total", "counter", "Unmaps of local mappings.", local.unmaps)
    yield _one(
        "local_depth_max", "gauge", "Most local mappings of a task at once.", local.max_depth
    )
    yield _one("local_depth_limit", "gauge", "Local mappings that a task may have.", local.limit)
    yield _one(
        "local_switches_total", "counter", "Context switches that found local mappings.",
        local.saved_on_switch,
    )  # fmt: skip
    yield _one(
        "local_longest_hold_seconds", "gauge", "The longest time that one was held.",
        _seconds(local.longest_hold_ns),
    )  # fmt: skip


def _of_arena(outcome: Outcome) -> Iterator[Metric]:
    arena = outcome.arena
    yield _one("arena_size_bytes", "gauge", "Size of the vmap arena.", arena.size)
    yield _by(
        "arena_allocations_total", "counter", "Allocations of the arena.", "result",
        {"served": arena.allocs, "failed": arena.failures},
    )  # fmt: skip
    yield _one("arena_used_bytes_max", "gauge", "Most in use or waiting.", arena.peak_used)
    yield _one("arena_live_bytes_max", "gauge", "Most in use.", arena.peak_live)
    yield _one(
        "arena_largest_hole_bytes_min", "gauge", "The least that the largest hole was.",
        arena.largest_hole_min,
    )  # fmt: skip
    purges = outcome.purges
    runs = {one.trigger: one.count for one in purges}
    yield _by("purges_total", "counter", "Runs of the lazy purge.", "trigger", runs)
    yield _by(
        "purged_pages_total", "counter", "Pages that purges gave back.", "trigger",
        {one.trigger: one.pages for one in purges},
    )  # fmt: skip
    yield _by(
        "purge_flushed_pages_total", "counter", "Pages that flushes of purges went over.",
        "trigger", {one.trigger: one.hull_pages for one in purges},
    )  # fmt: skip


def _of_cost(outcome: Outcome) -> Iterator[Metric]:
    tlb, cost = outcome.tlb, outcome.cost
    yield _by(
        "tlb_flushes_total", "counter", "Flushes of kernel addresses.", "kind",
        {"full": tlb.full, "range": tlb.range, "single": tlb.single},
    )  # fmt: skip
    yield _one("tlb_flushed_pages_total", "counter", "Pages of ranged flushes.", tlb.range_pages)
    yield _one("tlb_ipis_total", "counter", "Interrupts sent by flushes.", tlb.ipis)
    yield _by(
        "cost_seconds_total", "counter", "Estimated CPU time of mapping work.", "cause",
        {cause: _seconds(figures["ns"]) for cause, figures in cost.by_cause.items()},
    )  # fmt: skip
    yield _one("cost_ratio", "gauge", "Share of all CPU time, estimated.", cost.share_of_span)
    yield _one(
        "pool_lock_ratio", "gauge", "Share of the time in which kmap_lock is held, estimated.",
        cost.lock_share,
    )  # fmt: skip


def _of_calls(outcome: Outcome) -> Iterator[Metric]:
    observed = outcome.observed
    samples: list[tuple[str, Mapping[str, str], _Value]] = []
    longest: dict[str, _Value] = {}
    for call in () if observed is None else observed.durations:
        samples += [
            ("", {"op": call.op, "quantile": "0.5"}, _seconds(call.median_ns)),
            ("", {"op": call.op, "quantile": "0.99"}, _seconds(call.p99_ns)),
            ("_sum", {"op": call.op}, _seconds(call.total_ns)),
            ("_count", {"op": call.op}, call.calls),
        ]
        longest[call.op] = _seconds(call.max_ns)
    words = "Time from entry to return, probes included."
    yield Metric("call_duration_seconds", "summary", words, tuple(samples))
    yield _by("longest_call_seconds", "gauge", "The longest call.", "op", longest)
    calls: Counter[tuple[str, str]] = Counter()
    for site in outcome.sites:
        calls[function_named(site.site), site.op] += site.count
    yield Metric(
        "function_calls_total", "counter", "Calls by who made them; empty: no symbol.",
        tuple(
            ("", {"function": clean(function), "op": op}, n)
            for (function, op), n in sorted(calls.items())
        ),
    )  # fmt: skip


def _labels(labels: Mapping[str, str]) -> str:
    r"""Labels of a sample.

    Examples
    --------
    >>> _labels({"op": 'a"b\\c\n'})
    '{op="a\\"b\\\\c\\n"}'
    >>> _labels({})
    ''
    """
    told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{{{told}}}" if told else ""


def _escaped(text: str) -> str:
    return _help(text).replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: Any) -> str:
    """A number as it is read back: whole ones without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
