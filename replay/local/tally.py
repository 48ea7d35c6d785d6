"""Figures of the local mappings, counted up piece by piece."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from replay.outcome import LocalOutcome
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.local.stacks import LocalPiece
    from replay.machine.model import Layout
    from replay.trace.told import Told


@dataclass
class LocalTally:
    """What local mappings come to.

    Attributes
    ----------
    lowmem
        Calls for pages that need no slot.
    reused
        Calls that found a mapping of the pool (kmap_high_get).
    unknown
        Calls of which neither page nor address is known.
    unmaps
        Unmaps that gave a slot back.
    switches, saved
        Context switches that found mappings held, and how many they found.
    depths
        Number of mappings by CPU and depth (0: the first).
    turned
        Mappings that the trace has none of, since they need a slot on another machine only; their
        depth is not known.
    hold, deep, switched
        Time and row of the mapping that was held longest, depth and row of the first of the deepest
        ones, and the row of the first switch that found mappings held; NO_ROW none.
    """

    lowmem: int = 0
    reused: int = 0
    unknown: int = 0
    unmaps: int = 0
    switches: int = 0
    saved: int = 0
    depths: Counter[tuple[int, int]] = field(default_factory=Counter)
    turned: int = 0
    hold: tuple[int, int] = (-1, NO_ROW)
    deep: tuple[int, int] = (-1, NO_ROW)
    switched: int = NO_ROW

    def take(self, piece: LocalPiece) -> None:
        """Count what happened in a piece of the trace, and keep the rows of what to name."""
        self.add(piece.depth, piece.cpu, piece.switches)
        self.unmaps += piece.unmaps
        self.lowmem += piece.lowmem
        self.reused += piece.reused
        self.unknown += piece.unknown
        self._note(piece)

    def add(
        self, depth: NDArray[np.int32], cpu: NDArray[np.int32], switches: NDArray[np.int32]
    ) -> None:
        """Count mappings that took a slot, and switches by the mappings that each found held."""
        # Both in one number: numpy compares pairs byte by byte, which takes twenty times as long.
        pairs, number = np.unique((cpu.astype(np.int64) << 32) + depth, return_counts=True)
        for pair, times in zip(pairs.tolist(), number.tolist(), strict=True):
            on = (pair + (1 << 31)) >> 32
            self.depths[on, pair - (on << 32)] += times
        self.switches += switches.size
        self.saved += int(switches.sum(dtype=np.int64))

    def _note(self, piece: LocalPiece) -> None:
        """Keep the rows of what is worth naming."""
        if piece.hold_ns.size:
            longest = int(np.argmax(piece.hold_ns))
            self.hold = max(
                self.hold, (int(piece.hold_ns[longest]), int(piece.ended[longest])), key=_figure
            )
        if piece.depth.size:
            deepest = int(np.argmax(piece.depth))
            self.deep = max(
                self.deep, (int(piece.depth[deepest]), int(piece.row[deepest])), key=_figure
            )
        if piece.switch_rows.size and self.switched == NO_ROW:
            self.switched = int(piece.switch_rows[0])

    def rows(self) -> set[int]:
        """Rows that :meth:`outcome` needs to name tasks."""
        return {self.hold[1], self.deep[1], self.switched}

    def outcome(self, layout: Layout, told: Told | None = None) -> LocalOutcome:
        """The figures, with the flushes that the machine makes for them.

        Parameters
        ----------
        layout
            Of the machine.
        told
            What the rows of :meth:`rows` tell; None: of another machine, where nobody is named.
        """
        maps = self.depths.total() + self.turned
        single = self.saved  # taking mappings down at a switch always flushes
        if layout.local_flush_on_map:
            single += maps + self.saved
        if layout.local_flush_on_unmap:
            single += self.unmaps
        by_cpu: dict[int, list[int]] = {}
        for (cpu, depth), number in sorted(self.depths.items()):
            levels = by_cpu.setdefault(cpu, [])
            levels.extend([0] * (depth - len(levels)))
            levels.append(number)
        return LocalOutcome(
            maps=maps,
            lowmem=self.lowmem,
            reused=self.reused,
            unknown=self.unknown,
            unmaps=self.unmaps,
            max_depth=max((depth + 1 for _, depth in self.depths), default=0),
            limit=layout.km_usable_depth,
            depth_by_cpu={cpu: tuple(levels) for cpu, levels in by_cpu.items()},
            saved_on_switch=self.switches,
            mappings_saved=self.saved,
            tlb_single=single,
            longest_hold_ns=self.hold[0] if told is not None and self.hold[0] >= 0 else None,
            longest_hold=None if told is None else moment(told, self.hold[1]),
            deepest=None if told is None else moment(told, self.deep[1]),
            first_switch=None if told is None else moment(told, self.switched),
        )


def _figure(noted: tuple[int, int]) -> int:
    return noted[0]
