"""Who holds which mapping of kmap(), with which local mappings below and above it.

A task's mappings are a stack here, those of kmap() and of kmap_local_page() in one: that is what
they would be if kmap() were kmap_local_page() (mm/highmem.c: __kmap_local_pfn_prot pushes,
kunmap_local_indexed pops the newest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from replay.compiled import loop, part, piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Kinds of turns
MAP = 0  # kmap(), at its return
UNMAP = 1  # kunmap(), at its entry
GET = 2  # kmap_high_get() that found a mapping of the pool, for kmap_local_page()
LOCAL = 3  # a local mapping that takes a slot, at its return
LOCAL_END = 4
BASE = 5  # a local mapping that was made before any kmap() that is held
SWITCH = 6  # the task loses its CPU
HOOK = 7  # __kmap_local_sched_out(), behind a SWITCH
LOSS = 8  # events were lost: who holds what is not known any more
ENTER = 9  # kmap(), at its entry, where something comes before its return

# Flags of turns
BLOCKED = 1  # a switch to uninterruptible sleep
OPEN = 2  # a kmap() whose return was not traced

NONE = -1
FREE = 0  # position in Open.reg: first free entry
HELD = 1  # entries in use
STRAYS = 2  # kunmap() of a page that nobody is known to hold
LOST = 3  # mappings that were held when events were lost
REGISTERS = 4


class Turns(NamedTuple):
    """What happens to mappings, an array per column.

    Attributes
    ----------
    kind : ndarray of uint8
    flag : ndarray of uint8
    page : ndarray of int32
        Its number (:class:`replay.whatif.pages.PageNumbers`).
    task, cpu : ndarray of int32
    key : ndarray of int32
        Call site; of a switch that of the kmap() that the task is in; -1 none.
    row : ndarray of int64
        Of the event table.
    time : ndarray of int64
    """

    kind: NDArray[np.uint8]
    flag: NDArray[np.uint8]
    page: NDArray[np.int32]
    task: NDArray[np.int32]
    cpu: NDArray[np.int32]
    key: NDArray[np.int32]
    row: NDArray[np.int64]
    time: NDArray[np.int64]


class Open(NamedTuple):
    """Mappings that are held, an entry each.

    Attributes
    ----------
    kind : ndarray of uint8, shape (n,)
        MAP, GET or LOCAL.
    shown : ndarray of bool, shape (n,)
        Of a local mapping: whether its turn was handed on; of another: whether it is converted.
    page, task, cpu, key : ndarray of int32, shape (n,)
    row, time : ndarray of int64, shape (n,)
    epoch : ndarray of int64, shape (n,)
        Number of tasks that were seen on its CPU before.
    switched : ndarray of int32, shape (n,)
        Switches while it was held.
    flag : ndarray of uint8, shape (n,)
        OPEN; BLOCKED: held while its task slept.
    below : ndarray of int32, shape (n,)
        The next older one of its task; of a free entry the next free one.
    older : ndarray of int32, shape (n,)
        The next older one of its page.
    top, maps, inside : ndarray of int32, shape (tasks,)
        Newest mapping of a task; how many it has that are no local ones; key of the kmap() that it
        is in, counted from 1, 0 none.
    newest : ndarray of int32, shape (pages,)
        Newest mapping of a page, of those that are no local ones.
    reg : ndarray of int64, shape (REGISTERS,)
    """

    kind: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    page: NDArray[np.int32]
    task: NDArray[np.int32]
    cpu: NDArray[np.int32]
    key: NDArray[np.int32]
    row: NDArray[np.int64]
    time: NDArray[np.int64]
    epoch: NDArray[np.int64]
    switched: NDArray[np.int32]
    flag: NDArray[np.uint8]
    below: NDArray[np.int32]
    older: NDArray[np.int32]
    top: NDArray[np.int32]
    maps: NDArray[np.int32]
    inside: NDArray[np.int32]
    newest: NDArray[np.int32]
    reg: NDArray[np.int64]


_ENTRY: tuple[str, ...] = (
    "kind", "shown", "page", "task", "cpu", "key", "row", "time", "epoch", "switched", "flag",
    "below", "older",
)  # fmt: skip
_BY_TASK: tuple[str, ...] = ("top", "maps", "inside")
_TYPES = {
    "kind": np.uint8, "flag": np.uint8, "shown": np.bool_,
    "row": np.int64, "time": np.int64, "epoch": np.int64,
}  # fmt: skip


def new_open() -> Open:
    """Nothing is held."""
    columns: dict[str, NDArray[Any]] = {
        name: np.zeros(0, _TYPES.get(name, np.int32)) for name in Open._fields[:-1]
    }
    reg = np.zeros(REGISTERS, np.int64)
    reg[FREE] = NONE
    return Open(**columns, reg=reg)


def with_room(held: Open, more: int, tasks: int, pages: int) -> Open:
    """The same with room for `more` mappings, and for so many tasks and pages in all."""
    have = held.kind.size
    need = max(0, int(held.reg[HELD]) + more - have)
    columns: dict[str, NDArray[Any]] = held._asdict()
    if need:
        need = max(need, have // 2)
        for name in _ENTRY:
            fresh = np.zeros(need, columns[name].dtype)
            columns[name] = np.concatenate([columns[name], fresh])
        # the new entries are free, one behind the other, before those that were free
        columns["below"][have:] = np.arange(have + 1, have + need + 1)
        columns["below"][-1] = held.reg[FREE]
        held.reg[FREE] = have
    for name, size in (*((name, tasks) for name in _BY_TASK), ("newest", pages)):
        column = columns[name]
        if size > column.size:
            grown = np.full(size + size // 2, 0 if name in ("maps", "inside") else NONE, np.int32)
            grown[: column.size] = column
            columns[name] = grown
    return Open(**columns)


@part
def push(held: Open, turns: Turns, i: int, kind: int) -> int:
    """Put the mapping of a turn on its task's stack; return its entry."""
    entry = held.reg[FREE]
    held.reg[FREE] = held.below[entry]
    held.reg[HELD] += 1
    task = turns.task[i]
    held.kind[entry], held.shown[entry] = kind, False
    held.page[entry], held.task[entry], held.cpu[entry] = turns.page[i], task, turns.cpu[i]
    held.key[entry], held.row[entry], held.time[entry] = turns.key[i], turns.row[i], turns.time[i]
    held.epoch[entry], held.switched[entry] = 0, 0
    held.flag[entry] = turns.flag[i] & OPEN
    held.below[entry] = held.top[task]
    held.older[entry] = NONE
    held.top[task] = entry
    if kind != LOCAL:
        held.maps[task] += 1
        held.older[entry] = held.newest[turns.page[i]]
        held.newest[turns.page[i]] = entry
    return int(entry)


@part
def take_off(held: Open, entry: int) -> None:
    """Take a mapping off its task's stack, wherever it lies in it."""
    task = held.task[entry]
    if held.top[task] == entry:
        held.top[task] = held.below[entry]
    else:
        at = held.top[task]
        while held.below[at] != entry:
            at = held.below[at]
        held.below[at] = held.below[entry]
    if held.kind[entry] != LOCAL:
        held.maps[task] -= 1
        page = held.page[entry]
        if held.newest[page] == entry:
            held.newest[page] = held.older[entry]
        else:
            at = held.newest[page]
            while held.older[at] != entry:
                at = held.older[at]
            held.older[at] = held.older[entry]
    held.below[entry] = held.reg[FREE]
    held.reg[FREE] = entry
    held.reg[HELD] -= 1


@part
def find(held: Open, task: int, page: int) -> int:
    """The mapping that a kunmap() ends: its task's newest one of the page, else the oldest one."""
    entry = np.int64(held.newest[page])
    last = entry
    while entry != NONE:
        if held.task[entry] == task:
            return int(entry)
        last = entry
        entry = np.int64(held.older[entry])
    return int(last)


@part
def newest_local(held: Open, task: int) -> int:
    """Newest local mapping of a task."""
    entry = np.int64(held.top[task])
    while entry != NONE and held.kind[entry] != LOCAL:
        entry = np.int64(held.below[entry])
    return int(entry)


@part
def forget_all(held: Open) -> None:
    """Nothing is known to be held any more."""
    held.reg[LOST] += held.reg[HELD]
    held.reg[HELD] = 0
    for entry in range(held.below.shape[0]):
        held.below[entry] = entry + 1
    if held.below.shape[0]:
        held.below[held.below.shape[0] - 1] = NONE
        held.reg[FREE] = 0
    for task in range(held.top.shape[0]):
        held.top[task] = NONE
        held.maps[task] = held.inside[task] = 0
    for page in range(held.newest.shape[0]):
        held.newest[page] = NONE


@part
def note_call(held: Open, turns: Turns, i: int) -> None:
    """Note in which kmap() the task of a turn is."""
    kind, task = turns.kind[i], turns.task[i]
    if kind == ENTER:
        held.inside[task] = turns.key[i] + 1
    elif kind in (MAP, UNMAP, GET):
        is_open = kind == MAP and (turns.flag[i] & OPEN) != 0
        held.inside[task] = turns.key[i] + 1 if is_open else 0


@piece
def _show(out: Turns, n: int, turns: Turns, i: int, kind: int, key: int) -> int:
    """Hand a turn on."""
    out.kind[n], out.flag[n], out.page[n] = kind, turns.flag[i], turns.page[i]
    out.task[n], out.cpu[n], out.key[n] = turns.task[i], turns.cpu[i], key
    out.row[n], out.time[n] = turns.row[i], turns.time[i]
    return n + 1


@part
def _show_base(out: Turns, n: int, held: Open, task: int) -> int:
    """Hand on the local mappings of a task that were not handed on, the oldest first."""
    count = 0
    entry = np.int64(held.top[task])
    while entry != NONE:
        count += held.kind[entry] == LOCAL and not held.shown[entry]
        entry = np.int64(held.below[entry])
    entry, at = np.int64(held.top[task]), n + count
    while entry != NONE:
        if held.kind[entry] == LOCAL and not held.shown[entry]:
            at -= 1
            out.kind[at], out.flag[at], out.page[at] = BASE, 0, held.page[entry]
            out.task[at], out.cpu[at], out.key[at] = task, held.cpu[entry], held.key[entry]
            out.row[at], out.time[at] = held.row[entry], held.time[entry]
            held.shown[entry] = True
        entry = np.int64(held.below[entry])
    return n + count


@loop
def sift(turns: Turns, held: Open, out: Turns) -> int:
    """Hand on what a conversion of kmap() needs: its calls, and what happens while any is held.

    Parameters
    ----------
    turns
        In their order.
    held
        State, changed in place; there is room for all turns.
    out
        Filled; room for twice the turns and all local mappings that are held.

    Returns
    -------
    int
        Turns that are handed on.
    """
    n = 0
    for i in range(turns.kind.shape[0]):
        kind, task, page = np.int64(turns.kind[i]), turns.task[i], turns.page[i]
        if kind == LOSS:
            forget_all(held)
            n = _show(out, n, turns, i, kind, NONE)
            continue
        note_call(held, turns, i)
        if kind in (MAP, GET):
            if held.maps[task] == 0:
                n = _show_base(out, n, held, task)
            push(held, turns, i, kind)
            n = _show(out, n, turns, i, kind, turns.key[i])
        elif kind == UNMAP:
            entry = find(held, task, page)
            if entry == NONE:
                held.reg[STRAYS] += 1
            else:
                take_off(held, entry)
            n = _show(out, n, turns, i, kind, turns.key[i])
        elif kind == LOCAL:
            entry = push(held, turns, i, LOCAL)
            if held.maps[task] > 0:
                held.shown[entry] = True
                n = _show(out, n, turns, i, kind, turns.key[i])
        elif kind == LOCAL_END:
            entry = newest_local(held, task)
            if entry != NONE:
                if held.shown[entry]:
                    n = _show(out, n, turns, i, kind, NONE)
                take_off(held, entry)
        elif kind in (SWITCH, HOOK) and held.maps[task] > 0:
            n = _show(out, n, turns, i, kind, held.inside[task] - 1)
    return n
