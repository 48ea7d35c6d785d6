"""kmap() calls as kmap_local_page(): what lies on what, and what does not keep to the rules.

mm/highmem.c: __kmap_local_pfn_prot, kunmap_local_indexed, kmap_local_idx_push;
kernel/sched/core.c: kmap_local_sched_out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part, piece
from replay.whatif.loops.holding import (
    BASE,
    BLOCKED,
    GET,
    HOOK,
    LOCAL,
    LOCAL_END,
    LOSS,
    MAP,
    NONE,
    OPEN,
    STRAYS,
    SWITCH,
    UNMAP,
    Open,
    Turns,
    find,
    forget_all,
    newest_local,
    note_call,
    push,
    take_off,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What may be wrong with a mapping that is converted, columns of ConversionCounts.number
CALLS = 0
ENDED = 1
HANDED = 2  # unmapped by another task
MISORDERED = 3  # not the newest one when it, or an older local mapping, was unmapped
SWITCHED = 4  # held while its task lost its CPU
SWITCHES = 5  # how often, in all
SLEPT = 6  # of those in SWITCHED: to uninterruptible sleep
MOVED = 7  # unmapped on another CPU
AWAY = 8  # another task was seen on its CPU meanwhile, or it was unmapped on another one
AT_END = 9  # held at the end
NEVER_SERVED = 10  # of those at the end: the kmap() did not return
FIGURES = 11
LEVELS = 64
"""Depths that are told apart, and mappings below another that are named."""

OWN = 0  # element of ConversionCounts: a mapping that was kmap()'s
ABOVE = 1  # a local mapping on top of such
AT_SWITCH = 2


class ConversionCounts(NamedTuple):
    """What a conversion comes to; filled.

    Attributes
    ----------
    number : ndarray of int64, shape (keys + 1, FIGURES)
        By call site; the last are kmap_local() calls that had found a mapping of the pool.
    since, who : ndarray of int64, shape (keys + 1, FIGURES)
        Time and task of the first of each kind; NONE: there is none.
    depths : ndarray of int64, shape (keys + 1, LEVELS)
        Mappings by depth, the deepest ones in the last.
    deepest : ndarray of int64, shape (keys + 1, 3)
        The greatest depth of any mapping while one of the site is held (NONE: there is none), and
        time and task of the first of it.
    converted, local : ndarray of int64, shape (tasks,)
        Mappings that a task holds.
    on, epoch : ndarray of int64, shape (CPUs,)
        Task that was seen last on a CPU, and how often that was another one.
    reg : ndarray of int64, shape (4,)
        Switches that go away because their task slept for a slot; elements; mappings that are
        named with them; mappings that were held when events were lost.
    kind, page, row, depth, cpu, stop : ndarray
        Elements: OWN with its depth; ABOVE and AT_SWITCH with how many there are below.
    below, below_key : ndarray of int32
        Pages of the mappings below each, one element's behind the other's, at most LEVELS of each;
        call sites of those that were local ones, NONE of others.
    gone : ndarray of bool, shape (turns,)
        Calls of the pool that are none any more.
    """

    number: NDArray[np.int64]
    since: NDArray[np.int64]
    who: NDArray[np.int64]
    depths: NDArray[np.int64]
    deepest: NDArray[np.int64]
    converted: NDArray[np.int64]
    local: NDArray[np.int64]
    on: NDArray[np.int64]
    epoch: NDArray[np.int64]
    reg: NDArray[np.int64]
    kind: NDArray[np.uint8]
    page: NDArray[np.int32]
    row: NDArray[np.int64]
    depth: NDArray[np.int32]
    cpu: NDArray[np.int32]
    stop: NDArray[np.int64]
    below: NDArray[np.int32]
    below_key: NDArray[np.int32]
    gone: NDArray[np.bool_]


VANISHED, ELEMENTS, NAMED_BELOW, DROPPED = 0, 1, 2, 3
"""Positions in ConversionCounts.reg."""


@part
def _add(found: ConversionCounts, key: int, what: int, time: int, task: int) -> None:
    found.number[key, what] += 1
    if found.number[key, what] == 1 or time < found.since[key, what]:
        found.since[key, what], found.who[key, what] = time, task


@piece
def _element(
    found: ConversionCounts, held: Open, turns: Turns, i: int, kind: int, depth: int, entry: int
) -> None:
    """Note an element that lies on top of the mappings from `entry` down."""
    e, named = found.reg[ELEMENTS], found.reg[NAMED_BELOW]
    most, at = named + LEVELS, np.int64(entry)
    while at != NONE and named < most:
        if (held.kind[at] == LOCAL and kind == OWN) or held.shown[at]:
            found.below[named] = held.page[at]
            found.below_key[named] = held.key[at] if held.kind[at] == LOCAL else NONE
            named += 1
        at = np.int64(held.below[at])
    found.kind[e], found.page[e], found.row[e] = kind, turns.page[i], turns.row[i]
    found.depth[e] = depth
    found.cpu[e], found.stop[e] = turns.cpu[i], named
    found.reg[ELEMENTS], found.reg[NAMED_BELOW] = e + 1, named


@part
def _convert_map(held: Open, found: ConversionCounts, turns: Turns, i: int, key: int) -> None:
    """A kmap() that is a kmap_local_page() now."""
    task = turns.task[i]
    depth = found.converted[task] + found.local[task]
    _element(found, held, turns, i, OWN, depth, held.top[task])
    entry = push(held, turns, i, turns.kind[i])
    held.shown[entry], held.key[entry] = True, key
    held.epoch[entry] = found.epoch[turns.cpu[i]]
    found.converted[task] += 1
    found.gone[i] = True
    _add(found, key, CALLS, turns.time[i], task)
    found.depths[key, min(depth, LEVELS - 1)] += 1
    if depth > found.deepest[key, 0]:
        found.deepest[key, 0] = depth
        found.deepest[key, 1], found.deepest[key, 2] = turns.time[i], task


@part
def _note_depth(found: ConversionCounts, held: Open, turns: Turns, i: int, depth: int) -> None:
    """Note how deep a local mapping lies at the sites that it lies on."""
    entry = np.int64(held.top[turns.task[i]])
    while entry != NONE:
        if held.shown[entry] and depth > found.deepest[held.key[entry], 0]:
            key = held.key[entry]
            found.deepest[key, 0] = depth
            found.deepest[key, 1], found.deepest[key, 2] = turns.time[i], turns.task[i]
        entry = np.int64(held.below[entry])


@part
def _is_newest(held: Open, entry: int) -> bool:
    """Whether nothing that would be a local mapping lies above this one."""
    at = np.int64(held.top[held.task[entry]])
    while at != entry:
        if held.kind[at] == LOCAL or held.shown[at]:
            return False
        at = np.int64(held.below[at])
    return True


@part
def _settle(held: Open, found: ConversionCounts, entry: int) -> None:
    """Count what befell a mapping while it was held."""
    key, time, task = held.key[entry], held.time[entry], held.task[entry]
    if held.switched[entry] > 0:
        _add(found, key, SWITCHED, time, task)
        found.number[key, SWITCHES] += held.switched[entry]
    if held.flag[entry] & BLOCKED:
        _add(found, key, SLEPT, time, task)


@part
def _convert_unmap(held: Open, found: ConversionCounts, turns: Turns, i: int, entry: int) -> None:
    """The kunmap() of a mapping that is converted."""
    key, time, task = held.key[entry], held.time[entry], held.task[entry]
    found.gone[i] = True
    found.number[key, ENDED] += 1
    is_own = task == turns.task[i]
    if not is_own:
        _add(found, key, HANDED, time, task)
    elif not _is_newest(held, entry):
        _add(found, key, MISORDERED, time, task)
    is_moved = is_own and held.cpu[entry] != turns.cpu[i]
    if is_moved:
        _add(found, key, MOVED, time, task)
    if is_moved or (is_own and held.epoch[entry] != found.epoch[held.cpu[entry]]):
        _add(found, key, AWAY, time, task)
    _settle(held, found, entry)
    found.converted[task] -= 1


@part
def _note_switch(held: Open, turns: Turns, i: int) -> None:
    """A task that holds mappings loses its CPU: kmap_local_sched_out() takes them down."""
    entry = np.int64(held.top[turns.task[i]])
    while entry != NONE:
        if held.shown[entry]:
            held.switched[entry] += 1
            held.flag[entry] |= turns.flag[i] & BLOCKED
        entry = np.int64(held.below[entry])


@part
def _switch(
    held: Open,
    found: ConversionCounts,
    chosen: NDArray[np.bool_],
    turns: Turns,
    i: int,
    has_switches: bool,  # noqa: FBT001
    has_hook: bool,  # noqa: FBT001
) -> None:
    """A switch, or the scheduler's hook behind it, which runs where local mappings are held."""
    task, is_hook = turns.task[i], turns.kind[i] == HOOK
    if found.converted[task] == 0:
        return
    inside = np.int64(turns.key[i])
    if not is_hook or not has_switches:
        if inside >= 0 and chosen[inside] and (turns.flag[i] & BLOCKED) != 0:
            found.reg[VANISHED] += 1  # it sleeps for a slot, and there is no need
            return
        _note_switch(held, turns, i)
    by_hook = has_hook and found.local[task] > 0
    if by_hook == is_hook or not has_switches:
        _element(found, held, turns, i, AT_SWITCH, found.converted[task], held.top[task])


@part
def _see(found: ConversionCounts, turns: Turns, i: int) -> None:
    """Note which task a CPU runs."""
    cpu, task = turns.cpu[i], turns.task[i]
    if found.on[cpu] != task:
        found.on[cpu] = task
        found.epoch[cpu] += 1


@part
def _drop_all(held: Open, found: ConversionCounts) -> None:
    """Events were lost."""
    for task in range(found.converted.shape[0]):
        found.reg[DROPPED] += found.converted[task]
        found.converted[task] = found.local[task] = 0
    forget_all(held)


@part
def _local_end(held: Open, found: ConversionCounts, task: int) -> None:
    """kunmap_local() of a task's newest local mapping, on top of which others may lie."""
    entry = newest_local(held, task)
    if entry == NONE:
        return
    above = np.int64(held.top[task])
    while above != entry and not held.shown[above]:
        above = np.int64(held.below[above])
    if above != entry:
        _add(found, held.key[above], MISORDERED, held.time[above], task)
    take_off(held, entry)
    found.local[task] -= 1


@loop
def convert(
    turns: Turns,
    held: Open,
    chosen: NDArray[np.bool_],
    found: ConversionCounts,
    has_switches: bool,  # noqa: FBT001
    has_hook: bool,  # noqa: FBT001
    takes_strays: bool,  # noqa: FBT001
) -> None:
    """Follow turns as if the kmap() calls of some sites were kmap_local_page().

    Parameters
    ----------
    turns
        As :func:`sift` hands them on.
    held
        State, changed in place; there is room for all turns.
    chosen : ndarray of bool, shape (keys,)
        Call sites that are converted.
    found
        Filled; room for an element per turn.
    has_switches, has_hook
        Whether the trace shows switches, and the scheduler's hook.
    takes_strays
        Whether mappings from before the trace are converted, too.
    """
    others = chosen.shape[0]  # key of what kmap_high_get() found
    for i in range(turns.kind.shape[0]):
        kind, task, page = np.int64(turns.kind[i]), turns.task[i], turns.page[i]
        if kind == LOSS:
            _drop_all(held, found)
            continue
        _see(found, turns, i)
        note_call(held, turns, i)
        if kind in (MAP, GET):
            key = np.int64(turns.key[i]) if kind == MAP else others
            if (kind == MAP and key >= 0 and chosen[key]) or (
                kind == GET and not _is_kept(held, page)
            ):
                _convert_map(held, found, turns, i, key)
            else:
                push(held, turns, i, kind)
        elif kind == UNMAP:
            entry = find(held, task, page)
            if entry == NONE:
                held.reg[STRAYS] += 1
                found.gone[i] = takes_strays
                continue
            if held.shown[entry]:
                _convert_unmap(held, found, turns, i, entry)
            take_off(held, entry)
        elif kind in (LOCAL, BASE):
            if kind == LOCAL and found.converted[task] > 0:
                count = found.converted[task]
                _element(found, held, turns, i, ABOVE, count, held.top[task])
                _note_depth(found, held, turns, i, count + found.local[task])
            push(held, turns, i, LOCAL)
            found.local[task] += 1
        elif kind == LOCAL_END:
            _local_end(held, found, task)
        elif kind in (SWITCH, HOOK):
            _switch(held, found, chosen, turns, i, has_switches, has_hook)


@part
def _is_kept(held: Open, page: int) -> bool:
    """Whether a kmap() of a page that is not converted is open."""
    entry = np.int64(held.newest[page])
    while entry != NONE:
        if held.kind[entry] == MAP and not held.shown[entry]:
            return True
        entry = np.int64(held.older[entry])
    return False


@loop
def count_open(held: Open, found: ConversionCounts) -> None:
    """Count the converted mappings that are held at the end."""
    for task in range(held.top.shape[0]):
        entry = np.int64(held.top[task])
        while entry != NONE:
            if held.shown[entry] and held.kind[entry] != LOCAL:
                key = held.key[entry]
                _add(found, key, AT_END, held.time[entry], task)
                is_served = held.inside[task] == 0 or (held.flag[entry] & OPEN) == 0
                if not is_served:
                    _add(found, key, NEVER_SERVED, held.time[entry], task)
                _settle(held, found, entry)
            entry = np.int64(held.below[entry])
