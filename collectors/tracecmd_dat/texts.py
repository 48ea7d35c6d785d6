"""Markers and stack traces of a trace.dat: what a row cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.probes import KIND_MARK, KIND_OTHER, KIND_STACK
from collectors.traceevent.marks import MAX_LENGTH, MAX_MARKS
from collectors.traceevent.stacks import MAX_STACKS, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from collectors.symbols.table import Symbols
    from collectors.tracecmd_dat.decode import RecordPool
    from collectors.traceevent.meaning import RowPlan

_TRAMPOLINE = 0x7FFF_FFFE
"""FTRACE_TRAMPOLINE_MARKER on 32 bits (kernel/trace/trace.h)."""


class Texts:
    """Markers and different stack traces so far.

    Parameters
    ----------
    symbols
        Of the traced kernel.
    order
        Endianness of the traced machine.
    word
        Bytes of the traced kernel's long.

    Attributes
    ----------
    marks, stacks
        As in :class:`collectors.raw.RawEvents`.
    """

    def __init__(self, symbols: Symbols, order: str, word: int) -> None:
        self.marks: list[str] = []
        self.stacks = [""]
        self._symbols = symbols
        self._order = "big" if order == "big" else "little"
        self._dtype = np.dtype(f"{'>' if order == 'big' else '<'}u{word}")
        self._numbers: dict[bytes, int] = {}
        self._names: dict[int, str] = {}

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        if len(self._numbers) < MAX_STACKS:
            return []
        return [f"more than {MAX_STACKS} different stack traces: the others are left out"]

    def take(
        self,
        rows: NDArray[np.void],
        order: NDArray[np.int64],
        pool: RecordPool,
        spans: Mapping[int, NDArray[np.uint8]],
        plans: Sequence[RowPlan],
    ) -> None:
        """Take the texts of the markers and stack traces among rows that were just made.

        Parameters
        ----------
        rows, order, pool, spans
            As of :meth:`collectors.tracecmd_dat.names.TaskNames.learn`.
        plans
            By their numbers.
        """
        for row in np.flatnonzero((rows["kind"] == KIND_MARK) | (rows["kind"] == KIND_STACK)):
            source = int(order[row])
            at, length = int(pool.at[source]), int(pool.length[source])
            record = spans[source >> pool.shift][at : at + length]
            plan = plans[int(pool.plan[source])]
            if rows["kind"][row] == KIND_MARK:
                self._mark(rows[row], record, plan)
            else:
                rows["values"][row, 0] = self._stack(record, plan)
                rows["present"][row] = 1

    def _mark(self, row: np.void, record: NDArray[np.uint8], plan: RowPlan) -> None:
        """Number a marker; a text that trace_printk() wrote is none."""
        event = plan.event
        text = None if event is None else event.fields.get("buf")
        ip = int(row["values"][0])
        row["values"], row["present"] = 0, 0
        if ip and self._name(ip).partition("+")[0] not in ("", "tracing_mark_write"):
            row["kind"] = KIND_OTHER
        elif text is not None and len(self.marks) < MAX_MARKS:
            data = record[text.offset :].tobytes().split(b"\0", 1)[0][:MAX_LENGTH]
            row["values"][0], row["present"] = len(self.marks), 1
            self.marks.append(data.decode("utf-8", "replace").strip())

    def _stack(self, record: NDArray[np.uint8], plan: RowPlan) -> int:
        """Number a stack trace; 0 where there are too many different ones."""
        event = plan.event
        if event is None or "caller" not in event.fields:
            return 0
        start = event.fields["caller"].offset
        data = record[start:].tobytes()
        size = event.number("size")
        if size is not None and size.offset + size.size <= len(record):
            place = slice(size.offset, size.offset + size.size)
            count = int.from_bytes(record[place].tobytes(), self._order)  # type: ignore[arg-type]
            data = data[: count * self._dtype.itemsize]
        number = self._numbers.get(data)
        if number is None and len(self._numbers) < MAX_STACKS:
            self._numbers[data] = number = len(self.stacks)
            whole = len(data) // self._dtype.itemsize * self._dtype.itemsize
            callers = np.frombuffer(data[:whole], self._dtype).tolist()
            top = (1 << 8 * self._dtype.itemsize) - 1  # ends the list in old kernels
            frames = [self._frame(ip) for ip in callers if ip != top]
            self.stacks.append(SEPARATOR.join(frames))
        return number or 0

    def _frame(self, address: int) -> str:
        """Name a place in a stack trace, as the kernel prints it."""
        if address == _TRAMPOLINE:
            return "[FTRACE TRAMPOLINE]"
        return self._name(address) or f"{address:#x}"

    def _name(self, address: int) -> str:
        if address not in self._names:
            self._names[address] = self._symbols.lookup(address)
        return self._names[address]
