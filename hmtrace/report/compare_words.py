"""Words of a comparison: figures, verdicts, noise, and what cannot be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from collectors.probes import FUNCTIONS, function_of
from hmtrace.report.sidebyside import SIGNS, difference
from hmtrace.report.text import GLUE, NA, clean, count, duration, mib, plural, size
from hmtrace.report.verdict import verdict_in_words
from replay.compare.changes import BOUND, EVENT, KMAP, PERHAPS, RUN, SECOND, UNKNOWN, WITHIN
from replay.compare.noise import CHANCE, EXACT, UNTOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from replay.compare.apart import Apart, Differs
    from replay.compare.changes import Change, WorkUnits
    from replay.compare.figures import KnownFigure
    from replay.compare.noise import Noise
    from replay.compare.run import Comparison, CostChange

NAMES: Final = {
    "kmap": "kmap of highmem",
    "new_mappings": "new pool mappings",
    "pool_flushes": "pool flushes",
    "waits": "waits for a slot",
    "local": "local mappings",
    "local_lowmem": "local of lowmem",
    "local_saved": "held over switches",
    "requests": "arena requests",
    "failures": "arena failures",
    "purges": "lazy purges",
    "tlb_full": "full TLB flushes",
    "tlb_ranged": "ranged TLB flushes",
    "flushed_pages": "pages of these",
    "ipis": "IPIs",
    "tlb_single": "single TLB flushes",
    "pool_used": "slots in use, most",
    "still_used": "slots held at end",
    "asleep": "asleep at the end",
    "local_depth": "local depth, most",
    "arena_live": "arena in use, most",
    "largest_hole": "largest hole, least",
    "wait_ns": "time waited",
    "longest_wait_ns": "longest wait",
    "longest_hold_ns": "longest local hold",
}
_BYTES: Final = ("arena_live", "largest_hole")
PER: Final = {
    KMAP: "per 1000 kmap()", EVENT: "per 1000 mapping calls", SECOND: "per second", RUN: "per run",
}  # fmt: skip
SHORT_PER: Final = {KMAP: "per 1000", EVENT: "per 1000", SECOND: "per second", RUN: ""}
_WHY: Final = {
    "untraced": "not traced",
    "untold": "none seen; whether it was traced is not told",
    "elsewhere": "none in this trace, and its probes had hits at other times",
    "pageless": "traced without pages",
    "missed": "probes missed calls",
    "lost": "events were lost",
    "counter": "the clock counts no time",
    "emulated": "an emulator's time",
    "no work": "no work to count it by",
    "bound": "a bound",
    "not more": "not more; by how much less is not known",
    "not less": "not less; by how much more is not known",
    "no function": "no function is called that could be probed",
    "not known": "not known",
}
_KINDS: Final = {
    "pool": "kmap() and kunmap()",
    "local": "local mappings",
    "lowmem": "local mappings of lowmem pages",
    "arena": "allocations of address space",
    "purges": "runs of lazy purges",
    "flushes": "TLB flushes",
    "switches": "context switches",
}
_FACTS: Final = {
    "arch": "architecture", "generation": "kernel like", "release": "release", "pae": "PAE",
    "split": "split", "cpus": "CPUs", "ram_bytes": "RAM", "lowmem_bytes": "lowmem",
    "highmem_bytes": "highmem", "vmalloc_bytes": "arena", "pkmap_slots": "pool slots",
    "page_size": "page size", "highmem_enabled": "HIGHMEM", "config": "config",
    "converted": "converted",
}  # fmt: skip
_SHOWN_NAMES: Final = 6


def figure(name: str, known: KnownFigure) -> str:
    """A figure as it is known, with its sign."""
    if known.value is None:
        return NA
    shown: Callable[[float | None], str] = count
    if name in _BYTES:
        shown = mib
    elif name.endswith("_ns"):
        shown = duration
    return f"{SIGNS[known.sense]}{shown(known.value)}" if known.sense else shown(known.value)


def rate(value: float | None) -> str:
    """A rate with three digits that count.

    Examples
    --------
    >>> rate(743.82), rate(0.39618), rate(12.34), rate(0), rate(0.0004), rate(None)
    ('744', '0.396', '12.3', '0', '0.0004', 'n/a')
    """
    if value is None:
        return NA
    if value >= 100 or value == 0:
        return count(value)
    return f"{value:.3g}"


def change_in_words(change: Change) -> str:
    """How a figure changed; empty where it did not, ``?`` behind what is not certain."""
    if change.verdict == UNKNOWN or change.difference is None:
        return "?"
    after = change.other.value
    assert after is not None
    words = share_in_words(after - change.difference, after)
    if change.verdict == BOUND and words != "gone":
        return f"{SIGNS[change.sense]} {words}"
    if change.verdict == WITHIN:
        return f"({words})"
    return f"{words} ?" if change.verdict == PERHAPS else words or "="


def share_in_words(before: float, after: float) -> str:
    """A change as :func:`hmtrace.report.sidebyside.difference`, but nothing rounds to all.

    Examples
    --------
    >>> share_in_words(3802, 6), share_in_words(3802, 0), share_in_words(100, 150)
    ('-99.84 %', 'gone', '+50 %')
    """
    words = difference(before, after)
    if words != "-100 %":
        return words
    return f"-{min(100 - 100 * after / before, 99.99):.2f} %"


def noise_in_words(noise: Noise | None, expected: float) -> str:
    """What a figure differs by anyway, as a share of what is expected, or in its own unit."""
    if noise is None or noise.basis == UNTOLD:
        return ""
    if noise.basis == EXACT:
        return "0"
    if not expected:
        return f"±{rate(noise.most)}"
    percent = 100 * noise.most / expected
    return f"±{percent:.1f}{GLUE}%" if percent < 10 else f"±{percent:.0f}{GLUE}%"


def expected_of(change: Change) -> float:
    """What the first run comes to for the second's work."""
    return (change.other.value or 0) - (change.difference or 0)


def cost_change(ns: float | None) -> str:
    """A change of cost with its sign."""
    if ns is None:
        return ""
    if abs(ns) < 0.5:
        return "0"
    return f"{'+' if ns > 0 else '-'}{duration(abs(ns))}"


def work_in_words(work: WorkUnits) -> str:
    """What figures are given per, and how much of it there was."""
    if work.unit == RUN:
        return "whole runs, one beside the other"
    amounts = [
        duration((known.value or 0) * 1e9) if work.unit == SECOND else _amount(known)
        for known in (work.one, work.other)
    ]
    kinds = ", ".join(NAMES[name] for name in work.kinds)
    which = f" ({kinds})" if work.unit == EVENT else ""
    units = (work.one.value or 0, work.other.value or 0)
    much = max(units) / min(units) if work.is_counted and min(units) else 1
    doubt = f", {much:.1f} times as much: is it the same workload?" if much > 2 else ""
    return f"{PER[work.unit]}{which}: A has {amounts[0]}, B {amounts[1]}{doubt}"


def _amount(known: KnownFigure) -> str:
    return NA if known.value is None else f"{SIGNS[known.sense]}{count(known.value)}"


def basis_in_words(found: Comparison) -> str:
    """What the noise rests on."""
    if found.basis == EXACT:
        return "none: both are of one trace, so all that differs is the machines'"
    if found.basis == CHANCE:
        return (
            "no further capture of either: a bound by chance, 3 times the root of n, as if each "
            "call came by itself. What bunches differs by more; --noise CAPTURE measures it"
        )
    one, other = found.repeats
    whose = [
        f"{plural(n, 'more capture')} of {side}" for n, side in ((one, "A"), (other, "B")) if n
    ]
    return (
        f"measured, by {' and '.join(whose)}: 95 of 100 runs that are alike differ by less than "
        "what stands behind ±; ? marks what is more than these differ by, but they are few"
    )


def cost_in_short(cost: CostChange | None, work: WorkUnits) -> str:
    """The cost of both, and what follows."""
    if cost is None:
        return "not known"
    per = "" if work.unit == RUN else f" {PER[work.unit]}"
    both = f"{duration(cost.one[1])} → {duration(cost.other[1])}{per}"
    if cost.verdict is None:
        return f"{both}: not compared, {_doubts(cost.why)}"
    if cost.word == "same":
        return f"{both}: the same, whatever operations cost"
    if not cost.is_beyond_noise:
        return f"{both}: within the noise of ±{duration(cost.noise)}"
    change = share_in_words(cost.one[1], cost.other[1])
    ends = f"{cost_change(cost.verdict.low)} to {cost_change(cost.verdict.high)}"
    likely = "" if cost.verdict.turn is None else "with likely costs "
    words = verdict_in_words(cost.verdict)
    return f"{both}, {change} ({ends} over the ranges): {likely}B is {words}"


_DOUBTS: Final = {
    "lost": "events were lost",
    "evidence": "not the same kinds of calls were traced",
    "told": "what was traced is told of one alone",
    "work": "the work itself is not known",
    "pageless": "pages are not known",
    "bound": "figures are bounds",
    "arch": "it is other hardware, whose costs are assumed each for itself",
    "asleep": "other tasks sleep for ever, so it is not the same work",
}


def _doubts(codes: Sequence[str]) -> str:
    return "; ".join(_DOUBTS[code] for code in codes)


def why_in_words(why: str) -> str:
    """Why a figure is not known."""
    return _WHY.get(why, clean(why))


def differs_in_words(one: Differs) -> tuple[str, str]:
    """A fact of the machines, and both values."""
    name = _FACTS.get(one.fact, clean(one.fact.removeprefix("axis ")))
    if isinstance(one.one, tuple):
        parts = [f"-{clean(word)}" for word in one.one] + [f"+{clean(word)}" for word in one.other]
        more = len(parts) - 2 * _SHOWN_NAMES
        shown = parts if more <= 0 else [*parts[: 2 * _SHOWN_NAMES], f"and {more} more"]
        return name, " ".join(shown)
    return name, f"{_fact(one.fact, one.one)} → {_fact(one.fact, one.other)}"


def _fact(fact: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if fact == "page_size":
        return size(value)
    if fact.endswith("_bytes"):
        return mib(value) if value else "none"
    return count(value) if isinstance(value, int | float) else clean(value)


def apart_rows(found: Comparison) -> Iterator[tuple[str, str]]:
    """What is not comparable, and why; probes that tell of the same calls are not among it."""
    for one in found.apart:
        told = _telling(one, found) if one.code == "probes" else one
        if told.code != "probes" or told.one or told.other:
            yield _APART[told.code](told)


def _telling(one: Apart, found: Comparison) -> Apart:
    """Probes of calls that no function tells of in the other run."""
    ops = [{_op(name) for name in side.functions or ()} for side in (found.one, found.other)]
    alone = [
        [name for name in names if (op := _op(name)) is not None and op not in others]
        for names, others in ((one.one, ops[1]), (one.other, ops[0]))
    ]
    return one._replace(one=alone[0], other=alone[1])


def _op(symbol: str) -> str | None:
    """Operation that a function's probe tells of; None: of none that counts here."""
    number = function_of(symbol)
    return None if number is None else FUNCTIONS[number].op


def _whose(one: Apart) -> str:
    both = bool(one.one), bool(one.other)
    return {(True, True): "both", (True, False): "A", (False, True): "B"}.get(both, "neither")


def _be(one: Apart) -> str:
    return "are" if one.one and one.other else "is"


def _unseen(one: Apart) -> tuple[str, str]:
    sides = [
        f"{side}: {why_in_words(why)}" for side, why in (("A", one.one), ("B", one.other)) if why
    ]
    return _KINDS.get(one.about, clean(one.about)), "; ".join(sides)


def _probes(one: Apart) -> tuple[str, str]:
    parts = []
    for side, names in (("A", one.one), ("B", one.other)):
        if names:
            shown = ", ".join(clean(name, 60) for name in names[:_SHOWN_NAMES])
            more = f", {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            parts.append(f"only in {side}: {shown}{more}")
    return "probes", "; ".join(parts)


_NO_REPETITION: Final = {
    "same trace": "is one of the other captures: it tells nothing more",
    "modelled": "is what the model makes of a machine, and no capture",
    "lost": "lost events",
    "machine": "is of another machine",
}


_APART: Final[dict[str, Callable[[Apart], tuple[str, str]]]] = {
    "lost": lambda a: (
        "losses",
        f"{_whose(a)} lost events: counts are at least so many, and a change is known only where "
        "that is enough",
    ),
    "no-repetition": lambda a: (
        "noise",
        f"{clean(a.one)} {_NO_REPETITION[a.about]}: left out",
    ),
    "no-work": lambda a: ("work", f"{_no_work(a)}: nothing can be given {PER[a.about]}"),
    "amounts": lambda a: (
        "work",
        f"{'A' if a.one > a.other else 'B'} has {max(a.one, a.other) / min(a.one, a.other):.1f} "
        "times as much of it: if the workload is the same, it ran longer there",
    ),
    "arch": lambda a: (
        "architecture",
        f"{clean(a.one)}, {clean(a.other)}: other ways to flush, and other costs",
    ),
    "unseen": _unseen,
    "probes": _probes,
    "emulated": lambda a: (
        "times",
        f"{_whose(a)} ran in an emulator, whose speed is another one each time: times and rates "
        "per second say nothing of the kernels",
    ),
    "counter": lambda a: ("times", f"the clock of {_whose(a)} counts no time"),
    "spans": lambda a: ("spans", f"{duration(a.one)}, {duration(a.other)}"),
    "modelled": lambda a: (
        "origin",
        f"{_whose(a)} {_be(a)} what the model makes of another machine, not what a kernel did",
    ),
    "cpus": lambda a: ("CPUs", f"{a.one}, {a.other}: each flush interrupts as many others"),
    "costs": lambda _: ("costs", "the figures of costs are not the same: so are the costs"),
}


def _no_work(one: Apart) -> str:
    sides = [
        f"{side} has {'none' if value == 0 else 'no such figure'}"
        for side, value in (("A", one.one), ("B", one.other))
        if not value
    ]
    return ", ".join(sides)
