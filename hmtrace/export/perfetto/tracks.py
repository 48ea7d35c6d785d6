"""Tracks and names: packets that say what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.events import OPS
from hmtrace.export.perfetto.loops import (
    ADDRESS_NAME,
    CALL_LANE,
    CPU_TRACKS,
    FIRST_OF_CPUS,
    MOST_CPUS,
    SEQUENCE,
    SPAN_LANE,
    TASK,
    USED,
    any_track,
)
from hmtrace.report.text import clean
from replay.sites.tally import UNKNOWN_SITE, SiteNames
from replay.trace.columns import op_codes
from replay.trace.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from hmtrace.export.perfetto.loops import Lanes

# Tracks that there is one of
POOL, POOL_USED, POOL_STALE, POOL_WAITING, POOL_FLUSHES = range(1, 6)
ARENA, ARENA_LIVE, ARENA_LAZY, ARENA_HOLE = range(6, 10)
LOCAL, STOPPED, FINDINGS, LOST = range(10, 14)
DEPTH_OF_CPU, STOPS_OF_CPU = range(CPU_TRACKS)

_UNIT_COUNT, _UNIT_BYTES = 2, 3
"""CounterDescriptor.Unit."""
_EXPLICIT: Final = 3
"""TrackDescriptor.ChildTracksOrdering: by sibling_order_rank."""
_FIXED: Final[dict[int, tuple[int, str, int]]] = {
    FINDINGS: (0, "hmtrace: findings", 0),
    LOST: (0, "hmtrace: lost events", 0),
    POOL: (0, "pkmap pool", 0),
    POOL_USED: (POOL, "slots in use", _UNIT_COUNT),
    POOL_STALE: (POOL, "stale slots", _UNIT_COUNT),
    POOL_WAITING: (POOL, "tasks that wait for a slot", _UNIT_COUNT),
    POOL_FLUSHES: (POOL, "flushes of the window", 0),
    LOCAL: (0, "local mappings of the running task", 0),
    ARENA: (0, "vmap arena", 0),
    ARENA_LIVE: (ARENA, "in use", _UNIT_BYTES),
    ARENA_LAZY: (ARENA, "freed lazily", _UNIT_BYTES),
    ARENA_HOLE: (ARENA, "largest hole", _UNIT_BYTES),
    STOPPED: (0, "stopped by TLB flushes", 0),
}
"""Parent, name, and unit where it is a counter."""

# Names that are no operation of a call site; counted on from the operations
_OWN_NAMES: Final = (
    "waits for a slot",
    "wrap",
    "kmap_flush_unused",
    "TLB flush (IPI)",
    "kunmap of another task's mapping",
    "events lost",
)
WAITS, WRAP, UNUSED, IPI, TAKEN, GONE = range(len(OPS) + 1, len(OPS) + 1 + len(_OWN_NAMES))
_KINDS: Final = 64
"""Numbers of names of each call site."""


def name_of(own: int) -> int:
    """Number of one of the names above."""
    return own + 1


def cpu_track(cpu: int, which: int) -> int:
    """Number of a CPU's track: DEPTH_OF_CPU, STOPS_OF_CPU."""
    return FIRST_OF_CPUS + CPU_TRACKS * cpu + which


class TraceNames:
    """Numbers names: those of operations by their call site."""

    def __init__(self) -> None:
        self._sites = SiteNames()
        self._told: set[int] = set()

    def of(self, table: pl.DataFrame) -> NDArray[np.int32]:
        """Number of the name of each row: its operation and its call site."""
        return self._sites.numbers(table) * _KINDS + op_codes(table) + 1

    def new(self, numbers: NDArray[np.signedinteger[Any]]) -> Iterator[Any]:
        """Packets that say what these names are, of those that were not told."""
        wanted = set(np.unique(numbers).tolist()) - self._told - {0}
        if not wanted:
            return
        self._told |= wanted
        packet = new_packet()
        texts = self._sites.all()
        for number in sorted(wanted):
            site, kind = divmod(number - 1, _KINDS)
            name = packet.interned_data.event_names.add()
            name.iid, name.name = number, _text(kind, texts[site])
        yield packet


def _text(kind: int, site: str) -> str:
    """A name."""
    if kind > len(OPS):
        return _OWN_NAMES[kind - len(OPS) - 1]
    op = OPS[kind] if kind < len(OPS) else "?"
    return op if site == UNKNOWN_SITE else f"{op} {clean(site)}"


class TraceTracks:
    """Numbers tasks, and says what tracks are."""

    def __init__(self) -> None:
        self._tasks = Numbering()
        self._keys: list[int] = []
        self._comm: dict[int, str] = {}  # by key, as told
        self._now: dict[int, str] = {}
        self._groups = Numbering()
        self._cpus: set[int] = set()

    @staticmethod
    def first() -> Iterator[Any]:
        """Packets that say what there is one of.

        Yields
        ------
        TracePacket
        """
        packet = new_packet()
        packet.sequence_flags = 1  # SEQ_INCREMENTAL_STATE_CLEARED
        packet.first_packet_on_sequence = True
        noted = packet.interned_data.debug_annotation_names.add()
        noted.iid, noted.name = ADDRESS_NAME, "vaddr"
        yield packet
        for rank, (uuid, (parent, name, unit)) in enumerate(_FIXED.items()):
            packet = described(uuid, parent, name)
            packet.track_descriptor.sibling_order_rank = rank
            packet.track_descriptor.child_ordering = _EXPLICIT
            if unit:
                packet.track_descriptor.counter.unit = unit
            yield packet

    def tasks(self, keys: NDArray[np.int64], comms: dict[int, str]) -> NDArray[np.int64]:
        """Numbers of tasks by their keys (:func:`replay.local.stacks.task_key`)."""
        self._now |= comms
        return self._tasks.of(keys)

    def new_tasks(self) -> Iterator[Any]:
        """Packets that say what tasks are, of those that were not told.

        Yields
        ------
        TracePacket
        """
        keys = self._tasks.keys().view(np.int64)[len(self._keys) :].tolist()
        for number, key in enumerate(keys, len(self._keys)):
            self._comm[key] = self._now.get(key, "")
            yield _task(number, key, self._comm[key])
        self._keys += keys

    def last_names(self) -> Iterator[Any]:
        """Packets for tasks whose name is another one in the end: those that called exec().

        Yields
        ------
        TracePacket
        """
        for number, key in enumerate(self._keys):
            if self._now.get(key, "") != self._comm[key]:
                yield _task(number, key, self._now[key])

    @property
    def task_count(self) -> int:
        """Tasks that have a number."""
        return self._tasks.count

    @staticmethod
    def call_lanes(lanes: Lanes, first: int) -> Iterator[Any]:
        """Packets for lanes from `first` on that are not a task's own track.

        Yields
        ------
        TracePacket
        """
        for lane, task in _owners(lanes, first):
            if lanes.head[task] != lane:
                yield described(
                    any_track(CALL_LANE, lane), any_track(TASK, task), "calls that cross"
                )

    def groups(self, tasks: NDArray[np.int64], kind: int) -> NDArray[np.int64]:
        """Numbers of the tracks of tasks' spans of a kind, a position in :data:`SPANS`."""
        return self._groups.of(tasks * len(SPANS) + kind)

    @property
    def group_count(self) -> int:
        """Tracks of spans that have a number."""
        return self._groups.count

    def span_lanes(self, lanes: Lanes, first: int) -> Iterator[Any]:
        """Packets for lanes of spans from `first` on.

        Yields
        ------
        TracePacket
        """
        groups = self._groups.keys().view(np.int64)
        for lane, group in _owners(lanes, first):
            task, kind = divmod(int(groups[group]), len(SPANS))
            parent = LOST if kind == LOSSES else any_track(TASK, task)
            name = f"CPU {task - 1}" if kind == LOSSES and task else SPANS[kind]
            yield described(any_track(SPAN_LANE, lane), parent, name)

    def cpus(self, cpus: Sequence[int], which: int) -> Iterator[Any]:
        """Packets for tracks of CPUs that were not told.

        Yields
        ------
        TracePacket
        """
        for cpu in cpus:
            uuid = cpu_track(cpu, which)
            if uuid in self._cpus or cpu >= MOST_CPUS:
                continue
            self._cpus.add(uuid)
            parent = LOCAL if which == DEPTH_OF_CPU else STOPPED
            packet = described(uuid, parent, f"CPU {cpu}")
            packet.track_descriptor.sibling_order_rank = cpu
            if which == DEPTH_OF_CPU:
                packet.track_descriptor.counter.unit = _UNIT_COUNT
            yield packet


SPANS: Final = ("holds slots", "holds local mappings", "waits", "all CPUs")
HOLDS_SLOT, HOLDS_LOCAL, WAITING, LOSSES = range(len(SPANS))
"""Kinds of spans; lanes of one name below one task are shown as one track."""


def _owners(lanes: Lanes, first: int) -> Iterator[tuple[int, int]]:
    """Lanes from `first` on, each with its track."""
    return enumerate(lanes.owner[first : lanes.reg[USED]].tolist(), first)


def new_packet() -> Any:
    """A packet of the sequence that all are of."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

    packet = TracePacket()
    packet.trusted_packet_sequence_id = SEQUENCE
    return packet


def described(uuid: int, parent: int, name: str) -> Any:
    """Packet that says what a track is; parent 0: none."""
    packet = new_packet()
    packet.track_descriptor.uuid, packet.track_descriptor.name = uuid, name
    if parent:
        packet.track_descriptor.parent_uuid = parent
    return packet


def _task(number: int, key: int, comm: str) -> Any:
    """Packet that says what a task's track is; foreign names as they may be shown."""
    name = clean(comm, 64)
    if key <= 0:
        idle = f"idle, CPU {-2 - key}" if key <= -2 else "task not known"
        return described(any_track(TASK, number), 0, idle)
    packet = new_packet()
    packet.track_descriptor.uuid = any_track(TASK, number)
    thread = packet.track_descriptor.thread
    thread.pid = thread.tid = key
    thread.thread_name = name or f"task {key}"
    return packet
