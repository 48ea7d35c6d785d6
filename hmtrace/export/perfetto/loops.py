"""Compiled loops that write the packets of events.

A slice is a packet for its beginning and one for its end, and on one track slices must nest. So
each track has *lanes*: a slice that would cross another one goes to the next lane, which is a track
of its own. On each lane packets come in the order of their times, and at one time ends come before
beginnings. Numbers of fields are those of protos/perfetto/trace/trace_packet.proto,
track_event.proto and debug_annotation.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from replay.compiled import loop, part, piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

# track_event.proto: TrackEvent.Type
BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4

SEQUENCE = 1
"""trusted_packet_sequence_id of all packets."""
ADDRESS_NAME = 1
"""Number of the annotation that an address is."""
NONE = -1
"""No address, no end."""
NEVER = 1 << 62
"""End of what has not ended."""

# Numbers of tracks: a few are fixed, then those of CPUs, then by number of a task or a lane
FIRST_OF_CPUS = 64
CPU_TRACKS = 2
MOST_CPUS = 1024
FIRST_OF_ANY = FIRST_OF_CPUS + CPU_TRACKS * MOST_CPUS
ANY_TRACKS = 4
TASK, CALL_LANE, SPAN_LANE = range(3)

DEPTH = 16
"""Slices that may stand in each other on one lane."""
MOST_CALL_LANES = 8
MOST_SPAN_LANES = 2048
"""Lanes of one track at most; what finds no place on any is an instant, or is left out."""
MARGIN = 1 << 15
"""Bytes that one step writes at most."""

# Positions in Lanes.reg
USED = 0
LEFT_OUT = 1


class Lanes(NamedTuple):
    """Lanes of tracks.

    Attributes
    ----------
    head, following : ndarray of int32
        First lane of each track, and the next one of each lane; -1 none.
    depth : ndarray of int32, shape (lanes,)
        Slices that are open.
    ends : ndarray of int64, shape (lanes, DEPTH)
        When they end.
    last : ndarray of int64, shape (lanes,)
        Time of the last packet.
    owner : ndarray of int32, shape (lanes,)
        Its track.
    reg : ndarray of int64, shape (2,)
        Lanes that are used, slices that were left out.
    """

    head: NDArray[np.int32]
    following: NDArray[np.int32]
    depth: NDArray[np.int32]
    ends: NDArray[np.int64]
    last: NDArray[np.int64]
    owner: NDArray[np.int32]
    reg: NDArray[np.int64]


class CallPackets(NamedTuple):
    """Calls to be written, one element each.

    Attributes
    ----------
    ts, end : ndarray of int64
        ns; an end before `ts` is not known.
    task : ndarray of int64
        Number of its task.
    name : ndarray of int64
        Number of its name.
    address : ndarray of int64
        NONE: there is none.
    flow, flows : ndarray of int64
        First number of the flows that begin there, and how many.
    """

    ts: NDArray[np.int64]
    end: NDArray[np.int64]
    task: NDArray[np.int64]
    name: NDArray[np.int64]
    address: NDArray[np.int64]
    flow: NDArray[np.int64]
    flows: NDArray[np.int64]


def any_track(kind: int, number: int) -> int:
    """Number of a track: TASK of a task, CALL_LANE or SPAN_LANE of a lane."""
    return FIRST_OF_ANY + ANY_TRACKS * number + kind


_track = piece(any_track)


@piece
def _length(value: int) -> int:
    """Bytes of a number."""
    length = 1
    while value >= 128:
        value >>= 7
        length += 1
    return length


@piece
def _number(out: NDArray[np.uint8], at: int, value: int) -> int:
    """Write a number, seven bits a byte, the lowest first."""
    while value >= 128:
        out[at] = (value & 127) | 128
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


@piece
def _fixed(out: NDArray[np.uint8], at: int, value: int) -> int:
    """Write a number of eight bytes."""
    for byte in range(8):
        out[at + byte] = (value >> (8 * byte)) & 255
    return at + 8


@part
def put_event(
    out: NDArray[np.uint8],
    at: int,
    kind: int,
    ts: int,
    track: int,
    name: int,
    value: int,
    flow: int,
    flows: int,
    over: int,
) -> int:
    """Write one event; return where it ends.

    Parameters
    ----------
    out, at
        Where to.
    kind
        BEGIN, END, INSTANT or COUNTER.
    ts, track, name
        Time, number of the track, number of the name (0: none).
    value
        Of a counter, else an address (NONE: there is none).
    flow, flows
        First number of the flows that go on here, and how many.
    over
        Number of the flow that ends here; 0 none.
    """
    ts = max(ts, 0)
    inner = 2 + 1 + _length(track)
    noted = 0
    if name > 0:
        inner += 1 + _length(name)
    if kind == COUNTER:
        inner += 2 + _length(value)
    elif value >= 0:
        noted = 2 + 1 + _length(value)
        inner += 2 + noted
    inner += 10 * flows
    if over > 0:
        inner += 10
    whole = 1 + _length(ts) + 4 + 1 + _length(inner) + inner
    out[at] = 0x0A  # Trace.packet
    at = _number(out, at + 1, whole)
    out[at] = 8 << 3  # TracePacket.timestamp
    at = _number(out, at + 1, ts)
    out[at], out[at + 1] = 10 << 3, SEQUENCE
    out[at + 2], out[at + 3] = 13 << 3, 2  # sequence_flags: SEQ_NEEDS_INCREMENTAL_STATE
    out[at + 4] = (11 << 3) | 2  # track_event
    at = _number(out, at + 5, inner)
    out[at], out[at + 1] = 9 << 3, kind  # TrackEvent.type
    out[at + 2] = 11 << 3  # track_uuid
    at = _number(out, at + 3, track)
    if name > 0:
        out[at] = 10 << 3  # name_iid
        at = _number(out, at + 1, name)
    if kind == COUNTER:
        at = _number(out, at, 30 << 3)  # counter_value
        at = _number(out, at, value)
    elif value >= 0:
        out[at], out[at + 1] = (4 << 3) | 2, noted  # debug_annotations
        out[at + 2], out[at + 3] = 1 << 3, ADDRESS_NAME
        out[at + 4] = 7 << 3  # pointer_value
        at = _number(out, at + 5, value)
    for n in range(flows):
        at = _number(out, at, (47 << 3) | 1)  # flow_ids
        at = _fixed(out, at, flow + n)
    if over > 0:
        at = _number(out, at, (48 << 3) | 1)  # terminating_flow_ids
        at = _fixed(out, at, over)
    return at


@piece
def _new_lane(lanes: Lanes, before: int, track: int) -> np.int64:
    """One more lane of a track, behind another one; -1: it is the first."""
    lane = np.int64(lanes.reg[USED])
    lanes.reg[USED] = lane + 1
    if before < 0:
        lanes.head[track] = lane
    else:
        lanes.following[before] = lane
    lanes.following[lane], lanes.depth[lane] = -1, 0
    lanes.last[lane], lanes.owner[lane] = -1, track
    return lane


@piece
def _close(out: NDArray[np.uint8], at: int, lanes: Lanes, lane: int, uuid: int, until: int) -> int:
    """Write the ends of a lane's slices that are over by a time."""
    while lanes.depth[lane] > 0 and lanes.ends[lane, lanes.depth[lane] - 1] <= until:
        lanes.depth[lane] -= 1
        end = lanes.ends[lane, lanes.depth[lane]]
        at = put_event(out, at, END, end, uuid, 0, NONE, 0, 0, 0)
        lanes.last[lane] = end
    return at


@loop
def put_calls(
    out: NDArray[np.uint8], calls: CallPackets, lanes: Lanes, start: int
) -> tuple[int, int]:
    """Write calls: slices where the end is known, else instants.

    Parameters
    ----------
    out : ndarray of uint8
        Filled from its beginning.
    calls
        In the order of their beginning.
    lanes
        Changed; with room for as many lanes as calls. A track is a task.
    start
        Call to begin with.

    Returns
    -------
    done, size : int
        The call that found no room, and bytes that are written.
    """
    at = 0
    for i in range(start, calls.ts.shape[0]):
        if at + MARGIN + 10 * calls.flows[i] > out.shape[0]:
            return i, at
        ts, end, task = calls.ts[i], calls.end[i], calls.task[i]
        found, before, seen = np.int64(-1), np.int64(-1), 0
        lane = np.int64(lanes.head[task])
        uuid = _track(TASK, task)
        while end >= ts and found < 0 and seen < MOST_CALL_LANES:
            if lane < 0:
                lane = _new_lane(lanes, before, task)
            uuid = _track(TASK, task) if seen == 0 else _track(CALL_LANE, lane)
            at = _close(out, at, lanes, lane, uuid, ts)
            depth = lanes.depth[lane]
            fits = depth == 0 or (depth < DEPTH and lanes.ends[lane, depth - 1] >= end)
            if fits and lanes.last[lane] <= ts:
                found = lane
            before, lane = lane, np.int64(lanes.following[lane])
            seen += 1
        flow, flows = calls.flow[i], calls.flows[i]
        name, address = calls.name[i], calls.address[i]
        if found < 0:
            lanes.reg[LEFT_OUT] += end >= ts
            uuid = _track(TASK, task)
            at = put_event(out, at, INSTANT, ts, uuid, name, address, flow, flows, 0)
            continue
        at = put_event(out, at, BEGIN, ts, uuid, name, address, flow, flows, 0)
        lanes.ends[found, lanes.depth[found]] = end
        lanes.depth[found] += 1
        lanes.last[found] = ts
    return calls.ts.shape[0], at


@loop
def put_ends(out: NDArray[np.uint8], lanes: Lanes, start: int) -> tuple[int, int]:
    """Write the ends of all calls; parameters and result as of :func:`put_calls`, but lanes."""
    at = 0
    for lane in range(start, lanes.reg[USED]):
        if at + MARGIN > out.shape[0]:
            return lane, at
        task = np.int64(lanes.owner[lane])
        is_first = lanes.head[task] == lane
        uuid = _track(TASK, task) if is_first else _track(CALL_LANE, lane)
        at = _close(out, at, lanes, lane, uuid, NEVER)
    return lanes.reg[USED], at


class SpanPackets(NamedTuple):
    """Spans to be written, one element each, in the order of their ends.

    Attributes
    ----------
    ts, end : ndarray of int64
        ns; NEVER: it has not ended.
    track : ndarray of int64
        Number of its track.
    name : ndarray of int64
        Number of its name.
    flow : ndarray of int64
        Number of the flow that begins there; 0 none.
    """

    ts: NDArray[np.int64]
    end: NDArray[np.int64]
    track: NDArray[np.int64]
    name: NDArray[np.int64]
    flow: NDArray[np.int64]


@loop
def put_spans(
    out: NDArray[np.uint8], spans: SpanPackets, lanes: Lanes, start: int
) -> tuple[int, int]:
    """Write spans, each on the lane that is free since shortest before.

    Parameters and result are as of :func:`put_calls`.
    """
    at = 0
    for i in range(start, spans.ts.shape[0]):
        if at + MARGIN > out.shape[0]:
            return i, at
        track, end = spans.track[i], spans.end[i]
        ts = min(spans.ts[i], end)
        found, before, seen = np.int64(-1), np.int64(-1), 0
        lane = np.int64(lanes.head[track])
        while lane >= 0:
            free_since = lanes.last[lane]
            if free_since <= ts and (found < 0 or free_since > lanes.last[found]):
                found = lane
            before, lane = lane, np.int64(lanes.following[lane])
            seen += 1
        if found < 0:
            if seen >= MOST_SPAN_LANES:
                lanes.reg[LEFT_OUT] += 1
                continue
            found = _new_lane(lanes, before, track)
        uuid, flow = _track(SPAN_LANE, found), spans.flow[i]
        at = put_event(out, at, BEGIN, ts, uuid, spans.name[i], NONE, flow, 1 if flow > 0 else 0, 0)
        if end < NEVER:
            at = put_event(out, at, END, end, uuid, 0, NONE, 0, 0, 0)
        lanes.last[found] = end
    return spans.ts.shape[0], at


@loop
def put_points(
    out: NDArray[np.uint8],
    kind: int,
    ts: NDArray[np.int64],
    track: NDArray[np.int64],
    name: NDArray[np.int64],
    value: NDArray[np.int64],
    over: NDArray[np.int64],
    start: int,
) -> tuple[int, int]:
    """Write counters or instants; result as of :func:`put_calls`.

    Parameters
    ----------
    out, start
        As there.
    kind
        COUNTER or INSTANT.
    ts, track, name, value, over : ndarray of int64, shape (n,)
        As of :func:`put_event`.
    """
    at = 0
    for i in range(start, ts.shape[0]):
        if at + MARGIN > out.shape[0]:
            return i, at
        at = put_event(out, at, kind, ts[i], track[i], name[i], value[i], 0, 0, over[i])
    return ts.shape[0], at


def no_lanes() -> Lanes:
    """No lanes of any track."""
    none = np.zeros(0, np.int32)
    ends, last = np.zeros((0, DEPTH), np.int64), np.zeros(0, np.int64)
    return Lanes(none, none, none, ends, last, none, np.zeros(2, np.int64))


def with_room(lanes: Lanes, tracks: int, more: int) -> Lanes:
    """Lanes with room for so many tracks, and for so many lanes more."""
    used, room = int(lanes.reg[USED]), lanes.last.size
    if tracks > lanes.head.size:
        head = np.full(max(tracks, 2 * lanes.head.size), -1, np.int32)
        head[: lanes.head.size] = lanes.head
        lanes = lanes._replace(head=head)
    if used + more > room:
        names = ("following", "depth", "ends", "last", "owner")
        wider = {}
        for name in names:
            column = getattr(lanes, name)
            wider[name] = np.empty((max(used + more, 2 * room), *column.shape[1:]), column.dtype)
            wider[name][:used] = column[:used]
        lanes = lanes._replace(**wider)
    return lanes
