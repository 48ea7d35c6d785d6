"""Trace data to a list of records in the order of time.

Two walks over the pages: the first counts the records of every event, so that the second can
list the wanted ones into arrays of exactly the right size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from collectors.errors import HmtraceError
from collectors.tracecmd_dat import unpack
from collectors.tracecmd_dat.cursor import TRUNCATED, Cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from collectors.tracecmd_dat.container import Buffer, Container

_SLOTS = 1 << 18
"""Room for (event, probed address) pairs; a full function trace has some 50 000 addresses."""
MARKER = _SLOTS
"""Position of loss markers among the pairs."""
_EVENTS = 1 << 16
_ADDRESS_FIELDS = ("__probe_ip", "__probe_func")
FUNCTION_FIELDS = {"function": "ip", "funcgraph_entry": "func", "funcgraph_exit": "func"}
"""Tracers' own events (kernel/trace/trace_entries.h) and their field for the traced function."""


@dataclass
class Pages:
    """The trace data of one buffer, decompressed, and what was counted in it.

    Attributes
    ----------
    data
        Pages of all CPUs.
    extents
        int64, (CPUs, 2): first byte of each CPU's pages and the byte after the last.
    cpus
        Number of each CPU; ascending.
    pairs
        For each position in the table: event id, probed address (0 none), records.
    lost_marks
        Number of loss markers.
    """

    file: Container
    buffer: Buffer
    data: NDArray[np.uint8]
    extents: NDArray[np.int64]
    cpus: list[int]
    slot_type: NDArray[np.int32]
    slot_ip: NDArray[np.int64]
    count: NDArray[np.int64]
    ip_at: NDArray[np.int64]
    need: NDArray[np.int64]
    bounds: NDArray[np.int64]
    type_at: int
    present: list[int] = field(default_factory=list)

    @property
    def big(self) -> bool:
        """Endianness of the traced machine."""
        return self.file.meta.order == "big"

    def pairs(self) -> list[tuple[int, int, int, int]]:
        """List (position, event id, probed address, records) of every pair that occurs."""
        used = np.flatnonzero(self.count[:-1])
        return [
            (int(slot), int(self.slot_type[slot]), int(self.slot_ip[slot]) & _MASK, int(number))
            for slot, number in zip(used, self.count[used], strict=True)
        ]


_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Records:
    """Records in the order of time, of all CPUs.

    Attributes
    ----------
    ts, at, length, plan, cpu
        As listed, CPU after CPU: stamp (int64, ns or counts, corrected as the file asks), place
        in the data, bytes, plan, CPU (uint16).
    order
        int64: position in the five above of each record by time.
    mark_before
        int64 per loss marker, as listed: stamp of the CPU's last record before,
        ``kernels.NO_STAMP`` where there is none.
    """

    ts: NDArray[np.int64]
    at: NDArray[np.int64]
    length: NDArray[np.int32]
    plan: NDArray[np.int32]
    cpu: NDArray[np.uint16]
    order: NDArray[np.int64]
    mark_before: NDArray[np.int64]


def load(
    file: Container, buffer: Buffer, progress: Callable[[int, int], None] | None = None
) -> Pages:
    """Decompress a buffer's trace data where need be, and count its records.

    Raises
    ------
    HmtraceError
        If the data is damaged.
    """
    cpus = sorted(buffer.cpus, key=lambda c: c.cpu)
    if buffer.compressed:
        cursor = Cursor(file.data, name=file.name, order=file.meta.order)
        listed = []
        for cpu in cpus:
            cursor.seek(cpu.offset, f"trace data of CPU {cpu.cpu}")
            listed.append(unpack.chunks(cursor, cpu.size))
        data, extents = unpack.expand_all(cursor, listed, file.algorithm, progress)
    else:
        data = np.frombuffer(file.data, np.uint8)
        data.flags.writeable = False
        extents = np.array([(c.offset, c.offset + c.size) for c in cpus], np.int64).reshape(-1, 2)
    ip_at, need, type_at = _first_needs(file)
    pages = Pages(
        file,
        buffer,
        data,
        extents,
        [c.cpu for c in cpus],
        np.full(_SLOTS, -1, np.int32),
        np.zeros(_SLOTS, np.int64),
        np.zeros(_SLOTS + 1, np.int64),
        ip_at,
        need,
        np.zeros((len(cpus), 4), np.int64),
        type_at,
    )
    none, none32 = np.zeros(0, np.int64), np.zeros(0, np.int32)
    nothing = np.full(_SLOTS + 1, -1, np.int32)
    _walk(pages, nothing, none, none, none32, none32, none, listing=False)
    pages.present = sorted({int(t) for t in pages.slot_type[np.flatnonzero(pages.count[:-1])]})
    return pages


def _first_needs(file: Container) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Find the address field of probe and function events, and the place of ``common_type``."""
    ip_at = np.full(_EVENTS, -1, np.int64)
    need = np.zeros(_EVENTS, np.int64)
    type_at = None
    for number, event in file.meta.events.items():
        if type_at is None:
            common = event.number("common_type")
            if common is not None and common.size == 2:
                type_at = common.offset
        if event.system == "ftrace":
            names: tuple[str, ...] = (FUNCTION_FIELDS.get(event.name, ""),)
        elif "__probe_" in event.text:
            names = _ADDRESS_FIELDS
        else:
            continue
        field_ = event.number(*names)
        if field_ is not None and field_.size == file.meta.word:
            ip_at[number] = field_.offset
            need[number] = field_.offset + field_.size
    if type_at is None:
        if not file.meta.events:
            message = "the file describes no events"
        else:
            message = "the event formats do not say where common_type is"
        raise HmtraceError(message, source=file.name, hint=TRUNCATED)
    return ip_at, need, type_at


def list_records(pages: Pages, plan_of: NDArray[np.int32]) -> Records:
    """List the wanted records and put them into the order of time.

    CPUs are merged as `trace-cmd report` does it: the CPU whose next record is earliest comes
    next; where two are equal, the lower CPU. A record whose stamp lies before that of its
    predecessor on the same CPU stays behind it.

    Parameters
    ----------
    pages
        A buffer.
    plan_of
        int32 per pair, and for loss markers at the end: plan, -1 not wanted.
        ``pages.need`` must hold what the plans read.

    Raises
    ------
    HmtraceError
        If a record is too short for its event.
    """
    total = int(pages.count[plan_of >= 0].sum())
    ts = np.empty(total, np.int64)
    at = np.empty(total, np.int64)
    length = np.empty(total, np.int32)
    plan = np.empty(total, np.int32)
    mark_before = np.empty(int(pages.count[MARKER]), np.int64)
    _walk(pages, plan_of, ts, at, length, plan, mark_before, listing=True)
    ends = pages.bounds[:, 0]
    numbers = np.diff(ends, prepend=0)
    cpu = np.repeat(np.array(pages.cpus, np.uint16), numbers)
    clock = pages.file.clock
    if clock.corrects:
        starts = ends - numbers
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
            ts[start:end] = clock.apply(ts[start:end], index)
    order = _merge(ts, ends)
    return Records(ts, at, length, plan, cpu, order, mark_before)


def _merge(ts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the order of a k-way merge: a stable sort by the highest stamp so far on each CPU."""
    key = ts
    start = 0
    for end in ends:
        run = ts[start:end]
        if len(run) > 1 and bool(np.any(run[1:] < run[:-1])):
            if key is ts:
                key = ts.copy()
            key[start:end] = np.maximum.accumulate(run)
        start = int(end)
    if len(ends) <= 1:
        return np.arange(len(ts))
    return np.argsort(key, kind="stable")


def _walk(
    pages: Pages,
    plan_of: NDArray[np.int32],
    ts: NDArray[np.int64],
    at: NDArray[np.int64],
    length: NDArray[np.int32],
    plan: NDArray[np.int32],
    mark_before: NDArray[np.int64],
    *,
    listing: bool,
) -> None:
    from collectors.tracecmd_dat import kernels

    head = pages.file.meta.page
    size = pages.buffer.page_size
    page = (size, head.stamp, head.commit, head.data, head.word, pages.type_at)
    status, offset = kernels.walk(
        pages.data,
        pages.extents,
        np.array([*page, pages.file.meta.word, int(listing)], np.int64),
        pages.big,
        pages.ip_at,
        pages.need,
        pages.slot_type,
        pages.slot_ip,
        pages.count,
        plan_of,
        ts,
        at,
        length,
        plan,
        mark_before,
        pages.bounds,
    )
    if status != kernels.OK:
        _refuse(pages, status, offset)


def _refuse(pages: Pages, status: int, offset: int) -> None:
    """Say what is wrong with the page at an offset of the data."""
    from collectors.tracecmd_dat import kernels

    message = {
        kernels.BAD_COMMIT: "a page says that it holds more bytes than it has",
        kernels.BAD_RECORD: "a record runs beyond the end of its page",
        kernels.SHORT_RECORD: "a record is too short for its event's format",
    }[status]
    index = int(np.searchsorted(pages.extents[:, 1], offset, side="right"))
    where = f"trace data of CPU {pages.cpus[min(index, len(pages.cpus) - 1)]}"
    if pages.buffer.compressed:
        where += f", {offset - int(pages.extents[index, 0]):#x} bytes into it when decompressed"
    raise HmtraceError(
        f"{where}: {message}",
        source=pages.file.name,
        offset=None if pages.buffer.compressed else offset,
        hint=TRUNCATED,
    )
