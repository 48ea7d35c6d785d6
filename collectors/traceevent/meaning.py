"""What the events of a trace.dat mean: raw events, exactly as the text readers make them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.probes import (
    FUNCTION_OF,
    KIND_CLOSE,
    KIND_MARK,
    KIND_OPEN,
    KIND_STACK,
    KIND_SWITCH,
    SLOTS,
    TRACEPOINTS,
    base_name,
    function_of,
    guess,
    label_of,
    slot_of,
)
from collectors.records import dataclass, field
from collectors.traceevent.formats import FUNCTION_FIELDS
from collectors.traceevent.symbols import function_around, names_at, shown_around

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.symbols.table import Symbols
    from collectors.traceevent.formats import EventFormat, Field

_BLOCKED: Final = 2
"""TASK_UNINTERRUPTIBLE in prev_state (include/linux/sched.h)."""
_PROBE_LINE: Final = re.compile(r"^([pr])\d*:(?:([\w.-]+)/)?([\w.-]+)\s+(?:[\w-]+:)?(\S+)")


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
class RowPlan:
    """How rows are made from the records of one (event, address) pair."""

    kind: int
    event: EventFormat | None = None
    caller: Field | None = None
    values: dict[int, tuple[Field, int]] = field(default_factory=dict)
    """Slot to field and mask (0: the value itself; else whether a bit of the mask is set)."""
    entry: int | None = None
    """Of a function_graph event: kind of the function's entry; None: not known to hmtrace."""
    name: str = ""
    """Of a function_graph event: the function, as call site of what is inside."""

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
        """As :func:`collectors.traceevent.fill.fill_rows` wants it."""
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


class Interpreter:
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
        self.symbols = symbols
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

    def of(self, event_id: int, ip: int) -> tuple[str, RowPlan | None]:
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
        if event.name in TRACEPOINTS and event.system in ("vmalloc", "tlb"):
            return _of_tracepoint(event)
        return event.name, None

    def _of_tracer(self, event: EventFormat, ip: int) -> tuple[str, RowPlan | None]:
        """Interpret an event of ftrace itself: of its tracers, a marker, a stack trace."""
        if event.name == "kernel_stack":
            return event.name, RowPlan(KIND_STACK, event)
        if event.name == "print":
            place = event.number("ip")
            values = {} if place is None else {0: (place, 0)}
            return event.name, RowPlan(KIND_MARK, event, values=values)
        if event.name not in FUNCTION_FIELDS or not ip:
            return event.name, None
        symbol = function_around(self.symbols, ip)
        if symbol is None:
            return event.name, None
        function = FUNCTION_OF.get(base_name(symbol))
        if event.name != "function":
            return self._of_call(event, ip, symbol, function)
        if function is None:
            return symbol, None
        plan = RowPlan(2 * function, event)
        plan.caller = event.number("parent_ip")
        return label_of(plan.kind), plan

    def _of_call(
        self, event: EventFormat, ip: int, symbol: str, function: int | None
    ) -> tuple[str, RowPlan | None]:
        """Interpret begin or end of a call (:mod:`collectors.tracecmd_dat.graphs` goes on).

        Calls of unknown functions are wanted too: they are sites of what is inside.
        """
        depth = event.number("depth")
        entry = None if function is None else 2 * function
        is_end = event.name == "funcgraph_exit"
        plan = RowPlan(KIND_CLOSE if is_end else KIND_OPEN, event, entry=entry)
        plan.name = shown_around(self.symbols, ip)
        if depth is not None:
            plan.values[1] = (depth, 0)
        if is_end:
            # CONFIG_FUNCTION_GRAPH_RETVAL, Linux 6.5
            retval = event.number("retval")
            if retval is not None:
                plan.values[0] = (retval, 0)
            begin, end = event.number("calltime"), event.number("rettime")
            if begin is not None and end is not None:
                plan.values[2], plan.values[3] = (begin, 0), (end, 0)
        else:
            plan.caller = event.number("retaddr")
        if entry is None:
            return f"{symbol} (return)" if is_end else symbol, plan
        return label_of(entry + is_end), plan

    def _of_probe(self, event: EventFormat, ip: int) -> tuple[str, RowPlan | None]:
        """Interpret an event of a kprobe, kretprobe or fprobe (kernel/trace/trace_probe.h)."""
        function = self._probed(event, ip)
        if function is None:
            return event.name, None
        is_return = "__probe_ret_ip" in event.fields
        plan = RowPlan(2 * function + is_return, event)
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
        names = names_at(self.symbols, ip) if ip else []
        for name in names:
            function = _function(name)
            if function is not None:
                return function
        defined = self._probes.get(f"{event.system}/{event.name}", self._probes.get(event.name))
        if defined is not None:
            function = _function(defined)
            if function is not None and len(self.symbols):
                self._moved.add(event.name)
            return function
        if len(self.symbols) and ip:
            return None
        function = guess(event.name)
        if function is not None:
            self._guessed.add(event.name)
        return function


def _function(symbol: str) -> int | None:
    """As :func:`function_of`; None for what is no symbol at all (in a damaged file)."""
    try:
        return function_of(symbol)
    except ValueError:
        return None


def _list(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more


def _of_tracepoint(event: EventFormat) -> tuple[str, RowPlan]:
    """Plan for a tracepoint that becomes an operation."""
    plan = RowPlan(TRACEPOINTS[event.name], event)
    for f in event.own:
        slot = slot_of(plan.kind >> 1, f.name, is_return=bool(plan.kind & 1))
        if f.is_number and slot is not None and slot < SLOTS:
            plan.values.setdefault(slot, (f, 0))
        elif f.is_number and slot == SLOTS:  # what follows it is in the others, too
            plan.caller = f
    return label_of(plan.kind), plan


def _switch(event: EventFormat) -> RowPlan:
    """Plan for sched:sched_switch (include/trace/events/sched.h)."""
    plan = RowPlan(KIND_SWITCH, event)
    for slot, name, mask in ((0, "prev_pid", 0), (1, "prev_state", _BLOCKED), (2, "next_pid", 0)):
        found = event.number(name)
        if found is not None:
            plan.values[slot] = (found, mask)
    return plan
