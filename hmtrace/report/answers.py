"""Which questions a capture can answer, and what the others need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hmtrace.report.text import plural
from replay.rules import evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collectors.snapshot import Snapshot
    from hmtrace.report.contents import Contents

_FLUSHES: Final = ("pool_flush", "flush_range", "flush_all")
_FLUSH_FUNCTIONS: Final = (
    "flush_tlb_kernel_range",
    "local_flush_tlb_kernel_range",
    "flush_all_zero_pkmaps",
    "flush_tlb_all",
)
_LOCAL_FUNCTIONS: Final = evidence.FUNCTIONS[evidence.LOCAL]
_NONE: Final = {
    "pool": ("no kmap() of a highmem page", "kmap_high()", evidence.FUNCTIONS[evidence.POOL]),
    "local": ("no local mapping", "local mappings", _LOCAL_FUNCTIONS),
    "arena": ("no allocation", "alloc_vmap_area()", evidence.FUNCTIONS[evidence.ARENA]),
}


class Absence(NamedTuple):
    """Why a trace has no call of a kind, in words, and whether because none was traced."""

    words: str
    untraced: bool = False


class Answer(NamedTuple):
    """Whether a question can be answered, and what that rests on."""

    question: str
    answered: bool
    reason: str


def answers(contents: Contents, snapshot: Snapshot, *, clock_is_ns: bool) -> tuple[Answer, ...]:
    """What can and cannot be answered from a capture.

    Parameters
    ----------
    contents
        From :func:`hmtrace.report.contents.survey`.
    snapshot
        Its ``probes`` and ``probe_hits`` tell a probe that is missing from one that had no hit.
    clock_is_ns
        Whether the trace clock is a time.

    Returns
    -------
    tuple of Answer
    """
    has = contents.has
    mapped = has("kmap", "page") + has("kmap", "pfn")
    addresses = has("kmap", "vaddr")
    returns = has("kmap", "end_ts")
    both = has("kmap_local") and has("kunmap_local")
    areas = has("area_alloc")
    flushes = sum(map(has, _FLUSHES))
    sites = sum(known.get("site", 0) for known in contents.known.values())
    back = _wanting(
        snapshot,
        ("kmap_high",),
        "return probe on kmap_high",
        "a return probe on kmap_high",
        of_returns=True,
    )
    return (
        Answer(
            "pool pressure, hits, flushes",
            bool(mapped),
            "kmap with its page"
            if mapped
            else "kmap was traced without its page"
            if has("kmap")
            else _wanting(snapshot, ("kmap_high",), "probes on kmap_high", "a probe on kmap_high"),
        ),
        Answer(
            "exact check of kmap addresses",
            bool(mapped and addresses),
            f"{plural(addresses, 'call')} with the address returned" if addresses else back,
        ),
        Answer(
            "who waited, and how long",
            bool(returns and clock_is_ns),
            "returns are traced" if returns else back,
        ),
        Answer(
            "depth of local stacks",
            bool(both),
            "maps and unmaps are traced"
            if both
            else _wanting(
                snapshot,
                _LOCAL_FUNCTIONS,
                "probes on local mappings",
                "maps and unmaps of local mappings",
            ),
        ),
        Answer(
            "arena use and fragmentation",
            bool(areas),
            "alloc_vmap_area is traced"
            if areas
            else _wanting(snapshot, ("alloc_vmap_area",), "probes on alloc_vmap_area"),
        ),
        Answer(
            "flushes seen beside predicted",
            bool(flushes),
            plural(flushes, "flush event")
            if flushes
            else _wanting(
                snapshot,
                _FLUSH_FUNCTIONS,
                "probes on flushes",
                "probes on the functions that flush",
            ),
        ),
        Answer(
            "call sites",
            bool(sites),
            f"{plural(sites, 'event')} with a caller" if sites else "no caller was recorded",
        ),
        _elsewhere(has("kmap", "pfn") + has("kmap_local", "pfn"), mapped, areas),
        _lowmem(snapshot),
        Answer(
            "room that processes need",
            bool(snapshot.processes),
            "VmPeak of each is known"
            if snapshot.processes
            else "needs status.txt (/proc/PID/status)",
        ),
        Answer(
            "durations and shares of time",
            clock_is_ns,
            "the clock is a time" if clock_is_ns else "the trace clock is a counter",
        ),
    )


def without_model(found: Sequence[Answer]) -> tuple[Answer, ...]:
    """The answers for a capture of a machine that hmtrace has no model of: none but the counts."""
    return tuple(
        answer._replace(answered=False, reason="hmtrace has no model of this machine")
        if answer.answered
        else answer
        for answer in found
    )


def absences(snapshot: Snapshot) -> dict[str, Absence]:
    """Why a trace may have no call of a kind: none was made, or none was traced.

    Returns
    -------
    dict
        Of ``pool``, ``local`` and ``arena``, for a trace that has no call of theirs.
    """
    return {kind: _absence(snapshot, *told) for kind, told in _NONE.items()}


def _absence(snapshot: Snapshot, none: str, probed: str, functions: tuple[str, ...]) -> Absence:
    events = evidence.events_of(snapshot, functions)
    hits = [snapshot.probe_hits[event] for event in events if event in snapshot.probe_hits]
    if not snapshot.probes:
        words = f"{none} in this trace; whether it was traced, the capture's files do not tell"
        return Absence(words)
    if not events:
        words = f"not traced: no probe was set on {probed}; hmtrace info tells what is needed"
        return Absence(words, untraced=True)
    if not hits:
        return Absence(f"{none} in this trace, though probes were set")
    if not any(hits):
        return Absence(f"{none} in this capture: its probes had no hit")
    return Absence(f"{none} in this trace: its probes had hits, but at other times")


def _elsewhere(placed: int, mapped: int, areas: int) -> Answer:
    """Whether `replay` has something to take to another machine."""
    if placed:
        reason = "frame numbers are known"
    elif mapped and areas:
        reason = "pool or arena; RAM and split need frames"
    elif mapped:
        reason = "pool; RAM and split need frame numbers"
    elif areas:
        reason = "arena; the pool needs pages or frames"
    else:
        reason = "needs pages or frame numbers, or areas"
    return Answer("the workload on another machine", bool(placed or mapped or areas), reason)


def _lowmem(snapshot: Snapshot) -> Answer:
    """How lowmem fared, and what of it the machine's files tell."""
    waits = bool(snapshot.vmstat_start and snapshot.vmstat_end)
    told = [
        word
        for word, known in (
            (
                "zones at both ends" if snapshot.zones_end else "zones",
                any(zone.free for zone in snapshot.zones),
            ),
            ("waits", waits),
            ("pieces", snapshot.buddies),
        )
        if known
    ]
    if told and snapshot.ooms is not None:
        told.append("log")
    reason = ", ".join(told) + ("" if waits else "; no vmstat at both ends")
    return Answer("how lowmem fared", bool(told), reason if told else "needs zoneinfo or vmstat")


def _wanting(
    snapshot: Snapshot,
    functions: tuple[str, ...],
    probes: str,
    what: str | None = None,
    *,
    of_returns: bool = False,
) -> str:
    """In words, that `what` is needed (else the probes); or where they are set, had no hit."""
    events = [
        probe.event
        for probe in snapshot.probes
        if probe.symbol.partition("+")[0] in functions and (probe.is_return or not of_returns)
    ]
    if events and not any(snapshot.probe_hits.get(event) for event in events):
        return f"the {probes} had no hit"
    return f"needs {what or probes}"
