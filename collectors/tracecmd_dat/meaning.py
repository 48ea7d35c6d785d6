"""What the events of a trace.dat mean: raw events, exactly as the text readers make them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.probes import (
    FUNCTION_OF,
    KIND_LOST,
    KIND_SWITCH,
    base_name,
    function_of,
    slot_of,
)
from collectors.raw import RAW_DTYPE, RawEvents
from collectors.text.heads import guess, label_of
from collectors.text.layout import ROW_WORDS
from collectors.tracecmd_dat import pages as paging
from collectors.tracecmd_dat.symbols import function_around, names_at
from collectors.tracecmd_dat.unpack import threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from collectors.symbols import Symbols
    from collectors.tracecmd_dat.formats import EventFormat, Field
    from collectors.tracecmd_dat.pages import Pages, Records

_PID_LIMIT: Final = 1 << 22
"""PID_MAX_LIMIT (include/linux/threads.h)."""
_BLOCKED: Final = 2
"""TASK_UNINTERRUPTIBLE in prev_state (include/linux/sched.h)."""
_PROBE_LINE: Final = re.compile(r"^([pr])\d*:(?:([\w.-]+)/)?([\w.-]+)\s+(?:[\w-]+:)?(\S+)")
_SLICE: Final = 1 << 17
"""Rows that a thread fills at a time."""
UNKNOWN_COMM: Final = 1
"""Index of ``<...>``, the kernel's word for a task whose name was not kept."""


def probe_functions(kprobe_events: str) -> dict[str, str]:
    """Read which function each probe is on, from the text of tracefs' ``kprobe_events``.

    Returns
    -------
    dict
        ``group/event`` and, where it is unique, ``event``, to the symbol with its offset.
    """
    found: dict[str, str] = {}
    plain: dict[str, set[str]] = {}
    for line in kprobe_events.splitlines():
        match = _PROBE_LINE.match(line)
        if match:
            group, event, symbol = match[2] or "kprobes", match[3], match[4]
            found[f"{group}/{event}"] = symbol
            plain.setdefault(event, set()).add(symbol)
    for event, symbols in plain.items():
        if len(symbols) == 1:
            found[event] = next(iter(symbols))
    return found


@dataclass
class Plan:
    """How rows are made from the records of one (event, address) pair."""

    kind: int
    event: EventFormat | None = None
    caller: Field | None = None
    values: dict[int, tuple[Field, int]] = field(default_factory=dict)
    """Slot to field and mask (0: the value itself; else whether a bit of the mask is set)."""

    def reads(self) -> int:
        """Bytes that a record must have for this plan."""
        used = [f for f, _ in self.values.values()]
        used += [f for f in (self.caller, *self._common()) if f is not None]
        return max((f.offset + f.size for f in used), default=0)

    def _common(self) -> tuple[Field | None, Field | None, Field | None]:
        if self.event is None:
            return None, None, None
        pid = self.event.number("common_pid")
        flags = self.event.number("common_flags")
        preempt = self.event.number("common_preempt_count")
        return (
            pid if pid is not None and pid.size == 4 else None,
            flags if flags is not None and flags.size == 1 else None,
            preempt if preempt is not None and preempt.size == 1 else None,
        )

    def row(self) -> list[int]:
        """As :func:`kernels.fill_rows` wants it."""
        common = [-1 if f is None else f.offset for f in self._common()]
        caller = (-1, 0) if self.caller is None else (self.caller.offset, self.caller.size)
        out = [self.kind, *common, *caller]
        for slot in range(4):
            if slot in self.values:
                f, mask = self.values[slot]
                out += [f.offset, f.size, int(f.signed), mask]
            else:
                out += [-1, 0, 0, 0]
        return out


class Meaning:
    """Decides what every (event, address) pair stands for.

    Parameters
    ----------
    events
        Event formats by ``common_type``.
    symbols
        Of the traced kernel; may be empty.
    probes
        Probed symbol by ``group/event`` or ``event``, from kprobe_events; may be empty.
    """

    def __init__(
        self, events: Mapping[int, EventFormat], symbols: Symbols, probes: Mapping[str, str]
    ) -> None:
        self._events = events
        self._symbols = symbols
        self._probes = probes
        self._guessed: set[str] = set()
        self._moved: set[str] = set()
        self._strange: set[int] = set()

    @property
    def notes(self) -> list[str]:
        """What the user should know about how events were recognised."""
        notes = []
        if self._moved:
            notes.append(
                "the kernel symbols do not fit the probes' addresses (another boot or kernel?): "
                f"kprobe_events says what {_list(self._moved)} probed"
            )
        if self._guessed:
            notes.append(
                "there are neither usable kernel symbols in the file nor kprobe_events beside "
                f"it: the probed functions of {_list(self._guessed)} were guessed from their names"
            )
        if self._strange:
            listed = _list({str(t) for t in self._strange})
            notes.append(f"events of types that the file does not describe: {listed}")
        return notes

    def of(self, event_id: int, ip: int) -> tuple[str, Plan | None]:
        """Name that records are counted under, and their plan; None: counted only."""
        event = self._events.get(event_id)
        if event is None:
            self._strange.add(event_id)
            return f"event type {event_id}", None
        if event.system == "ftrace":
            return self._of_tracer(event, ip)
        if event.name == "sched_switch" and event.system == "sched":
            return event.name, _switch(event)
        if "__probe_ip" in event.fields or "__probe_func" in event.fields:
            return self._of_probe(event, ip)
        label = f"{event.name} (tracepoint)" if event.name in FUNCTION_OF else event.name
        return label, None

    def _of_tracer(self, event: EventFormat, ip: int) -> tuple[str, Plan | None]:
        """Interpret an event of the function or function_graph tracer."""
        if event.name not in paging.FUNCTION_FIELDS or not ip:
            return event.name, None
        symbol = function_around(self._symbols, ip)
        if symbol is None:
            return event.name, None
        function = FUNCTION_OF.get(base_name(symbol))
        if function is None:
            return symbol, None
        is_return = event.name == "funcgraph_exit"
        plan = Plan(2 * function + is_return, event)
        if is_return:
            # CONFIG_FUNCTION_GRAPH_RETVAL, Linux 6.5
            retval = event.number("retval")
            if retval is not None and slot_of(function, "retval", is_return=True) == 0:
                plan.values[0] = (retval, 0)
        else:
            plan.caller = event.number("parent_ip", "retaddr")
        return label_of(plan.kind), plan

    def _of_probe(self, event: EventFormat, ip: int) -> tuple[str, Plan | None]:
        """Interpret an event of a kprobe, kretprobe or fprobe (kernel/trace/trace_probe.h)."""
        function = self._probed(event, ip)
        if function is None:
            return event.name, None
        is_return = "__probe_ret_ip" in event.fields
        plan = Plan(2 * function + is_return, event)
        if is_return:
            plan.caller = event.number("__probe_ret_ip")
        for f in event.own:
            if f.is_number and not f.name.startswith("__probe_"):
                slot = slot_of(function, f.name, is_return=is_return)
                if slot is not None:
                    plan.values.setdefault(slot, (f, 0))
        return label_of(plan.kind), plan

    def _probed(self, event: EventFormat, ip: int) -> int | None:
        """Find the function that an event's probe is on; None: unknown, or inside a function."""
        names = names_at(self._symbols, ip) if ip else []
        for name in names:
            function = function_of(name)
            if function is not None:
                return function
        defined = self._probes.get(f"{event.system}/{event.name}", self._probes.get(event.name))
        if defined is not None:
            try:
                function = function_of(defined)
            except ValueError:
                function = None
            if function is not None and len(self._symbols):
                self._moved.add(event.name)
            return function
        if len(self._symbols) and ip:
            return None
        function = guess(event.name)
        if function is not None:
            self._guessed.add(event.name)
        return function


def _list(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more


def _switch(event: EventFormat) -> Plan:
    """Plan for sched:sched_switch (include/trace/events/sched.h)."""
    plan = Plan(KIND_SWITCH, event)
    for slot, name, mask in ((0, "prev_pid", 0), (1, "prev_state", _BLOCKED), (2, "next_pid", 0)):
        found = event.number(name)
        if found is not None:
            plan.values[slot] = (found, mask)
    return plan


def make_raw(pages: Pages, meaning: Meaning) -> tuple[RawEvents, Records]:
    """Make the raw events of a buffer.

    Parameters
    ----------
    pages
        Decompressed and counted.
    meaning
        Of its events.

    Returns
    -------
    raw
        Rows in the order of time.
    records
        Where they came from.

    Raises
    ------
    HmtraceError
        If a record is too short for its event.
    """
    counts: dict[str, int] = {}
    plans = [Plan(KIND_LOST)]
    plan_of = np.full(paging.MARKER + 1, -1, np.int32)
    plan_of[paging.MARKER] = 0
    for slot, event_id, ip, number in pages.pairs():
        label, plan = meaning.of(event_id, ip)
        counts[label] = counts.get(label, 0) + number
        if plan is not None:
            plan_of[slot] = len(plans)
            plans.append(plan)
            pages.need[event_id] = max(pages.need[event_id], plan.reads())
    records = paging.list_records(pages, plan_of)
    rows = np.empty(len(records.order), RAW_DTYPE)
    comms, comm_of = _comm_table(pages)
    _fill(pages, records, plans, comm_of, rows)
    comms = _learn_comms(pages, records, plans, rows, comms)
    return RawEvents(rows, tuple(comms), ("",), dict(sorted(counts.items()))), records


def _fill(
    pages: Pages,
    records: Records,
    plans: list[Plan],
    comm_of: NDArray[np.int32],
    rows: NDArray[np.void],
) -> None:
    from collectors.tracecmd_dat import kernels

    table = np.array([p.row() for p in plans], np.int64)
    words = rows.view(np.int64).reshape(len(rows), ROW_WORDS)

    def fill(first: int) -> None:
        kernels.fill_rows(
            pages.data,
            pages.big,
            records.order[first : first + _SLICE],
            records.ts,
            records.at,
            records.cpu,
            records.plan,
            table,
            comm_of,
            KIND_LOST,
            words[first : first + _SLICE],
        )

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(fill, range(0, len(rows), _SLICE)))


def _comm_table(pages: Pages) -> tuple[list[str], NDArray[np.int32]]:
    """Task names, and the index of each pid's name."""
    known = {p: c for p, c in pages.file.meta.comms.items() if p < _PID_LIMIT}
    known[0] = "<idle>"
    comms = ["", "<...>"]
    index: dict[str, int] = {}
    comm_of = np.full(max(known) + 1, UNKNOWN_COMM, np.int32)
    for pid, comm in known.items():
        if comm not in index:
            index[comm] = len(comms)
            comms.append(comm)
        comm_of[pid] = index[comm]
    return comms, comm_of


def _learn_comms(
    pages: Pages,
    records: Records,
    plans: list[Plan],
    rows: NDArray[np.void],
    comms: list[str],
) -> list[str]:
    """Name tasks that the saved command lines forgot, from the switches to and from them.

    The kernel keeps 128 names unless told otherwise (``saved_cmdlines_size``).
    """
    nameless = np.flatnonzero((rows["comm"] == UNKNOWN_COMM) & (rows["kind"] != KIND_LOST))
    switches = np.flatnonzero(rows["kind"] == KIND_SWITCH)
    if not len(nameless) or not len(switches):
        return comms
    wanted = np.unique(rows["pid"][nameless])
    learnt: dict[int, str] = {}
    for slot, name in ((0, "prev_comm"), (2, "next_comm")):
        pids = rows["values"][switches, slot].astype(np.int64)
        places = switches[np.isin(pids, wanted)]
        _, first = np.unique(rows["values"][places, slot], return_index=True)
        for row in places[first]:
            source = records.order[row]
            event = plans[records.plan[source]].event
            text = event.fields.get(name) if event is not None else None
            if text is None or text.offset + text.size > records.length[source]:
                continue
            at = int(records.at[source]) + text.offset
            comm = bytes(pages.data[at : at + text.size]).split(b"\0", 1)[0]
            if comm:
                pid = int(rows["values"][row, slot])
                learnt.setdefault(pid, comm.decode("utf-8", "replace"))
    if not learnt:
        return comms
    comms = list(comms)
    known = {comm: number for number, comm in enumerate(comms)}
    pids = np.array(sorted(learnt), np.int64)
    numbers = np.zeros(len(pids), np.uint32)
    for i, pid in enumerate(pids):
        comm_name = learnt[int(pid)]
        if comm_name not in known:
            known[comm_name] = len(comms)
            comms.append(comm_name)
        numbers[i] = known[comm_name]
    at_pid = np.searchsorted(pids, rows["pid"][nameless])
    at_pid = np.minimum(at_pid, len(pids) - 1)
    hit = pids[at_pid] == rows["pid"][nameless]
    rows["comm"][nameless[hit]] = numbers[at_pid[hit]]
    return comms
