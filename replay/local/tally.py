"""Figures of the local mappings, counted up piece by piece."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from collectors.records import dataclass, field
from replay.outcome import LocalOutcome, WrongOrder
from replay.trace.told import NO_ROW, moment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.local.stacks import LocalPiece
    from replay.local.wrong import WrongUnmaps
    from replay.machine.model import Layout
    from replay.outcome import Moment
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
    wrong
        Unmaps that are wrong, by their kind (:mod:`replay.local.loops`).
    first_wrong, first_stray
        Row of the first unmap of another than the newest mapping, slot given, newest slot and that
        mapping's row; row of the first without a mapping of its own, and of another task's that it
        was given.
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
    wrong: Counter[int] = field(default_factory=Counter)
    first_wrong: tuple[int, int, int, int] = (NO_ROW, -1, -1, NO_ROW)
    first_stray: tuple[int, int] = (NO_ROW, NO_ROW)
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
        if piece.wrong.row.size:
            self._note_wrong(piece.wrong)
        if piece.switch_rows.size and self.switched == NO_ROW:
            self.switched = int(piece.switch_rows[0])

    def _note_wrong(self, wrong: WrongUnmaps) -> None:
        """Count unmaps that are wrong, and keep the first ones."""
        from replay.local.loops import ELSEWHERE, NOT_NEWEST, STRAY

        kinds, number = np.unique(wrong.kind, return_counts=True)
        self.wrong.update(dict(zip(kinds.tolist(), number.tolist(), strict=True)))
        order = np.flatnonzero(wrong.kind == NOT_NEWEST)
        if order.size and self.first_wrong[0] == NO_ROW:
            columns = (wrong.row, wrong.given, wrong.newest, wrong.newest_row)
            row, given, newest, mapped = (int(column[order[0]]) for column in columns)
            self.first_wrong = row, given, newest, mapped
        stray = np.flatnonzero((wrong.kind == STRAY) | (wrong.kind == ELSEWHERE))
        if stray.size and self.first_stray[0] == NO_ROW:
            self.first_stray = int(wrong.row[stray[0]]), int(wrong.owner_row[stray[0]])

    def _order(self, layout: Layout, told: Told) -> WrongOrder | None:
        """Unmaps in the wrong order, or of nobody's mapping; None: there were none.

        One above the newest mapping counts where one below it was given before: it is what such
        leaves behind. By itself it may be one whose mapping was not traced.
        """
        from replay.local.loops import ELSEWHERE, NOT_HELD, NOT_NEWEST, STRAY

        wrong = self.wrong[NOT_NEWEST]
        strays = self.wrong[STRAY] + self.wrong[ELSEWHERE]
        if not wrong + strays:
            return None
        row, given, newest, mapped = self.first_wrong
        level = layout.km_max_idx
        return WrongOrder(
            unmaps=wrong + (self.wrong[NOT_HELD] if wrong else 0),
            given=given % level // layout.km_step if wrong else None,
            newest=newest % level // layout.km_step if wrong else None,
            first=_told_by(moment(told, row), moment(told, mapped)),
            strays=strays,
            first_stray=moment(told, self.first_stray[0]),
            holder=moment(told, self.first_stray[1]),
        )

    def rows(self) -> set[int]:
        """Rows that :meth:`outcome` needs to name tasks."""
        own = {self.hold[1], self.deep[1], self.switched}
        return own | {self.first_wrong[0], self.first_wrong[3], *self.first_stray}

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
            wrong_order=None if told is None else self._order(layout, told),
        )


def _told_by(unmap: Moment | None, mapping: Moment | None) -> Moment | None:
    """An unmap with the call site of its mapping, where it has none of its own."""
    if unmap is None or mapping is None or unmap.site is not None:
        return unmap
    return replace(unmap, site=mapping.site)


def _figure(noted: tuple[int, int]) -> int:
    return noted[0]
