"""The arena at the start of a trace: what is in use, what is free, and in which tree.

/proc/vmallocinfo tells the areas in use and those lazily freed, so the free blocks are known
(mm/vmalloc.c: vmap_init_free_space: the tree covers [1, ULONG_MAX) of the whole address space).
How the free tree is shaped over these blocks only a dump of the kernel's memory tells
(``state.json``); else trees of many shapes are tried side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.records import dataclass, field
from replay.arena.firsts import MAX_AREAS, Firsts, areas_of
from replay.trace.losses import NO_GAPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from collectors.snapshot import Snapshot
    from replay.arena.loops.freetree import Forest, Rule
    from replay.arena.pieces import ArenaPiece
    from replay.machine.generations import Generation
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.trace.losses import Gaps

SPACE: Final = (1, 0xFFFF_FFFF)
"""Addresses that the free tree covers at boot: vmap_init_free_space()."""
TREES: Final = 64
"""Shapes that are tried where the true one is not known."""
OVERLAPS: Final = 16
"""Trees that are kept where the true one is known at the start: overlapping calls may have had
several orders, each with its shape."""
_MARGIN: Final = 1 << 12


@dataclass(frozen=True)
class ArenaState:
    """State before the first event.

    Attributes
    ----------
    busy, lazy : ndarray of int64, shape (n, 2)
        Areas in use; lazily freed ones, oldest first.
    free : ndarray of int64, shape (n, 2)
        Free blocks, ascending.
    shape
        The free tree as preorder (start, end, red, parent row, side) where it is known.
    known
        Whether the areas at the start are known at all.
    excused : ndarray of int64
        Rows of allocations whose address told that an area of the snapshot was not there.
    added, removed
        Areas that later frees showed to be in use at the start though the snapshot has them
        not; areas of the snapshot that allocations showed to be gone.
    tail
        Where the end of the snapshot is missing: end of the last area in use that it lists; else 0.
    text
        In words, for reports.
    align, frees
        Largest alignment that the trace asks for; whether it frees anything.
    doubtful : ndarray of int64, shape (n, 3)
        Free at the start or in use until the trace frees them: start, end, and position of that
        free (:meth:`replay.arena.firsts.Firsts.unlisted`).
    """

    busy: NDArray[np.int64]
    lazy: NDArray[np.int64]
    free: NDArray[np.int64]
    shape: NDArray[np.int64] | None
    known: bool
    excused: NDArray[np.int64]
    added: int
    removed: int
    tail: int
    text: str
    align: int = 1
    frees: bool = False
    doubtful: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), np.int64))


LOST_END: Final = (
    "the end of /proc/vmallocinfo is missing (the last area in use is no percpu chunk at the end "
    "of the arena): areas there, and those lazily freed, are not known"
)
"""What a report says where :func:`lost_end` tells of it."""


def lost_end(values: Snapshot, machine: Machine, layout: Layout) -> int:
    """End of the last area in use that a snapshot lists, where its own end is missing; else 0.

    fs/seq_file.c gives pieces of at most a page and goes on by number, so an area that is freed
    between two pieces hides another one; the lines of lazily freed areas come with the last
    record (mm/vmalloc.c: s_show) and vanish with it. On SMP the last area in use is the first
    percpu chunk, which lies at the end of the arena (pcpu_get_vm_areas).
    """
    used = [a.end for a in values.areas[:MAX_AREAS] if a.kind != "unpurged"]
    smp = "SMP" in machine.config or machine.cpus > 1
    if values.arena_state is not None or not used or not smp:
        return 0
    return 0 if max(used) >= layout.vmalloc_end else max(used)


def initial_state(
    pieces: Iterable[ArenaPiece],
    values: Snapshot,
    lazy_list: str,
    tail: int = 0,
    losses: Gaps = NO_GAPS,
) -> ArenaState:
    """Find the state before the first event.

    Parameters
    ----------
    pieces
        The trace. A snapshot is taken a moment before or after tracing starts; where the first
        thing that happens to an area contradicts the snapshot, the trace is believed.
    values
        Facts: ``arena_state`` (the true trees) or ``areas``.
    lazy_list
        ``Generation.lazy_list``: the order of ``unpurged`` areas in /proc/vmallocinfo, which is
        that of the list.
    tail
        Of :func:`lost_end`.
    losses
        `seq` of the first event after each loss of events.

    Returns
    -------
    ArenaState
    """
    shape: NDArray[np.int64] | None = None
    trees = values.arena_state
    if trees is not None:
        shape = _preorder(trees.get("free"))
        busy, lazy = _ranges(_preorder(trees.get("busy"))), _ranges(_preorder(trees.get("lazy")))
        source = "state.json"
    if shape is None:
        areas = values.areas[:MAX_AREAS]
        busy = areas_of([(a.start, a.end) for a in areas if a.kind != "unpurged"])
        lazy = areas_of([(a.start, a.end) for a in areas if a.kind == "unpurged"])
        source = "/proc/vmallocinfo"
    if lazy_list == "newest-first":
        lazy = lazy[::-1].copy()
    known = shape is not None or bool(busy.size)
    firsts = Firsts(busy, lazy, None if losses.begin is None else 2 * losses.begin)
    for piece in pieces:
        firsts.look(piece.calls)
    keep_busy, keep_lazy, excused = firsts.gone()
    removed = int((~keep_busy).sum() + (~keep_lazy).sum())
    busy, lazy = busy[keep_busy], lazy[keep_lazy]
    more, doubtful = firsts.unlisted(busy)
    busy = np.concatenate([busy, more])
    free = complement(np.concatenate([busy, lazy]))
    if removed or more.size:
        shape = None  # the tree was of another moment
    if not known:
        free = free[:0]
        text = "areas at the start unknown: holes become known as areas are given back"
    elif shape is not None:
        free = _ranges(shape)[np.argsort(shape[:, 0])]
        text = f"areas and tree of {source}"
    else:
        text = f"areas of {source}, shape of the free tree unknown"
    return ArenaState(
        busy, lazy, free, shape, known, excused, len(more), removed, tail, text,
        firsts.align, firsts.frees, doubtful,
    )  # fmt: skip


def _ranges(shape: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.zeros((0, 2), np.int64) if shape is None else shape[:, :2]


def _preorder(tree: Any) -> NDArray[np.int64] | None:
    """Nested [start, end, red, left, right] as rows (start, end, red, parent row, is right).

    None where it is empty, or no search tree: then nothing of it is believed.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    stack = [(tree, -1, 0, 0, 1 << 32)]
    while stack:
        node, parent, side, low, high = stack.pop()
        if node is None:
            continue
        start, end, red, left, right = node
        if not low <= start < end <= high or len(rows) >= MAX_AREAS:
            return None
        rows.append((start, end, int(bool(red)), parent, side))
        stack.append((right, len(rows) - 1, 1, end, high))
        stack.append((left, len(rows) - 1, 0, low, start))
    return np.array(rows, np.int64) if rows else None


def complement(areas: NDArray[np.int64]) -> NDArray[np.int64]:
    """What such areas leave free of the address space, ascending."""
    low, high = SPACE
    free: list[tuple[int, int]] = []
    for start, end in areas[np.argsort(areas[:, 0], kind="stable")].tolist():
        if start > low:
            free.append((low, min(start, high)))
        low = max(low, end)
    if low < high:
        free.append((low, high))
    return areas_of(free)


def rule_of(generation: Generation, layout: Layout) -> Rule:
    """How the kernel of a machine searches its free tree."""
    from replay.arena.loops.freetree import Rule

    return Rule(generation.search, generation.search_moves_vstart, layout.page_size)


def forest_of(state: ArenaState, rule: Rule, *, trees: int = TREES) -> Forest:
    """The free tree, or trees of many shapes over the free blocks.

    Shapes come about by insertions and erasures in the life of the machine before the trace.
    The trees here are grown in plausible and in random orders: the blocks that are there from
    boot on first (below the arena and the large one in it), the holes later; with and without
    holes that have been filled since.

    Parameters
    ----------
    state
        Of :func:`initial_state`.
    rule
        How the kernel searches.
    trees
        How many shapes to try where the true one is not known; 1: the shape does not matter.

    Returns
    -------
    Forest
    """
    from replay.arena.loops import freetree as kernel
    from replay.arena.loops.shapes import plant

    if state.shape is not None:
        count = min(trees, OVERLAPS)
        capacity = count * (2 * len(state.shape) + 8) + _MARGIN
        forest = kernel.new_forest(count, capacity, rule)
        forest.alive[1:] = 0
        _copy_shape(forest, state.shape)
        return forest
    blocks = state.free
    count = trees if len(blocks) > 2 else 1
    capacity = count * (3 * len(blocks) + 8) + _MARGIN
    forest = kernel.new_forest(count, capacity, rule)
    for tree, history in enumerate(histories(blocks, count)):
        plant(forest, tree, *history)
    return forest


def histories(
    blocks: NDArray[np.int64], number: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Plausible lives of a free tree, each of which leaves another shape.

    Parameters
    ----------
    blocks : ndarray of int64, shape (n, 2)
        Free blocks, ascending.
    number
        How many.

    Yields
    ------
    order : ndarray of int64, shape (m, 2)
        Blocks to insert.
    erased : ndarray of int64
        Starts of those that are erased again.
    """
    rng = np.random.default_rng(20)
    by_size = np.argsort(-(blocks[:, 1] - blocks[:, 0]), kind="stable")
    none = np.zeros(0, np.int64)
    for tree in range(number):
        order, erased = _history(tree, blocks, by_size, rng)
        yield order, none if erased is None else erased


def _history(
    tree: int, blocks: NDArray[np.int64], by_size: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Order in which the blocks of one tree are inserted, and what is erased again."""
    n = len(blocks)
    fixed = {0: np.arange(n), 1: np.arange(n)[::-1], 2: by_size, 3: by_size[::-1]}
    if tree in fixed:
        return np.ascontiguousarray(blocks[fixed[tree]]), None
    first = min(n, int(rng.integers(0, 5)))  # the largest blocks are from boot on
    rest = by_size[first:].copy()
    if tree % 3 == 1:
        rest = np.sort(rest)
        cut = int(rng.integers(0, rest.size + 1))
        rest = np.concatenate([rest[cut:], rest[:cut]])
    else:
        rng.shuffle(rest)
    head = np.sort(by_size[:first])
    order = blocks[np.concatenate([head, rest])]
    if tree % 2:
        return np.ascontiguousarray(order), None
    # holes that were there for a while: between the blocks, where areas are in use now
    gaps = blocks[:-1, 1]
    room = np.flatnonzero(blocks[1:, 0] - gaps > 2)
    rng.shuffle(room)
    extra = gaps[room[: int(rng.integers(0, room.size + 1))]] + 1
    holes = np.stack([extra, extra + 1], axis=1)
    order = np.concatenate([order[:first], rng.permutation(np.concatenate([order[first:], holes]))])
    return np.ascontiguousarray(order), rng.permutation(extra)


def _copy_shape(forest: Forest, shape: NDArray[np.int64]) -> None:
    """Make tree 0 the known one."""
    from replay.arena.loops import freetree as kernel

    n = len(shape)
    node = forest.node
    node[:n, kernel.START : kernel.END + 1] = shape[:, :2]
    node[:n, kernel.LEFT : kernel.PARENT] = kernel.NIL
    node[:n, kernel.RED] = shape[:, 2]
    node[:n, kernel.PARENT] = shape[:, 3]
    for row in range(1, n):
        node[shape[row, 3], kernel.RIGHT if shape[row, 4] else kernel.LEFT] = row
    node[:n, kernel.MAX] = shape[:, 1] - shape[:, 0]
    for row in range(n - 1, 0, -1):  # preorder: children come after their parent
        parent = shape[row, 3]
        node[parent, kernel.MAX] = max(node[parent, kernel.MAX], node[row, kernel.MAX])
    forest.root[0] = 0
    forest.reg[kernel.HIGH] = n
