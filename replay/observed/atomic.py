"""Calls of kmap() where it must not be made: where nobody may sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.events import IN_INTERRUPT, OP_CODE, Ctx
from replay.outcome import AtomicKmaps
from replay.trace.columns import filled, has_ops, op_codes
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    import polars as pl

    from replay.trace.told import Told

_STATES: Final = (IN_INTERRUPT, int(Ctx.IRQS_OFF), int(Ctx.PREEMPT_OFF))
_KMAP: Final = OP_CODE["kmap"]
_OWN: Final = 0.5
"""Share of the calls from which on a state is the probes' own: a probe that traps has interrupts
off while it records (ARM, MIPS), perf has preemption off."""


class AtomicTally:
    """Counts calls of kmap() by the state of their CPU, piece by piece."""

    def __init__(self) -> None:
        self._calls = 0
        self._number = [0] * len(_STATES)
        self._first = [NO_ROW] * len(_STATES)

    def feed(self, events: pl.DataFrame, first_row: int) -> None:
        """Count a piece of the event table, which begins with this row."""
        if not has_ops(events, ("kmap",)):
            return
        is_call = op_codes(events) == _KMAP
        context = filled(events.get_column("ctx"), int(Ctx.UNKNOWN))
        is_told = is_call & (context & int(Ctx.UNKNOWN) == 0)
        self._calls += int(np.count_nonzero(is_call))
        for number, bits in enumerate(_STATES):
            inside = is_told & (context & bits != 0)
            self._number[number] += int(np.count_nonzero(inside))
            if self._first[number] == NO_ROW and inside.any():
                self._first[number] = first_row + int(inside.argmax())

    def rows(self) -> set[int]:
        """Rows that :meth:`result` needs to name tasks."""
        return set(self._first)

    def result(self, told: Told) -> AtomicKmaps:
        """What was counted so far."""
        told_by = [n <= _OWN * self._calls for n in self._number]
        interrupts, irqs, preempt = self._number
        rows = [
            row
            for row, is_told in zip(self._first, told_by, strict=True)
            if row != NO_ROW and is_told
        ]
        return AtomicKmaps(
            self._calls,
            interrupts if told_by[0] else 0,
            irqs if told_by[1] else None,
            preempt if told_by[2] else None,
            moment(told, min(rows, default=NO_ROW)),
        )
