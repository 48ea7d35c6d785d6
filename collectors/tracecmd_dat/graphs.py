"""Calls that the function_graph tracer recorded: which is inside which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.probes import KIND_CLOSE, KIND_OPEN, KIND_OTHER
from collectors.traceevent.calls import GraphCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from collectors.symbols.table import Symbols
    from collectors.traceevent.meaning import RowPlan

_NAMELESS = (1 << 64) - 1
"""Of the end of a call that hmtrace does not know: ends no other
(:func:`collectors.traceevent.calls.run`)."""
_DURATION, _RESULT = 4, 8  # bits of `present`, as collectors.traceevent.calls has them


class Graphs:
    """Turns rows of the tracer's events into entries and returns with call sites.

    Parameters
    ----------
    symbols
        Of the traced kernel.

    Attributes
    ----------
    sites
        Call sites so far, as in :class:`collectors.raw.RawEvents`.
    """

    def __init__(self, symbols: Symbols) -> None:
        self.sites = [""]
        self._symbols = symbols
        self._calls = GraphCalls()
        self._numbers = {"": 0}
        self._entry = np.zeros(0, np.uint64)  # by plan: kind of the function's entry
        self._name = np.zeros(0, np.uint64)  # number of its name among the sites

    def _number(self, site: str) -> int:
        number = self._numbers.setdefault(site, len(self.sites))
        if number == len(self.sites):
            self.sites.append(site)
        return number

    def resolve(
        self, rows: NDArray[np.void], plan_of: NDArray[np.int32], plans: Sequence[RowPlan]
    ) -> tuple[NDArray[np.void], NDArray[np.int64] | None]:
        """Make entries and returns out of the rows of calls.

        Parameters
        ----------
        rows
            Just made; their values are as :meth:`RowPlan.row` took them: a call's result or 0, its
            depth, and the times of its begin and end.
        plan_of : ndarray of int32, shape (n,)
            Number of each row's plan.
        plans
            By their numbers.

        Returns
        -------
        rows, origin
            Without the calls of functions that hmtrace does not know; and where each was among the
            rows given, None: they are the same.
        """
        calls = np.flatnonzero((rows["kind"] == KIND_OPEN) | (rows["kind"] == KIND_CLOSE))
        if not len(calls):
            return rows, None
        self._learn(plans)
        plan = plan_of[calls]
        values, present = rows["values"][calls], rows["present"][calls]
        timed = present & 12 == 12
        values[:, 2] = np.where(timed, values[:, 3] - values[:, 2], 0)
        values[:, 3] = values[:, 0]
        values[:, 0] = self._entry[plan]
        is_end = rows["kind"][calls] == KIND_CLOSE
        values[is_end & (values[:, 0] == KIND_OTHER), 0] = _NAMELESS
        rows["values"][calls] = values
        rows["present"][calls] = timed * _DURATION | (present & 1) * _RESULT
        self._name_callers(rows, calls)
        rows["caller"][calls] = self._name[plan]
        made = self._calls.resolve(rows)[0]
        return made, self._calls.origin

    def _learn(self, plans: Sequence[RowPlan]) -> None:
        """Take notice of new plans."""
        new = list(plans[len(self._entry) :])
        entry = [KIND_OTHER if p.entry is None else p.entry for p in new]
        name = [self._number(p.name) for p in new]
        self._entry = np.concatenate([self._entry, np.array(entry, np.uint64)])
        self._name = np.concatenate([self._name, np.array(name, np.uint64)])

    def _name_callers(self, rows: NDArray[np.void], calls: NDArray[np.int64]) -> None:
        """Number the return addresses that funcgraph-retaddr (Linux 6.13) recorded as sites."""
        callers = rows["caller"][calls]
        if not callers.any():
            return
        found, which = np.unique(callers, return_inverse=True)
        names = self._symbols.lookup_many(found)
        numbers = np.array([self._number(name) for name in names], np.uint32)
        rows["site"][calls] = numbers[which]
