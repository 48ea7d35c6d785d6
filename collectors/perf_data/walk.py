"""Compiled loops over the records of a perf.data. Import only from functions that decode.

Records: include/uapi/linux/perf_event.h (``enum perf_event_type``), kernel/events/core.c
(``perf_output_sample``). Every size is checked against the bytes that are left before it is
used, and every step moves forward, so that no input makes a loop endless or reads outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from collectors.compiled import loop, part, piece
from collectors.perf_data import attrs as table
from collectors.perf_data.layout import MISC_LOST_BPF, Read, RecordType
from collectors.raw import UNKNOWN_CPU
from collectors.traceevent.loads import extend, load, u16, u32, u64
from collectors.traceevent.pairs import (
    PAIR_COUNT,
    PAIR_IP,
    PAIR_NEED,
    PAIR_PLAN,
    UNRESOLVED,
    find_pair,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

DONE = 0
NEW_PAIR = 1  # an (event, probed address) pair of which it is not known what it means
FULL = 2
SPECIAL = 3  # a record that changes how others are read
BAD_RECORD = 4
SHORT_SAMPLE = 5
SHORT_RAW = 6
NO_FORMATS = 7

# Cells of `state`.
POSITION = 0
END = 1
ROWS = 2  # samples and losses listed
SIDES = 3  # other records listed
USED = 4  # slots in use
EVENT = 5  # of the new pair
IP = 6
SLOT = 7
ID_AT = 8  # offset of the id in a sample; -1 none
ID_FROM_END = 9  # and from the end of other records; 0 none
FALLBACK = 10  # attribute of samples whose id is unknown; -1: they are skipped
TYPE_AT = 11  # offset of common_type; -1: there are no descriptions
IP_SIZE = 12
UNKNOWN_IDS = 13
SAMPLES = 14
FIRST_TS = 15
LAST_TS = 16
UNTIMED = 17
NO_CPU = 18
PAUSE = 19  # come back behind the record that reaches this place
MAX_TS = 20  # highest stamp so far, of anything
ROUND = 21  # highest stamp at the last FINISHED_ROUND
SAFE = 22  # nothing older than this will come
GIVEN = 23  # stamp of the last sample that was passed on
LATE = 24  # samples that came too late for that
PREVIOUS = 25  # stamp of the last sample listed
STATE_CELLS = 26

NOT_RAW = 1 << 16
"""Events that are no tracepoints are numbered from here on, by their attribute."""

_A_TID, _A_TIME, _A_CPU, _A_REST = table.A_TID, table.A_TIME, table.A_CPU, table.A_REST
_A_READ, _A_CHAIN, _A_RAW = table.A_READ, table.A_CHAIN, table.A_RAW
_A_TRACEPOINT, _A_TAIL_TIME = table.A_TRACEPOINT, table.A_TAIL_TIME
_A_TAIL_CPU, _A_TAIL = table.A_TAIL_CPU, table.A_TAIL

_SAMPLE, _LOST, _COMM = int(RecordType.SAMPLE), int(RecordType.LOST), int(RecordType.COMM)
_FINISHED_ROUND = int(RecordType.FINISHED_ROUND)
_FORK, _LOST_SAMPLES = int(RecordType.FORK), int(RecordType.LOST_SAMPLES)
_HEADER_ATTR, _TRACING_DATA = int(RecordType.HEADER_ATTR), int(RecordType.TRACING_DATA)
_FEATURE, _AUXTRACE = int(RecordType.HEADER_FEATURE), int(RecordType.AUXTRACE)
_COMPRESSED, _COMPRESSED2 = int(RecordType.COMPRESSED), int(RecordType.COMPRESSED2)
_R_ENABLED, _R_RUNNING = int(Read.TIME_ENABLED), int(Read.TIME_RUNNING)
_R_ID, _R_GROUP, _R_LOST = int(Read.ID), int(Read.GROUP), int(Read.LOST)
_BPF = MISC_LOST_BPF
# Typed, so that all ways out of a step give numbers of one type.
_DONE, _NEW_PAIR, _FULL = np.int64(DONE), np.int64(NEW_PAIR), np.int64(FULL)
_SPECIAL, _BAD_RECORD = np.int64(SPECIAL), np.int64(BAD_RECORD)
_SHORT_SAMPLE, _SHORT_RAW = np.int64(SHORT_SAMPLE), np.int64(SHORT_RAW)
_NO_FORMATS = np.int64(NO_FORMATS)


@piece
def _pair(base: Any, at: Any, big: Any) -> Any:
    """Load two numbers of 4 bytes, which must be there."""
    return u32(base, at, big), u32(base, at + 4, big)


@part
def _attr_of(key: Any, keys: NDArray[np.int64], attrs: NDArray[np.int32]) -> Any:
    """Attribute of an id, -1: none (tables: :func:`collectors.perf_data.attrs.id_table`)."""
    if len(attrs) != len(keys):
        at = key - keys[0]
        if key < keys[0] or at >= len(attrs):
            return -1
        return np.int64(attrs[at])
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < len(keys) and keys[low] == key:
        return np.int64(attrs[low])
    return -1


@part
def _chain_and_raw_at(
    base: Any,
    at: Any,
    end: Any,
    attr: NDArray[np.int64],
    big: bool,  # noqa: FBT001
) -> Any:
    """Places of a sample's call chain (0: none) and raw data, behind READ.

    The second is -1 where the sample is too short for what it says.

    Parameters
    ----------
    base, big
        Address of the bytes, and their endianness.
    at, end : int
        First byte after the fixed fields; end of the record.
    attr : ndarray of int64
        Row of the table of attributes.
    """
    form = attr[_A_READ]
    if form >= 0:
        times = (1 if form & _R_ENABLED else 0) + (1 if form & _R_RUNNING else 0)
        each = 1 + (1 if form & _R_ID else 0) + (1 if form & _R_LOST else 0)
        if form & _R_GROUP:
            if end - at < 8:
                return 0, -1
            number = u64(base, at, big)
            if number < 0 or number > (end - at) >> 3:
                return 0, -1
            at += 8 * (1 + times + number * each)
        else:
            at += 8 * (times + each)
        if at > end:
            return 0, -1
    chain = 0
    if attr[_A_CHAIN]:
        if end - at < 8:
            return 0, -1
        chain = at
        number = u64(base, at, big)
        if number < 0 or number > (end - at) >> 3:
            return 0, -1
        at += 8 + 8 * number
    if end - at < 4:
        return 0, -1
    return chain, at


class SampleScan(NamedTuple):
    """All that the walk over the records of a perf.data works on.

    Attributes
    ----------
    base : int
        Address of the file, or of its expanded records.
    big, raw_big : bool
        Endianness of the records and of the samples' raw data.
    state : ndarray of int64, shape (STATE_CELLS,)
        Where the walk is, what it found, and what it asks for.
    types : ndarray of int64, shape (256,)
        Records of each type, added to.
    attrs : ndarray of int64, shape (attributes, A_COLUMNS)
        Where the samples of each attribute have their fields.
    chained : bool
        Whether any attribute has call chains.
    id_keys, id_attrs
        Attribute by id (:func:`collectors.perf_data.attrs.id_table`).
    ip_at : ndarray of int64, shape (65536,)
        Offset of the address that tells an event's probes apart, -1 none.
    pairs : ndarray of int64
        Table of (event, address) pairs (:func:`collectors.traceevent.pairs.find_pair`).
    last_slot : ndarray of int32, shape (NOT_RAW + attributes,)
        Pair that was found last, by event; -1 none.
    ts, at, plan, tid, cpu
        Filled per wanted sample: stamp (place in the file where it has none), place of the raw data
        (of a LOST record with plan 0: the number lost), plan, task, CPU.
    chain : ndarray of int64
        Filled where an attribute has call chains: place of the call chain, its length, then
        addresses, all within the record; 0 none.
    sides : ndarray of int64, shape (n, 4)
        COMM, FORK and LOST_SAMPLES records: type, place, stamp, CPU.
    """

    base: Any
    big: Any
    raw_big: Any
    state: Any
    types: Any
    attrs: Any
    chained: Any
    id_keys: Any
    id_attrs: Any
    ip_at: Any
    pairs: Any
    last_slot: Any
    ts: Any
    at: Any
    plan: Any
    tid: Any
    cpu: Any
    chain: Any
    sides: Any


@piece
def _attr_of_sample(s: SampleScan, at: int, size: int) -> Any:
    """Attribute of the sample at `at`.

    Returns
    -------
    status, attr : int
        DONE or SHORT_SAMPLE; -1: nobody knows.
    """
    attr: Any = np.int64(0)
    id_at = s.state[ID_AT]
    if id_at >= 0:
        if id_at + 8 > size:
            return _SHORT_SAMPLE, attr
        key = u64(s.base, at + id_at, s.big)
        if key != 0:
            if len(s.id_attrs) > len(s.id_keys):  # as _attr_of
                key -= s.id_keys[0]
                attr = np.int64(-1)
                if 0 <= key < len(s.id_attrs):
                    attr = np.int64(s.id_attrs[key])
            else:
                attr = np.int64(_attr_of(key, s.id_keys, s.id_attrs))
        if attr < 0:
            attr = s.state[FALLBACK]
    if len(s.attrs) == 0:
        return _DONE, np.int64(-1)
    if attr >= 0 and s.attrs[attr, _A_REST] > size:
        return _SHORT_SAMPLE, attr
    return _DONE, attr


@piece
def _raw_of_sample(s: SampleScan, attr: int, at: int, stop: int) -> Any:
    """Raw data of a sample: which event and probed address it is of.

    Returns
    -------
    status, event, ip : int
        DONE, or why the walk has to come back; NOT_RAW and more: no tracepoint.
    raw, length, chain : int
        Place and bytes of the raw data, place of the call chain; 0 none.
    """
    event: Any = NOT_RAW + attr
    raw: Any = np.int64(0)
    ip: Any = np.int64(0)
    length: Any = np.int64(0)
    chain: Any = np.int64(0)
    if not s.attrs[attr, _A_TRACEPOINT] or not s.attrs[attr, _A_RAW]:
        return _DONE, event, ip, raw, length, chain
    raw = at + s.attrs[attr, _A_REST]
    if s.attrs[attr, _A_READ] >= 0 or s.attrs[attr, _A_CHAIN]:
        chain, raw = _chain_and_raw_at(s.base, raw, stop, s.attrs[attr], s.big)
    if raw < 0 or stop - raw < 8:
        return _SHORT_SAMPLE, event, ip, raw, length, chain
    length = _pair(s.base, raw, s.big)[0]
    raw += 4
    if length > stop - raw:
        return _SHORT_SAMPLE, event, ip, raw, length, chain
    if s.state[TYPE_AT] < 0:
        return _NO_FORMATS, event, ip, raw, length, chain
    if length < s.state[TYPE_AT] + 2:
        return _SHORT_RAW, event, ip, raw, length, chain
    event = u16(s.base, raw + s.state[TYPE_AT], s.raw_big)
    if s.ip_at[event] >= 0:
        if length < s.ip_at[event] + s.state[IP_SIZE]:
            return _SHORT_RAW, event, ip, raw, length, chain
        ip = load(s.base, raw + s.ip_at[event], s.state[IP_SIZE], s.raw_big)
    return _DONE, event, ip, raw, length, chain


@piece
def _pair_of_sample(s: SampleScan, event: int, ip: int, length: int, used: int) -> Any:
    """Row of an (event, probed address) pair.

    Returns
    -------
    status, slot, used : int
        DONE, or why the walk has to come back; row; rows in use.
    """
    slot: Any = np.int64(s.last_slot[event])
    if slot < 0 or s.pairs[slot, PAIR_IP] != ip:
        slot, used = find_pair(s.pairs, used, event, ip)
        s.last_slot[event] = slot
    if s.pairs[slot, PAIR_PLAN] == UNRESOLVED:
        s.state[EVENT], s.state[IP], s.state[SLOT] = event, s.pairs[slot, PAIR_IP], slot
        return _NEW_PAIR, slot, used
    if length < s.pairs[slot, PAIR_NEED]:
        return _SHORT_RAW, slot, used
    return _DONE, slot, used


@piece
def _list_sample(
    s: SampleScan, row: int, attr: int, at: int, ts: int, raw: int, chain: int, plan: int
) -> bool:
    """List a wanted sample; False: its CPU is none."""
    s.ts[row] = ts
    s.at[row] = raw
    if s.chained:
        s.chain[row] = chain
    s.plan[row] = plan
    s.tid[row] = -1
    if s.attrs[attr, _A_TID] >= 0:
        s.tid[row] = extend(_pair(s.base, at + s.attrs[attr, _A_TID], s.big)[1], 4)
    cpu = np.int64(0)
    if s.attrs[attr, _A_CPU] >= 0:
        cpu = _pair(s.base, at + s.attrs[attr, _A_CPU], s.big)[0]
        if cpu >= UNKNOWN_CPU:
            return False
    else:
        s.state[NO_CPU] += 1
    s.cpu[row] = cpu
    s.state[LATE] += ts < s.state[GIVEN]
    s.state[PREVIOUS] = ts
    return True


@piece
def _tail(s: SampleScan, stop: int, size: int) -> Any:
    """Stamp and CPU at the end of a record that is no sample; 0 and UNKNOWN_CPU: not there."""
    attr: Any = np.int64(0)
    from_end = s.state[ID_FROM_END]
    if 0 < from_end <= size - 8:
        key = u64(s.base, stop - from_end, s.big)
        if key != 0:
            attr = np.int64(_attr_of(key, s.id_keys, s.id_attrs))
    ts: Any = np.int64(0)
    cpu: Any = np.int64(UNKNOWN_CPU)
    if 0 <= attr < len(s.attrs) and 0 < s.attrs[attr, _A_TAIL] <= size - 8:
        if s.attrs[attr, _A_TAIL_TIME] > 0:
            ts = u64(s.base, stop - s.attrs[attr, _A_TAIL_TIME], s.big)
        if s.attrs[attr, _A_TAIL_CPU] > 0:
            cpu = min(u32(s.base, stop - s.attrs[attr, _A_TAIL_CPU], s.big), cpu)
    return ts, cpu


@piece
def _list_loss(s: SampleScan, row: int, at: int, ts: int, cpu: int) -> Any:
    """List a LOST record; return its stamp, that of the sample before where it has none."""
    if ts == 0:  # an old kernel
        ts = s.state[PREVIOUS]
    s.state[LATE] += ts < s.state[GIVEN]
    s.state[PREVIOUS] = ts
    s.ts[row] = ts
    s.at[row] = u64(s.base, at + 16, s.big)
    if s.chained:
        s.chain[row] = 0
    s.plan[row] = 0
    s.tid[row] = -1
    s.cpu[row] = cpu
    return ts


@loop
def walk(s: SampleScan) -> Any:
    """Walk over records until the end, or until something has to be answered.

    Returns
    -------
    int
        DONE, or why it came back; the state's POSITION is at the record.
    """
    state, base, big = s.state, s.base, s.big
    at, end = state[POSITION], state[END]
    pause = min(state[PAUSE], end)
    rows, used, samples = state[ROWS], state[USED], state[SAMPLES]
    first: Any = state[FIRST_TS]
    last: Any = state[LAST_TS]
    capacity = len(s.ts)
    status = _DONE
    while at < pause:
        if end - at < 8:
            status = _BAD_RECORD
            break
        head = u64(base, at, big)
        kind = (head >> 32 if big else head) & 0xFFFF_FFFF
        size = (head if big else head >> 48) & 0xFFFF
        if size < 8 or size > end - at:
            status = _BAD_RECORD
            break
        stop = at + size
        if kind == _SAMPLE:
            status, attr = _attr_of_sample(s, at, size)
            if status != _DONE:
                break
            if attr < 0:
                state[UNKNOWN_IDS] += 1
                s.types[kind] += 1
                at = stop
                continue
            status, event, ip, raw, length, chain = _raw_of_sample(s, attr, at, stop)
            if status != _DONE:
                break
            status, slot, used = _pair_of_sample(s, event, ip, length, used)
            if status != _DONE:
                break
            ts = at
            if s.attrs[attr, _A_TIME] >= 0:
                ts = u64(base, at + s.attrs[attr, _A_TIME], big)
            else:
                state[UNTIMED] += 1
            plan = s.pairs[slot, PAIR_PLAN]
            if plan >= 0:
                if rows >= capacity:
                    status = _FULL
                    break
                if not _list_sample(s, rows, attr, at, ts, raw, chain, plan):
                    status = _BAD_RECORD
                    break
                rows += 1
            state[MAX_TS] = max(state[MAX_TS], ts)
            s.pairs[slot, PAIR_COUNT] += 1
            if samples == 0:
                first = ts
                last = ts
            samples += 1
            first = min(first, ts)
            last = max(last, ts)
        elif kind in (_LOST, _COMM, _FORK, _LOST_SAMPLES):
            ts, cpu = _tail(s, stop, size)
            if kind == _LOST:
                if size < 24:
                    status = _BAD_RECORD
                    break
                if rows >= capacity:
                    status = _FULL
                    break
                ts = _list_loss(s, rows, at, ts, cpu)
                rows += 1
            elif kind != _LOST_SAMPLES or not u16(base, at + 4, big) & _BPF:
                if state[SIDES] >= len(s.sides):
                    status = _FULL
                    break
                side = s.sides[state[SIDES]]
                side[0], side[1], side[2], side[3] = kind, at, ts, cpu
                state[SIDES] += 1
            state[MAX_TS] = max(state[MAX_TS], ts)
        elif kind == _FINISHED_ROUND:
            state[SAFE] = state[ROUND]
            state[ROUND] = state[MAX_TS]
        elif kind in (_HEADER_ATTR, _TRACING_DATA, _FEATURE, _COMPRESSED, _COMPRESSED2):
            s.types[kind] += 1
            status = _SPECIAL
            break
        elif kind == _AUXTRACE:
            more = u64(base, at + 8, big) if size >= 16 else np.int64(-1)
            if more < 0 or more > end - stop:
                status = _BAD_RECORD
                break
            stop += more
        s.types[min(kind, 255)] += 1
        at = stop
    state[POSITION], state[ROWS], state[USED], state[SAMPLES] = at, rows, used, samples
    state[FIRST_TS], state[LAST_TS] = first, last
    return status


@loop
def name_tasks(
    words: NDArray[np.int64],
    place: NDArray[np.int64],
    changes: NDArray[np.int64],
    comm_of: NDArray[np.int32],
    lost_kind: int,
) -> int:
    """Give each row the name that its task had at its time.

    Parameters
    ----------
    words : ndarray of int64, shape (n, 9)
        Rows by time, as :func:`collectors.traceevent.fill.fill_rows` left them, but `site`
        is the task that perf recorded, -1 unknown. It is set to 0, but where there is no name to
        the task.
    place : ndarray of int64, shape (n,)
        Of each row in the file, to tell what came first where stamps are equal.
    changes : ndarray of int64, shape (m, 4)
        Stamp, place, task and its new name, in the order of time.
    comm_of : ndarray of int32
        Name of each task; changed.
    lost_kind : int
        Kind of loss markers.

    Returns
    -------
    int
        Rows without a name.
    """
    change = 0
    nameless = 0
    for row in range(len(words)):
        rest = words[row, 7]
        words[row, 7] = rest & ~0xFFFF_FFFF
        if rest >> 32 & 0xFFFF == lost_kind:
            continue
        ts = words[row, 0]
        while change < len(changes) and (
            changes[change, 0] < ts
            or (changes[change, 0] == ts and changes[change, 1] <= place[row])
        ):
            comm_of[changes[change, 2]] = changes[change, 3]
            change += 1
        task: Any = extend(rest & 0xFFFF_FFFF, 4)
        if task < 0:
            task = extend(words[row, 6] & 0xFFFF_FFFF, 4)
        comm = np.int64(comm_of[task]) if 0 <= task < len(comm_of) else np.int64(0)
        words[row, 6] = (words[row, 6] & 0xFFFF_FFFF) | comm << 32
        if comm == 0:
            words[row, 7] |= task & 0xFFFF_FFFF
            nameless += 1
    for left in range(change, len(changes)):
        comm_of[changes[left, 2]] = changes[left, 3]
    return nameless
