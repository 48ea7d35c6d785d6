"""Costs measured from the trace itself: the times between entry and return of its own calls.

A duration holds the probes' own time too. What they take is told by calls that do nothing: a
kmap_local of a lowmem page is an addition (mm/highmem.c: __kmap_local_page_prot), so its median
duration is taken off every other one where the trace has such calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from collectors.errors import HmtraceError
from replay.cost.formulas import drop_all_ns
from replay.machine.tlb import X86_FULL_FLUSH
from replay.machine.words import is_emulated
from replay.pool.calls import is_window_flush
from replay.pool.replay import window_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from replay.machine.costs import Costs
    from replay.run import Replayed

    Durations = NDArray[np.int64]

FEWEST: Final = 8
"""Calls from which a cost is taken; fewer are shown only."""
_PFN_FUNCTION: Final = "__kmap_local_pfn_prot"
"""Called by __kmap_local_page_prot for a highmem page."""
NEAR: Final = 8
FAR: Final = 128
"""Slots visited by a search that costs next to nothing, and by one that shows the cost of each."""


@dataclass(frozen=True)
class Measured:
    """One kind of call.

    Attributes
    ----------
    what
        In words.
    count
        Calls with a return.
    q1, median, q3
        Quartiles of their duration in ns, probes included.
    sets
        Cost figures (:class:`replay.machine.costs.Costs`) that are taken from it.
    """

    what: str
    count: int
    q1: float
    median: float
    q3: float
    sets: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """What the trace tells of costs.

    Attributes
    ----------
    measured
        Kinds of calls.
    probes_ns
        What an entry and a return probe take, None unknown.
    costs
        The figures, measured ones among them.
    caveats
        What limits the figures.
    """

    measured: tuple[Measured, ...]
    probes_ns: float | None
    costs: Costs
    caveats: tuple[str, ...]


def calibrate(done: Replayed, values: Mapping[str, Any], *, clock_is_ns: bool) -> Calibration:
    """Measure what the probes of a trace allow.

    Parameters
    ----------
    done
        Replay on the captured machine.
    clock_is_ns
        False where the trace clock counts something else than time.
    values
        Facts of the machine: whether it was emulated.

    Returns
    -------
    Calibration
        Without anything measured its costs are those of the machine.

    Raises
    ------
    HmtraceError
        Exit code 2, if the clock is none.
    """
    if not clock_is_ns:
        msg = "the trace clock counts no time: there is nothing to calibrate costs with"
        hint = "capture with  echo local > trace_clock  or another clock of nanoseconds"
        raise HmtraceError(msg, hint=hint, exit_code=2)
    events = done.events.with_columns(
        ns=(pl.col("end_ts") - pl.col("ts")),
    )
    resolution = _resolution(events)
    idle = _low_maps(done, events)
    probes = float(np.median(idle)) if idle.size >= FEWEST else None
    found: list[Measured] = []
    if idle.size:
        found.append(_measured("kmap_local of lowmem (the probes alone)", idle, {}))
    figures: dict[str, float] = {}
    probed = {probe.symbol.partition(".")[0] for probe in values.get("probes", ())}
    nested = _PFN_FUNCTION in probed
    for what, durations, sets in _kinds(done, events, probes or 0.0, figures, nested=nested):
        if durations.size:
            usable = {name: max(0.0, value) for name, value in sets.items()}
            usable = usable if durations.size >= FEWEST else {}
            figures |= usable
            found.append(_measured(what, durations, usable))
    names = {f.name for f in fields(done.machine.costs)}
    costs = done.machine.costs.with_values({k: v for k, v in figures.items() if k in names})
    emulated = is_emulated(values)
    caveats = tuple(_caveats(figures, probes, resolution, emulated=emulated))
    return Calibration(tuple(found), probes, costs, caveats)


def _caveats(
    figures: dict[str, float], probes: float | None, resolution: int, *, emulated: bool
) -> Iterator[str]:
    if not figures:
        yield "no cost could be calibrated: too few calls have a traced return"
        return
    if emulated:
        yield (
            "costs were calibrated under emulation (QEMU): they are the emulator's, and say "
            "nothing of real hardware"
        )
    if probes is None:
        yield (
            "calibrated costs hold the time of the probes themselves: no kmap_local of a lowmem "
            "page tells what they take"
        )
    if resolution > 1:
        yield f"the trace's time stamps go in steps of {resolution} ns: shorter times are rounded"


def _measured(what: str, durations: Durations, sets: dict[str, float]) -> Measured:
    q1, median, q3 = np.percentile(durations, (25, 50, 75)).tolist()
    return Measured(what, durations.size, q1, median, q3, sets)


def _resolution(events: pl.DataFrame) -> int:
    ts = events.get_column("ts").to_numpy()
    if not ts.size:
        return 1
    return max(1, int(np.gcd.reduce(np.abs(ts[: 1 << 16]))))


def _low_maps(done: Replayed, events: pl.DataFrame) -> Durations:
    local = done.local
    idle = local.row[~local.takes_slot & ~local.reused]
    return _of_rows(events, idle)


def _of_rows(events: pl.DataFrame, rows: NDArray[np.int64]) -> Durations:
    ns = events.get_column("ns").fill_null(-1).to_numpy()[rows]
    return np.asarray(ns[ns >= 0], np.int64)


def _kinds(
    done: Replayed,
    events: pl.DataFrame,
    probes: float,
    figures: dict[str, float],
    *,
    nested: bool,
) -> Iterator[tuple[str, Durations, dict[str, float]]]:
    """What is called, its durations, and the figures that they set.

    Later kinds build on the figures of earlier ones, which the caller collects in `figures`.
    `nested`: a kmap_local of a highmem page holds two pairs of probes.
    """
    yield from _pool_kinds(done, events, probes, figures)
    yield from _flush_kinds(done, events, probes, figures)
    local = done.local
    mapped = _of_rows(events, local.row[local.takes_slot])
    set_pte = figures.get("set_pte", done.machine.costs.set_pte)
    flush = _local_flush(done, figures)
    pairs = 2 if nested else 1
    yield (
        "kmap_local of highmem",
        mapped,
        {"migrate": 2 * (_median(mapped) - pairs * probes - set_pte - flush)},
    )
    allocs = events.filter((pl.col("op") == "area_alloc") & (pl.col("vaddr") > 0))
    inner = events.filter(pl.col("op") == "area_purge").get_column("parent").drop_nulls()
    plain = allocs.filter(~pl.col("seq").is_in(inner.implode()))
    took = _column(plain)
    steps = 10 * done.machine.costs.tree_step
    yield "alloc_vmap_area", took, {"area": _median(took) - probes - steps}
    yield (
        "alloc_vmap_area with a purge",
        _column(allocs.filter(pl.col("seq").is_in(inner.implode()))),
        {},
    )
    for op, what in (("vmap", "vmap"), ("vm_map_ram", "vm_map_ram"), ("area_purge", "lazy purge")):
        yield what, _column(events.filter(pl.col("op") == op)), {}


def _local_flush(done: Replayed, figures: dict[str, float]) -> float:
    from replay.cost.formulas import local_flush_ns

    costs = done.machine.costs.with_values(dict(figures))
    return local_flush_ns(costs, done.layout) if done.layout.local_flush_on_map else 0.0


def _column(rows: pl.DataFrame) -> Durations:
    ns = rows.get_column("ns").drop_nulls().to_numpy()
    return np.asarray(ns[ns >= 0], np.int64)


def _median(durations: Durations) -> float:
    return float(np.median(durations)) if durations.size else 0.0


def _pool_kinds(
    done: Replayed, events: pl.DataFrame, probes: float, figures: dict[str, float]
) -> Iterator[tuple[str, Durations, dict[str, float]]]:
    """kmap() by what it had to do; calls that slept are none of these."""
    from replay.pool.loops.sequence import ASLEEP, MAP

    pool, costs = done.pool, done.machine.costs
    sequence = pool.sequence
    maps = np.flatnonzero(sequence.operations[:, 0] == MAP)
    call = sequence.call[maps]
    slept = np.unique(call[pool.result[maps] == ASLEEP])
    maps = maps[~np.isin(call, slept) & (call >= 0)]
    rows = sequence.calls.row[sequence.call[maps]]
    scanned, freed = pool.scanned[maps], pool.freed[maps]

    def took(which: NDArray[np.bool_]) -> Durations:
        return _of_rows(events, rows[which])

    hits = took(scanned == 0)
    each = (_median(hits) - probes) / 2  # the lock, and the lookup of the page
    yield "kmap() that finds a mapping", hits, {"lock": each, "hash": each}
    near = took((scanned > 0) & (scanned <= NEAR) & (freed < 0))
    base = _median(hits) if hits.size else probes + costs.lock + costs.hash
    set_pte = _median(near) - base - figures.get("hash", costs.hash)
    yield "kmap() of a new page", near, {"set_pte": set_pte}
    is_far = (scanned >= FAR) & (freed < 0)
    far = took(is_far)
    per_slot = (far - _median(near)) / scanned[is_far] if far.size == is_far.sum() else far[:0]
    yield (
        f"kmap() that visits {FAR} slots or more",
        far,
        ({"scan": float(np.median(per_slot))} if far.size and near.size else {}),
    )
    yield "kmap() that wraps, nothing to flush", took(freed == 0), {}
    wraps = took(freed > 0)
    idle = took(freed == 0)
    sets: dict[str, float] = {}
    if idle.size >= FEWEST:
        dropped = float(np.median(freed[freed > 0])) if wraps.size else 0.0
        unmap = dropped * (costs.clear_pte + figures.get("hash", costs.hash))
        sets = _flush_figures(done, figures, _median(wraps) - _median(idle) - unmap,
                              done.layout.pkmap_slots)  # fmt: skip
    yield "kmap() that wraps and flushes", wraps, sets
    yield "kunmap()", _column(events.filter(pl.col("op") == "kunmap")), {}


def _flush_figures(
    done: Replayed, figures: dict[str, float], ns: float, pages: int
) -> dict[str, float]:
    """Figures that one flush of so many pages tells, as its initiator waits for it.

    x86 up to the ceiling: INVLPG on one CPU, else what the IPI takes beyond the flush; ARM: one
    TLBI per page (arch/x86/mm/tlb.c, arch/arm/kernel/smp_tlb.c).
    """
    layout, costs = done.layout, done.machine.costs
    others = done.machine.cpus - 1
    if layout.flush_ceiling_pages is None:
        around = 2 * costs.dsb + costs.isb
        name = "tlbi_broadcast" if layout.tlb_broadcast else "tlbi_local"
        return {name: (ns - around) / pages}
    ranged = pages <= layout.flush_ceiling_pages
    if not others:
        single = 2 if layout.pti else 1
        name = X86_FULL_FLUSH.get(layout.x86_flush, "full_flush")
        return {"invlpg": ns / pages / single} if ranged else {name: ns}
    own = pages * figures.get("invlpg", costs.invlpg) if ranged else drop_all_ns(costs, layout)
    return {"ipi_base": ns - own - others * costs.ipi_cpu}


def _flush_kinds(
    done: Replayed, events: pl.DataFrame, probes: float, figures: dict[str, float]
) -> Iterator[tuple[str, Durations, dict[str, float]]]:
    """flush_all_zero_pkmaps() and flush_tlb_kernel_range(), where their returns were probed."""
    layout = done.layout
    window = window_of(layout)
    passes = events.filter((pl.col("op") == "pool_flush") & pl.col("ns").is_not_null())
    yield "flush_all_zero_pkmaps", _column(passes), {}
    ranges = events.filter(
        (pl.col("op") == "flush_range") & pl.col("ns").is_not_null()
        & (pl.col("end") > pl.col("start"))
    ).with_columns(
        pages=(pl.col("end") - pl.col("start") + layout.page_size - 1) // layout.page_size
    )  # fmt: skip
    of_pool = ranges.filter(is_window_flush(window))
    took = _column(of_pool)
    yield (
        "flush_tlb_kernel_range of the pool",
        took,
        _flush_figures(done, figures, _median(took) - probes, max(layout.pkmap_slots, 1))
        if took.size
        else {},
    )
    ceiling = layout.flush_ceiling_pages
    others = ranges.filter(~is_window_flush(window).fill_null(value=False))
    small = others.filter(pl.col("pages") <= (ceiling or NEAR))
    took = _column(small)
    pages = _median(small.get_column("pages").cast(pl.Int64).to_numpy())
    yield (
        "flush_tlb_kernel_range page by page",
        took,
        (
            _flush_figures(done, figures, _median(took) - probes, max(1, round(pages)))
            if took.size and ceiling is not None
            else {}
        ),
    )
    large = others.filter(pl.col("pages") > (ceiling or NEAR))
    took = _column(large)
    pages = _median(large.get_column("pages").cast(pl.Int64).to_numpy())
    yield (
        "flush_tlb_kernel_range of many pages",
        took,
        (
            _flush_figures(done, figures, _median(took) - probes, max(1, round(pages)))
            if took.size
            else {}
        ),
    )


def as_rows(calibration: Calibration) -> list[dict[str, Any]]:
    """Key ``calibration`` of the JSON documents: the kinds of calls, times in ns."""
    return [
        {
            "what": m.what,
            "count": m.count,
            "q1_ns": m.q1,
            "median_ns": m.median,
            "q3_ns": m.q3,
            "sets": m.sets,
        }
        for m in calibration.measured
    ]
