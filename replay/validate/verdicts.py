"""The model against the kernel: how much of what the kernel reported was predicted exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from replay.arena.replay import replay_arena
from replay.arena.result import CERTAIN, WRONG
from replay.machine.kconfig import is_realtime
from replay.machine.layout import Check, check
from replay.machine.words import kernel_words
from replay.pool.calls import is_mapping
from replay.pool.picture import arena_picture, pool_picture
from replay.pool.replay import window_of
from replay.run import Replayed, replay_events
from replay.trace.tasks import finished_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from replay.arena.result import ArenaReplay
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.trace.losses import Loss


FOR_EVER: Final = pl.lit(np.iinfo(np.uint64).max, pl.UInt64)
"""`end_seq` of a call that never returned."""


@dataclass(frozen=True)
class Share:
    """Addresses that the kernel returned, and how many of them the model predicted."""

    total: int = 0
    exact: int = 0


@dataclass(frozen=True)
class Passes:
    """Runs of flush_all_zero_pkmaps: traced, predicted, and traced ones predicted rightly.

    A run is matched if the model makes it at the same point and flushes the TLB there exactly
    if the kernel did (where flush_tlb_kernel_range() was traced). `ordered` of them are matched
    because the kernel's own TLB flush, or its absence, told whether an overlapping kunmap() came
    before: no evidence for the model. The `tlb_` figures count the TLB flushes alone; -1 where
    they were not traced.
    """

    observed: int = 0
    predicted: int = 0
    matched: int = 0
    ordered: int = 0
    tlb_observed: int = -1
    tlb_predicted: int = 0
    tlb_matched: int = -1


@dataclass(frozen=True)
class Divergence:
    """The first address that the model does not explain.

    `picture` shows what lies around it (:mod:`replay.pool.picture`); None for local mappings.
    """

    op: str
    seq: int
    ts: int
    cpu: int
    pid: int
    comm: str
    predicted: int | None
    observed: int
    state: str
    picture: dict[str, Any] | None = None


@dataclass(frozen=True)
class Inferred:
    """What was not predicted but concluded from an observed address.

    `initial_state` counts calls whose address told something of the initial state (or of the
    state after a loss): they are not exact. `ordering` counts calls whose place among
    overlapping ones an observed address decided: the model returned their address there.
    `assumed_free` counts exact predictions of slots whose initial state was not known and taken
    for free.
    """

    initial_state: int = 0
    ordering: int = 0
    assumed_free: int = 0


@dataclass(frozen=True)
class Validation:
    """Result for one capture."""

    kmap: Share = field(default_factory=Share)
    kmap_local: Share = field(default_factory=Share)
    pool_flushes: Passes = field(default_factory=Passes)
    waits_observed: int | None = None
    waits_predicted: int = 0
    vmap: Share = field(default_factory=Share)
    arena: ArenaReplay | None = None
    inferred: Inferred = field(default_factory=Inferred)
    first_divergence: Divergence | None = None
    layout: tuple[Check, ...] = ()
    initial_state: str = ""
    generation: str = ""
    kernel: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """An entry of ``captures`` in the JSON document, without its path."""
        first = self.first_divergence
        return {
            "kmap": vars(self.kmap),
            "kmap_local": vars(self.kmap_local),
            "pool_flushes": vars(self.pool_flushes),
            "waits": {"observed": self.waits_observed, "predicted": self.waits_predicted},
            "vmap": vars(self.vmap),
            "lazy": vars(Share() if self.arena is None else self.arena.nr_lazy),
            "arena": None if self.arena is None else self.arena.as_json(),
            "inferred": vars(self.inferred),
            "first_divergence": None if first is None else vars(first),
            "layout": [
                {"name": c.name, "predicted": c.predicted, "observed": c.observed, "ok": c.ok}
                for c in self.layout
            ],
            "initial_state": self.initial_state,
            "generation": self.generation,
            "kernel": list(self.kernel),
        }


def validate(
    events: pl.LazyFrame | pl.DataFrame,
    machine: Machine,
    *,
    values: Mapping[str, Any] | None = None,
    sources: Mapping[str, str] | None = None,
    lost: Loss | None = None,
    progress: Callable[[str], None] | None = None,
) -> Validation:
    """Compare what the kernel reported with what the model predicts.

    Parameters
    ----------
    events, machine, values, lost, progress
        As for :func:`replay.run.replay_events`.
    sources
        Fact name to the file that it came from.

    Returns
    -------
    Validation
    """
    values = values or {}
    done = replay_events(events, machine, values=values, lost=lost, progress=progress)
    sequence = done.pool.sequence
    pool = pool_result(sequence.piece.calls, done.layout)
    vaddr = done.events.get_column("vaddr").cast(pl.Int64).fill_null(-1).to_numpy()[done.local.row]
    seen = np.where(done.local.reused, -1, vaddr)  # the pool's are compared there
    local = local_result(done.local.row, seen, done.local.vaddr, done.local.status)
    if progress is not None:
        progress("vmap arena")
    arena = replay_arena(done.events, machine, done.layout, values, done.losses)
    areas = arena_result(arena)
    return Validation(
        kmap=Share(int(pool.counted.sum()), int(pool.exact.sum())),
        kmap_local=Share(int(local.counted.sum()), int(local.exact.sum())),
        pool_flushes=passes_result(
            sequence.pass_flushed, sequence.at_pass, done.pool.freed, sequence.told_passes
        ),
        waits_observed=_observed_waits(done),
        waits_predicted=done.pool.outcome.waits,
        vmap=Share(int(areas.counted.sum()), int(areas.exact.sum())),
        arena=arena,
        inferred=Inferred(
            initial_state=pool.initial + local.initial + areas.initial,
            ordering=pool.ordering + sequence.moved_unmaps + local.ordering + areas.ordering,
            assumed_free=sequence.assumed_free,
        ),
        first_divergence=_first(done, values, pool, local, areas, arena),
        layout=tuple(check(done.layout, values, sources)),
        initial_state=done.pool.initial_state,
        generation=machine.generation,
        kernel=tuple(kernel_words(machine, done.layout)),
    )


@dataclass(frozen=True)
class Result:
    """One kind of address: per call, its row, what was seen and predicted, and the verdict."""

    row: NDArray[np.int64]
    seen: NDArray[np.int64]
    predicted: NDArray[np.int64]
    counted: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    excused: NDArray[np.bool_]
    initial: int
    ordering: int

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Indices of the calls that are neither exact nor excused."""
        return np.flatnonzero(self.counted & ~self.exact & ~self.excused)


def pool_result(calls: NDArray[np.void], layout: Layout) -> Result:
    """Verdicts on calls of the pool (:data:`replay.pool.calls.CALL`) that are over."""
    from replay.pool.loops.placing import INITIAL, ORDERED

    # an address outside the pool counts as wrong
    counted = is_mapping(calls) & (calls["vaddr"] >= 0)
    excused = calls["status"] == INITIAL
    right = (calls["predicted"] == calls["seen"]) & (calls["seen"] >= 0)
    slot = window_of(layout).by_address(calls["predicted"].astype(np.int64))
    return Result(
        row=calls["row"],
        seen=calls["vaddr"],
        predicted=np.where(slot >= 0, layout.pkmap_base + slot * layout.page_size, -1),
        counted=counted,
        exact=counted & right & (calls["status"] < INITIAL),
        excused=excused,
        initial=int((counted & excused).sum()),
        ordering=int((counted & (calls["status"] == ORDERED)).sum()),
    )


def local_result(
    row: NDArray[np.int64],
    seen: NDArray[np.int64],
    predicted: NDArray[np.int64],
    status: NDArray[np.uint8],
) -> Result:
    """Verdicts on local mappings; arrays as in :class:`replay.local.whole.LocalReplay`."""
    from replay.local.loops import INITIAL, ORDERED

    counted = seen >= 0
    excused = status == INITIAL
    return Result(
        row=row,
        seen=seen,
        predicted=predicted,
        counted=counted,
        exact=counted & (predicted == seen) & ~excused,
        excused=excused,
        initial=int((counted & excused).sum()),
        ordering=int((counted & (status == ORDERED)).sum()),
    )


def arena_result(arena: ArenaReplay) -> Result:
    """Addresses of areas; exact are those that were called certain and are right."""
    counted = arena.seen >= 0
    return Result(
        row=arena.row,
        seen=arena.seen,
        predicted=arena.predicted,
        counted=counted,
        exact=counted & (arena.verdict == CERTAIN),
        excused=arena.verdict != WRONG,
        initial=arena.inferred_initial,
        ordering=arena.ordering,
    )


def passes_result(
    flushed: NDArray[np.int8], at_pass: NDArray[np.int64], freed: NDArray[np.int32], ordered: int
) -> Passes:
    """Compare runs of flush_all_zero_pkmaps().

    Parameters
    ----------
    flushed
        Per traced run, as :attr:`replay.pool.linearise.PoolSequence.pass_flushed`.
    at_pass, freed
        Per operation of the pool: the traced run that it belongs to, and the slots it freed.
    ordered
        Runs whose TLB flush, or its absence, decided the order of calls.
    """
    at = at_pass >= 0
    here, index = freed[at], at_pass[at]
    traced = bool(flushed.size) and bool((flushed >= 0).all())
    agrees = (here > 0) == (flushed[index] > 0) if traced else np.ones(here.size, bool)
    return Passes(
        observed=int(flushed.size),
        predicted=int((freed >= 0).sum()),
        matched=int(((here >= 0) & agrees).sum()),
        ordered=ordered,
        tlb_observed=int((flushed > 0).sum()) if traced else -1,
        tlb_predicted=int((freed > 0).sum()),
        tlb_matched=int(((here > 0) & (flushed[index] > 0)).sum()) if traced else -1,
    )


def _observed_waits(done: Replayed) -> int | None:
    """Times a task went to uninterruptible sleep inside kmap_high().

    None where there is no sched_switch, and with PREEMPT_RT: kmap_lock sleeps there, and a task
    that waits for it looks the same (include/linux/sched.h: __task_state_index).
    """
    switches = done.events.filter(pl.col("op") == "switch")
    if not switches.height or is_realtime(done.machine.config):
        return None
    maps = done.events.filter(pl.col("op") == "kmap")
    if maps.get_column("end_seq").null_count() < maps.height:  # else returns are not traced
        maps = lasting(maps, done.events)
    return sleeps_inside(maps, switches)


def lasting(maps: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The calls of kmap(); one without a return lasts until its task does something else."""
    more = finished_by(events.lazy()).select("pid", more="seq").collect()
    return maps.join_asof(
        more, left_on="seq", right_on="more", by="pid", strategy="forward",
        allow_exact_matches=False, check_sortedness=False,
    ).with_columns(end_seq=pl.coalesce("end_seq", "more", FOR_EVER)).drop("more")  # fmt: skip


def sleeps_inside(maps: pl.DataFrame, switches: pl.DataFrame) -> int:
    """Number of switches to uninterruptible sleep inside calls of kmap(); both by `seq`."""
    inside = switches.filter("blocked").select("seq", "pid").join_asof(
        maps.filter(pl.col("end_seq").is_not_null()).select("pid", "seq", "end_seq"),
        on="seq", by="pid", strategy="backward", check_sortedness=False,
    )  # fmt: skip
    return inside.filter(pl.col("end_seq") > pl.col("seq")).height


def _first(
    done: Replayed,
    values: Mapping[str, Any],
    pool: Result,
    local: Result,
    areas: Result,
    arena: ArenaReplay,
) -> Divergence | None:
    """The earliest address that is neither exact nor excused."""
    best: tuple[int, Result, int] | None = None
    for result in (pool, local, areas):
        wrong = result.wrong
        if wrong.size and (best is None or result.row[wrong[0]] < best[0]):
            best = (int(result.row[wrong[0]]), result, int(wrong[0]))
    if best is None:
        return None
    row, result, index = best
    event = done.events.row(row, named=True)
    predicted = int(result.predicted[index])
    observed = int(result.seen[index])
    picture: dict[str, Any] | None = None
    if result is pool:
        picture = pool_picture(done, index)
        state = _in_words(picture)
    elif result is areas:
        picture = arena_picture(done, values, row, predicted, observed)
        state = arena.around(index)
    else:
        state = f"depth {done.local.depth[index]}"
    return Divergence(
        op=event["op"],
        seq=event["seq"],
        ts=event["ts"],
        cpu=event["cpu"],
        pid=event["pid"],
        comm=event["comm"] or "",
        predicted=predicted if predicted >= 0 else None,
        observed=observed,
        state=state,
        picture=picture,
    )


def _in_words(picture: Mapping[str, Any]) -> str:
    return (
        f"last_pkmap_nr {picture['last']}, {picture['used']} slots used, "
        f"{picture['stale']} stale, {picture['free']} free"
    )
