"""Call chains of samples (PERF_SAMPLE_CALLCHAIN) as stack traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.probes import KIND_STACK
from collectors.traceevent.stacks import MAX_STACKS, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from collectors.symbols.table import Symbols
    from collectors.traceevent.cursor import Order

_SLOTS: Final = 1 << 10
_CALLER_WORDS: Final = slice(2, 6)
"""Of a row as 64-bit words: its values but the first, and its caller."""


class Chains:
    """The different stack traces of a perf.data so far: the kernel's part of its call chains.

    Parameters
    ----------
    data
        The records.
    order
        Endianness of the records.
    symbols
        Gives the kernel's symbols, once there is a chain.

    Attributes
    ----------
    stacks
        As in :class:`collectors.raw.RawEvents`.
    """

    def __init__(
        self, data: NDArray[np.uint8], order: Order, symbols: Callable[[], Symbols]
    ) -> None:
        self.stacks = [""]
        self._data = data
        self._order = order
        self._symbols = symbols
        self._names: dict[int, str] = {}
        self._table = np.zeros((0, 0), np.int64)
        self._state = np.zeros(0, np.int64)

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        if len(self.stacks) <= MAX_STACKS:
            return []
        return [f"more than {MAX_STACKS} different stack traces: the others are left out"]

    def number(self, chains: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of call chains.

        Parameters
        ----------
        chains : ndarray of int64, shape (n,)
            Their places, as :func:`collectors.perf_data.walk.walk` checked them.

        Returns
        -------
        ndarray of int64, shape (n,)
            Index in `stacks`; 0 where no kernel function is in the chain.
        """
        numbers = np.zeros(len(chains), np.int64)
        if not chains.any():
            return numbers
        from collectors.perf_data import chain_loops as k

        if not len(self._state):
            self._state = np.zeros(k.CELLS, np.int64)
            self._table = np.zeros((_SLOTS, k.SLOT_COLUMNS), np.int64)
        state, big = self._state, self._order == "big"
        state[k.POSITION] = 0
        while status := k.number_chains(self._data, big, chains, state, self._table, numbers):
            if status == k.CROWDED:
                larger = np.zeros((4 * len(self._table), k.SLOT_COLUMNS), np.int64)
                k.move_chains(self._table, larger)
                self._table = larger
                continue
            begin, length = int(state[k.BEGIN]), int(state[k.LENGTH])
            self.stacks.append(self._describe(begin, length))
            state[k.FULL] = len(self.stacks) > MAX_STACKS
        return numbers

    def _describe(self, begin: int, length: int) -> str:
        """Write the addresses at a place as the text readers write stack traces."""
        dtype = np.dtype(">u8" if self._order == "big" else "<u8")
        ips = self._data[begin : begin + 8 * length].view(dtype).tolist()
        for ip in ips:
            if ip not in self._names:
                self._names[ip] = self._symbols().lookup(ip) or f"{ip:#x}"
        return SEPARATOR.join(self._names[ip] for ip in ips)


def with_stacks(
    rows: NDArray[np.void], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Put a row of kind KIND_STACK behind each event that has a stack trace.

    Parameters
    ----------
    rows
        Raw events.
    numbers : ndarray of int64, shape (n,)
        Of their stack traces; 0 none.

    Returns
    -------
    rows, origin
        With the stack traces; and for each the event's index in the old rows.
    """
    if not numbers.any():
        return rows, np.arange(len(rows))
    origin = np.repeat(np.arange(len(rows)), 1 + (numbers > 0))
    words = rows.view(np.int64).reshape(len(rows), -1)[origin]
    made = words.view(rows.dtype).reshape(-1)
    stacked = np.flatnonzero(origin[1:] == origin[:-1]) + 1
    words[stacked, _CALLER_WORDS] = 0
    made["values"][stacked, 0] = numbers[origin[stacked]]
    made["kind"][stacked] = KIND_STACK
    made["present"][stacked] = 1
    return made, origin
