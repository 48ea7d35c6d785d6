"""JSON documents: the same figures as the terminal reports, under the names of the outcome."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hmtrace import __version__
from hmtrace.report.findings import finding_document
from hmtrace.report.plain import plain
from replay.machine.generations import GENERATIONS
from replay.machine.tlb import as_json
from replay.machine.zones import memory_of
from replay.rules.machine import machine_findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hmtrace.report.source import InputSummary
    from hmtrace.report.validation import Checked
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import LongCall, Outcome


_ADDRESSES = (
    "page_offset",
    "phys_offset",
    "user_end",
    "lowmem_end_pfn",
    "high_memory",
    "max_pfn",
    "vmalloc_start",
    "vmalloc_end",
    "modules_start",
    "modules_end",
    "pkmap_base",
    "pkmap_slots",
    "kmap_fix_top",
    "lowmem_bytes",
    "highmem_bytes",
    "vmalloc_bytes",
    "mem_map_bytes",
    "lazy_max_pages",
)


def schema(command: str) -> dict[str, Any]:
    """Opening keys of every document."""
    return {"schema": f"hmtrace/{command}/1", "version": __version__}


def machine_document(machine: Machine, layout: Layout) -> dict[str, Any]:
    """Key `machine` of the JSON documents: the description and the addresses derived from it.

    Returns
    -------
    dict
        Bytes and addresses are integers. Lowmem is mapped from ``page_offset`` to ``lowmem_end``
        (the kernel's high_memory); ``lowmem_end_phys`` is the same border as a physical address,
        as boot messages and zoneinfo have it. ``behaviour`` is the kernel generation's.
    """
    return {
        **plain(machine),
        "ram_bytes": machine.ram_bytes,
        "lowmem_end": layout.high_memory,
        "lowmem_end_phys": layout.lowmem_end_pfn * layout.page_size,
        **{name: plain(getattr(layout, name)) for name in _ADDRESSES},
        "zones": plain(layout.zones),
        "flush_class": dict(as_json(layout, machine.cpus)),
        "behaviour": plain(GENERATIONS[machine.generation]),
    }


def layout_document(machine: Machine, layout: Layout) -> dict[str, Any]:
    """Document of `layout`: the machine, its regions, limits, zones' reserves, and findings."""
    return {
        "machine": machine_document(machine, layout),
        "regions": plain(layout.regions),
        "layout": {k: v for k, v in plain(layout).items() if k not in {"regions", "zones"}},
        "memory": plain(memory_of(machine, layout)),
        "findings": [finding_document(found) for found in machine_findings(machine, layout)],
    }


def source_document(source: InputSummary) -> dict[str, Any]:
    """Keys that say what was read: source, kernel release, clock, losses."""
    return {
        "source": {**asdict(source.origin), "sha256": source.sha256},
        "clock": source.clock,
        "clock_is_ns": source.clock_is_ns,
        "span_ns": source.span_ns,
        "lost": plain(source.lost.as_json()),
        "notes": list(source.notes),
    }


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Keys of one outcome, as `report` and both halves of `replay` have them."""
    return {
        "machine": machine_document(outcome.machine, outcome.layout),
        "span_ns": outcome.span_ns,
        "cpus": outcome.cpus,
        **{
            name: plain(getattr(outcome, name))
            for name in ("pool", "local", "arena", "purges", "tlb", "cost", "sites", "lowmem")
        },
        "findings": [finding_document(found) for found in outcome.findings],
        "caveats": plain(outcome.caveats),
    }


def observed_document(outcome: Outcome) -> dict[str, Any]:
    """Keys of what the kernel itself told, as `report` has them."""
    observed = outcome.observed
    if observed is None:
        return {}
    names = ("durations", "holds", "user_flushes", "stacks", "marks")
    document = {name: plain(getattr(observed, name)) for name in names}
    return {**document, "longest": [_long_call_document(call) for call in observed.longest]}


def _long_call_document(call: LongCall) -> dict[str, Any]:
    """One of the longest calls: its moment, what it did, and what was around it."""
    around = ("off_ns", "sleeps", "instead", "interrupted", "waiters", "unseen")
    held = call.behind
    return {
        **plain(call.at),
        "op": call.op,
        "ns": call.ns,
        "pages": call.pages,
        "ipis": call.ipis,
        **{name: plain(getattr(call, name)) for name in around},
        "behind": None if held is None else {**plain(held.at), "op": held.op},
    }


def validation_document(checked: Sequence[Checked]) -> dict[str, Any]:
    """Document of `validate`: one entry per capture, in the order given."""
    captures = []
    for one in checked:
        entry: dict[str, Any] = {"path": one.path}
        if one.entry is None:
            entry["error"] = one.error
        else:
            entry.update(plain(one.entry))
            entry.setdefault("layout", plain(one.layout))
            entry["lost"] = one.lost
        captures.append(entry)
    return {**schema("validate"), "captures": captures}
