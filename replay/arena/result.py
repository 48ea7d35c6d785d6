"""What came of a replay of the arena: verdicts on its answers, and what it took to get them."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.records import dataclass, field

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from replay.arena.blocks import BlockTally

# Verdicts
CERTAIN: Final = 0  # every possible tree gives this answer
AMBIGUOUS: Final = 1  # trees differ, or the state was not known
WRONG: Final = 2  # called certain, and not what the kernel did
INITIAL: Final = 3  # the address itself told something of the state at the start
NOT_SEEN: Final = 4  # no return was traced: nothing to compare


@dataclass(frozen=True)
class Summed:
    """Numbers that are added up, each for itself."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Tally(Summed):
    """Things that the kernel did, that the model predicted, and those where both agree."""

    observed: int = 0
    predicted: int = 0
    matched: int = 0


@dataclass(frozen=True)
class LazyCount(Summed):
    """Numbers that the kernel told, and those of them that the model has too.

    `initial_state`: those that told something of the start instead.
    """

    total: int = 0
    exact: int = 0
    initial_state: int = 0


class Answers(NamedTuple):
    """What was answered to the usable allocations of a piece or of a trace, in `row` order.

    Attributes
    ----------
    row : ndarray of int64
        Row of the event table.
    predicted, seen : ndarray of int64
        Address, or :data:`replay.arena.calls.FAILED`; -1 unknown.
    verdict : ndarray of uint8
        CERTAIN (and right), AMBIGUOUS, WRONG, INITIAL, NOT_SEEN.
    ordered : ndarray of bool
        The observed address decided the place among overlapping calls.
    trees : ndarray of int32
        Trees that the prediction rests on.
    size, align : ndarray of int64
        What was asked for, in bytes; `align` is negative for a percpu chunk.
    """

    row: NDArray[np.int64]
    predicted: NDArray[np.int64]
    seen: NDArray[np.int64]
    verdict: NDArray[np.uint8]
    ordered: NDArray[np.bool_]
    trees: NDArray[np.int32]
    size: NDArray[np.int64]
    align: NDArray[np.int64]

    def only(self, index: int) -> Answers:
        """That of one allocation."""
        row, predicted, seen, verdict, ordered, trees, size, align = self
        at = slice(index, index + 1)
        return Answers(
            row[at].copy(), predicted[at].copy(), seen[at].copy(), verdict[at].copy(),
            ordered[at].copy(), trees[at].copy(), size[at].copy(), align[at].copy(),
        )  # fmt: skip

    def around(self, index: int, text: str) -> str:
        """The state at an allocation, in words, for the report of a divergence.

        `text` is that of the whole replay.
        """
        trees = int(self.trees[index])
        align = int(self.align[index])
        where = "" if align > 0 else ", from the top down"
        return (
            f"{self.size[index]} bytes aligned to {abs(align)}{where}, "
            f"{trees} {'tree' if trees == 1 else 'trees'} of free blocks; {text}"
        )


@dataclass(frozen=True)
class ArenaReplay:
    """Result for one capture.

    Attributes
    ----------
    certain, ambiguous, ambiguous_right, wrong, initial
        Number of allocations by verdict: called certain and right, called ambiguous, and right
        all the same, called certain and wrong, told of the state at the start.
    failures
        Failed calls.
    overflows
        First attempts that failed and purged: those traced, and those of them predicted.
    purges
        Purges that flushed a hull.
    blocks
        vm_map_ram().
    ordering
        Calls (allocations and frees) whose order an observed address or hull decided.
    shapes, shapes_dropped
        Shapes of the free tree that were tried (1: the true one, or it does not matter), and
        those that an observed address contradicted: inference, not prediction.
    overlap_shapes
        Trees that were kept because overlapping calls may have had another order.
    orders_left_out
        Orders of overlapping calls that were not followed: there were too many.
    areas_added, areas_removed
        Corrections of the snapshot by what first happens to an area.
    peak_lazy, limit_crossings
        Most bytes waiting for a purge; frees after which they were above lazy_max_pages().
    contradictions
        Areas that were taken or given back against the model's state.
    unusable
        Allocations and frees of which the trace does not tell enough.
    text
        In words: what the state at the start rests on, what is not known.
    caveats
        Why less is certain than the trace would allow.
    nr_lazy, purged
        Counters of the vmalloc tracepoints (from 6.2 on) that the model has too.
    """

    certain: int
    ambiguous: int
    ambiguous_right: int
    wrong: int
    initial: int
    failures: Tally
    overflows: Tally
    purges: Tally
    blocks: BlockTally
    ordering: int
    shapes: int
    shapes_dropped: int
    overlap_shapes: int
    orders_left_out: int
    areas_added: int
    areas_removed: int
    peak_lazy: int
    limit_crossings: int
    contradictions: int
    unusable: int
    text: str
    caveats: tuple[str, ...] = ()
    nr_lazy: LazyCount = field(default_factory=LazyCount)
    purged: LazyCount = field(default_factory=LazyCount)

    @property
    def inferred_initial(self) -> int:
        """Addresses and areas that served to find the state at the start."""
        return self.initial + self.areas_added + self.areas_removed + self.blocks.initial

    def as_json(self) -> dict[str, Any]:
        """Key ``arena`` of the JSON document."""
        return {
            "certain": self.certain + self.wrong,
            "certain_right": self.certain,
            "ambiguous": self.ambiguous,
            "ambiguous_right": self.ambiguous_right,
            "wrong": self.wrong,
            "failures": vars(self.failures),
            "overflow_purges": vars(self.overflows),
            "purges": vars(self.purges),
            "vm_map_ram": {
                "total": self.blocks.total,
                "exact": self.blocks.exact,
                "initial_state": self.blocks.initial,
            },
            "blocks_released": {
                "observed": self.blocks.released, "predicted": self.blocks.released_predicted,
            },
            "alias_ranges": {
                "observed": self.blocks.aliases, "matched": self.blocks.aliases_matched,
            },
            "inferred": {
                "initial_state": self.inferred_initial,
                "ordering": self.ordering,
                "shapes_tried": self.shapes,
                "shapes_dropped": self.shapes_dropped,
                "overlap_shapes": self.overlap_shapes,
                "orders_left_out": self.orders_left_out,
            },
            "peak_lazy": self.peak_lazy,
            "limit_crossings": self.limit_crossings,
            "contradictions": self.contradictions,
            "unusable": self.unusable,
            "lazy": vars(self.nr_lazy),
            "purged": vars(self.purged),
            "state": self.text,
            "caveats": list(self.caveats),
        }  # fmt: skip
