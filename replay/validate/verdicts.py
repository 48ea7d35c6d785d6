"""What counts as predicted exactly, and what a capture's validation comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from collectors.records import dataclass, field
from replay.arena.result import CERTAIN, WRONG
from replay.pool.calls import UNKNOWN_PAGE, is_mapping
from replay.pool.replay import window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.arena.result import Answers, ArenaReplay
    from replay.machine.layout import Check, Layout
    from replay.pool.calls import CallTable
    from replay.pool.replay import FinalPool


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
    before: no evidence for the model. The `tlb_` figures count the TLB flushes alone; None where
    they were not traced.
    """

    observed: int = 0
    predicted: int = 0
    matched: int = 0
    ordered: int = 0
    tlb_observed: int | None = None
    tlb_predicted: int = 0
    tlb_matched: int | None = None


@dataclass(frozen=True)
class Divergence:
    """The first address that the model does not explain.

    `picture` shows what lies around it (:mod:`replay.pool.picture`, :mod:`replay.arena.picture`);
    None for local mappings.
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
    for free. `nameless` counts calls of kmap() of which the trace has the return alone, and so not
    the page: they were taken for new mappings.
    """

    initial_state: int = 0
    ordering: int = 0
    assumed_free: int = 0
    nameless: int = 0


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
    final_pool: FinalPool | None = None

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
            "final_pool": None if self.final_pool is None else self.final_pool._asdict(),
        }


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
    nameless: int = 0

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Indices of the calls that are neither exact nor excused."""
        return np.flatnonzero(self.counted & ~self.exact & ~self.excused)


def pool_result(calls: CallTable, layout: Layout) -> Result:
    """Verdicts on calls of the pool that are over."""
    from replay.pool.loops.placing import INITIAL, ORDERED

    vaddr, seen, predicted = calls["vaddr"], calls["seen"], calls["predicted"]
    status = calls["status"]  # each column is picked out when it is asked for
    # an address outside the pool counts as wrong
    counted = is_mapping(calls) & (vaddr >= 0)
    nameless = calls["page"] >= UNKNOWN_PAGE
    excused = (status == INITIAL) | nameless
    right = (predicted == seen) & (seen >= 0)
    slot = window_of(layout).by_address(predicted.astype(np.int64))
    return Result(
        row=calls["row"],
        seen=vaddr,
        predicted=np.where(slot >= 0, layout.pkmap_base + slot * layout.page_size, -1),
        counted=counted,
        exact=counted & right & (status < INITIAL),
        excused=excused,
        initial=int((counted & (status == INITIAL)).sum()),
        ordering=int((counted & (status == ORDERED)).sum()),
        nameless=int((counted & nameless).sum()),
    )


def local_result(
    row: NDArray[np.int64],
    seen: NDArray[np.int64],
    predicted: NDArray[np.int64],
    status: NDArray[np.uint8],
) -> Result:
    """Verdicts on local mappings; arrays as in :class:`replay.local.stacks.LocalPiece`."""
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


def arena_result(answers: Answers) -> Result:
    """Addresses of areas; exact are those that were called certain and are right.

    What was inferred is counted for the whole trace (:class:`replay.arena.result.ArenaReplay`).
    """
    counted = answers.seen >= 0
    return Result(
        row=answers.row,
        seen=answers.seen,
        predicted=answers.predicted,
        counted=counted,
        exact=counted & (answers.verdict == CERTAIN),
        excused=answers.verdict != WRONG,
        initial=0,
        ordering=0,
    )


def passes_result(
    flushed: NDArray[np.int8], at_pass: NDArray[np.int64], freed: NDArray[np.int32], ordered: int
) -> Passes:
    """Compare runs of flush_all_zero_pkmaps().

    Parameters
    ----------
    flushed
        Per traced run: 1 the TLB was flushed, 0 it was not, -1 not known.
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
        tlb_observed=int((flushed > 0).sum()) if traced else None,
        tlb_predicted=int((freed > 0).sum()),
        tlb_matched=int(((here > 0) & (flushed[index] > 0)).sum()) if traced else None,
    )
