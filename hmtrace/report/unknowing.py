"""Evidence that rules lack: why they cannot know, and what to record so that they can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replay.rules.evidence import Missing


class Evidence(NamedTuple):
    """A kind of evidence in words, and what records it: probes, or a file of the capture folder."""

    name: str
    record: str


EVIDENCE: Final = {
    "pool": Evidence("kmap() and kunmap()", "kprobes on kmap_high, its return and kunmap_high"),
    "local": Evidence(
        "local mappings",
        "kprobes on __kmap_local_pfn_prot, its return and kunmap_local_indexed (up to 5.10 "
        "kmap_atomic_high_prot and kunmap_atomic_high)",
    ),
    "arena": Evidence("allocations of address space", "kprobes on alloc_vmap_area and its return"),
    "callers": Evidence(
        "calls of vmap() and vmalloc()",
        "kprobes on vmap and __vmalloc_node_range and their returns",
    ),
    "flushes": Evidence("TLB flushes", "a kprobe on flush_tlb_kernel_range, which tells its range"),
    "full_flushes": Evidence("flushes of all entries", "a kprobe on flush_tlb_all"),
    "purges": Evidence("purges", "kprobes on __purge_vmap_area_lazy and its return"),
    "failures": Evidence(
        "whether allocations failed", "a return probe on alloc_vmap_area with va=$retval"
    ),
    "times": Evidence("times", "a trace_clock that counts time, such as local or mono"),
    "returns": Evidence("returns of calls", "return probes (r:) beside the kprobes"),
    "switches": Evidence("context switches", "a kprobe on __kmap_local_sched_out"),
    "areas": Evidence("areas that were there before", "vmallocinfo.start"),
    "zones": Evidence("zones", "zoneinfo"),
    "stalls": Evidence("waits of the allocator", "vmstat at both ends"),
    "log": Evidence("the kernel's log", "dmesg"),
}
"""By the name of the evidence (:mod:`replay.rules.evidence`)."""
_LARGER: Final = "a larger buffer (buffer_size_kb), fewer events, or a shorter capture"
_BY_REASON: Final = {
    "lost": _LARGER,
    "missed": "fewer probes hit inside each other, return probes of more instances (r512:)",
    "pageless": "kprobes that fetch the page, instead of the function tracer",
    "contradicted": "the files of the same machine and boot",
}
"""What to record by the reason, where that says more than the evidence."""


def why_unknown(missing: Sequence[Missing]) -> str:
    """Why a rule cannot know, in words."""
    return "; ".join(dict.fromkeys(map(_in_words, missing)))


def _in_words(missing: Missing) -> str:
    what, record = EVIDENCE[missing.evidence]
    return {
        "untraced": f"no probe was set on {what}",
        "untold": f"the trace has no {what}, and no file tells whether they were traced",
        "pageless": "the trace has no page arguments",
        "lost": "tracing lost events",
        "missed": f"probes missed {what}",
        "contradicted": f"{what} are nested deeper than any kernel lets them",
        "counter": "the trace clock counts no time",
        "unreturned": f"the trace does not tell {what}",
        "file": f"no file tells of {what} ({record})",
    }[missing.reason]


def what_to_record(missing: Iterable[Missing]) -> str:
    """What to record so that a rule can know, in words."""
    words = (_BY_REASON.get(one.reason) or EVIDENCE[one.evidence].record for one in missing)
    return "; ".join(dict.fromkeys(words))


def needs_in_words(needs: Iterable[str]) -> str:
    """What a rule has to know, in words; empty: nothing that may be missing."""
    return ", ".join(EVIDENCE[need].name for need in needs)
