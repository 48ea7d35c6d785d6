"""Counting calls by their sites, and the time until a kmap()'s own task calls kunmap()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from collectors.events import IN_INTERRUPT, OP_CODE, OPS, Ctx
from replay.compiled import loop, piece
from replay.times import bin_of
from replay.trace.numbers import add, mixed, place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.trace.numbers import Keys

FREE: Final = -1
NEVER: Final = -(1 << 63)
"""In place of a position or time that is not known."""
NO_TASK: Final = -(1 << 31)
"""In place of a pid that is not known; no pid is as low."""
APIS: Final = ("kmap", "kmap_local", "vmap", "vm_map_ram", "vmalloc")
"""Operations that somebody asks for; the others happen inside them. A key is the number of a site
times their number, and the position in here."""
_NO_API, _KUNMAP = -1, -2
API: Final = np.full(len(OPS) + 1, _NO_API, np.int8)
"""By code of an operation its position in :data:`APIS`; below 0: nobody asks for it."""
API[[OP_CODE[op] for op in APIS]] = np.arange(len(APIS))
API[OP_CODE["kunmap"]] = _KUNMAP
_KMAP, _KMAP_LOCAL = APIS.index("kmap"), APIS.index("kmap_local")
_CTX_UNKNOWN: Final = int(Ctx.UNKNOWN)
NO_NUMBER: Final = -1
"""In place of a page, or of the position of a return."""
NO_CODE: Final = (1 << 32) - 1
"""In place of the number of a text that is not there."""


class Rows(NamedTuple):
    """Columns of a window, each an array over its rows.

    op : uint8
        Code of the operation.
    site : int32
        Number of the site.
    pid : int32
    page : int64
    has_page : bool
    seq, ts, end_seq, end_ts : int64
        Position and time of the entry and of the return; NO_NUMBER, NEVER where none is known.
    page_number : int32
        Number of the page, which is handed on with a holding time.
    asked : float64, told : bool
        Bytes, and whether the call told them; of length 0 where none did.
    ctx : uint8
        As of :class:`collectors.events.Ctx`.
    """

    op: Any
    site: Any
    pid: Any
    page: Any
    has_page: Any
    seq: Any
    ts: Any
    end_seq: Any
    end_ts: Any
    page_number: Any
    asked: Any
    told: Any
    ctx: Any


class Counts(NamedTuple):
    """Figures by key.

    calls, tasks, told, held : int64
        Calls; different tasks that made them; calls that told how many bytes they ask for; calls
        whose holding time is known.
    asked, total : float64
        Bytes in all, time in all.
    longest : int64
    flagged, interrupted : int64
        Calls of which it is known whether an interrupt made them; those that one made.
    misordered, handed : int64
        Local mappings that were not the newest of their task when unmapped; whose address another
        task, or one on another CPU, unmapped, and their own task never.
    """

    calls: Any
    tasks: Any
    told: Any
    held: Any
    asked: Any
    total: Any
    longest: Any
    flagged: Any
    interrupted: Any
    misordered: Any
    handed: Any


class Waiting(NamedTuple):
    """kmap() calls whose kunmap() has not come, each an array over them.

    pid : int32
    page, at, since : int64
    key, page_number : int32
    hold : int64
        Filled when it is gone: how long it was held.
    below : int32
        The next one in the same bucket, FREE at its end; GONE: it waits no more.
    heads : int32, shape (a power of 2,)
        First one in each bucket.
    """

    pid: Any
    page: Any
    at: Any
    since: Any
    key: Any
    page_number: Any
    hold: Any
    below: Any
    heads: Any


GONE: Final = -2


@piece
def bucket_of(pid: int, page: int, heads: Any) -> int:
    """Bucket of a task's mapping of a page."""
    return mixed(page ^ (pid << 40), heads.shape[0] - 1)


@loop
def put_in_buckets(waiting: Waiting, until: int) -> None:
    """Put the first `until` calls into the buckets, which are empty."""
    for n in range(until):
        if waiting.pid[n] != NO_TASK:
            bucket = bucket_of(np.int64(waiting.pid[n]), waiting.page[n], waiting.heads)
            waiting.below[n] = waiting.heads[bucket]
            waiting.heads[bucket] = n


@loop
def look_up(code: NDArray[np.uint32], known: NDArray[np.int32], number: NDArray[np.int32]) -> bool:
    """Turn numbers of texts into numbers of sites.

    Parameters
    ----------
    code : ndarray of uint32, shape (n,)
        NO_CODE: there is no text.
    known : ndarray of int32
        Number of the site by code, -1 not known.
    number : ndarray of int32, shape (n,)
        Filled; 0 where there is no text, -1 where the site is not known.

    Returns
    -------
    bool
        Whether all are known.
    """
    complete = True
    for i in range(code.shape[0]):
        of = np.int64(code[i])
        number[i] = -1
        if of == NO_CODE:
            number[i] = 0
        elif of < known.shape[0]:
            number[i] = known[of]
        complete = complete and number[i] >= 0
    return complete


@loop
def count_calls(
    rows: Rows,
    counts: Counts,
    waiting: Waiting,
    until: int,
    members: Keys,
    fresh: NDArray[np.uint64],
    keys: NDArray[np.int32],
    member: NDArray[np.int32],
) -> int:
    """Count a window.

    Parameters
    ----------
    rows
        The window.
    counts
        Changed.
    waiting, until
        The calls that wait, and how many; there is room for all of the window.
    members, fresh
        Numbers of the keys with their tasks, to which new ones are added, and those by number.
    keys, member
        Filled with the key of each local mapping, -1 for other rows, and with the number of each
        row's key with its task, -1 where nobody asked.

    Returns
    -------
    int
        Calls in `waiting`, those among them that are gone.
    """
    measured = rows.told.shape[0] > 0
    for i in range(rows.op.shape[0]):
        api = np.int64(API[rows.op[i]])
        keys[i] = member[i] = -1
        if api < 0:
            if api == _KUNMAP and rows.has_page[i] and rows.pid[i] != NO_TASK:
                end_holds(rows, i, waiting)
            continue
        key = np.int64(rows.site[i]) * len(APIS) + api
        if api == _KMAP_LOCAL:
            keys[i] = key
        counts.calls[key] += 1
        if not rows.ctx[i] & _CTX_UNKNOWN:
            counts.flagged[key] += 1
            counts.interrupted[key] += (rows.ctx[i] & IN_INTERRUPT) != 0
        if measured and rows.told[i]:
            counts.told[key] += 1
            counts.asked[key] += rows.asked[i]
        of_task = np.uint64((key << 32) | (np.int64(rows.pid[i]) & 0xFFFF_FFFF))
        at = place(members, of_task)
        if members.number[at] < 0:
            add(members, at, of_task, fresh)
            counts.tasks[key] += 1
        member[i] = members.number[at]
        if api == _KMAP and rows.has_page[i]:
            waiting.pid[until] = rows.pid[i]
            waiting.page[until] = rows.page[i]
            waiting.at[until] = max(rows.seq[i], rows.end_seq[i])
            waiting.since[until] = rows.ts[i] if rows.end_ts[i] == NEVER else rows.end_ts[i]
            waiting.key[until], waiting.page_number[until] = key, rows.page_number[i]
            waiting.below[until] = FREE
            if rows.pid[i] != NO_TASK:
                bucket = bucket_of(np.int64(rows.pid[i]), rows.page[i], waiting.heads)
                waiting.below[until] = waiting.heads[bucket]
                waiting.heads[bucket] = until
            until += 1
    return until


@piece
def end_holds(rows: Rows, i: int, waiting: Waiting) -> None:
    """Take the calls that a kunmap() ends: those of its page by its task that have returned."""
    pid, page = np.int64(rows.pid[i]), rows.page[i]
    bucket = bucket_of(pid, page, waiting.heads)
    before = np.int64(FREE)
    n = np.int64(waiting.heads[bucket])
    while n != FREE:
        below = np.int64(waiting.below[n])
        is_its = waiting.pid[n] == pid and waiting.page[n] == page
        if is_its and waiting.at[n] <= rows.seq[i]:
            waiting.hold[n] = rows.ts[i] - waiting.since[n]
            waiting.below[n] = GONE
            if before == FREE:
                waiting.heads[bucket] = below
            else:
                waiting.below[before] = below
        else:
            before = n
        n = below


@loop
def count_holds(counts: Counts, key: NDArray[np.int32], hold: NDArray[np.int64]) -> None:
    """Count holding times of keys; those of no key are left out."""
    for i in range(key.shape[0]):
        k = np.int64(key[i])
        if k < 0:
            continue
        if counts.held[k] == 0 or hold[i] > counts.longest[k]:
            counts.longest[k] = hold[i]
        counts.held[k] += 1
        counts.total[k] += np.float64(hold[i])


@loop
def count_times(times: NDArray[np.int64], key: NDArray[np.int32], hold: NDArray[np.int64]) -> None:
    """Count holding times by their length; those of no key are left out.

    Parameters
    ----------
    times : ndarray of int64, shape (BINS,)
        Changed: how many lie in each bin of :mod:`replay.times`.
    key : ndarray of int32
    hold : ndarray of int64
        In ns.
    """
    for i in range(key.shape[0]):
        if key[i] >= 0:
            times[bin_of(hold[i])] += 1
