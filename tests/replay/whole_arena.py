"""The arena's replay of a table that is in memory, with the answer to every allocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from collectors.snapshot import Snapshot
from replay.arena.pieces import ROWS, ArenaCutter, ArenaPieces
from replay.arena.replay import replay_pieces
from replay.arena.result import Answers, ArenaReplay
from replay.machine.generations import GENERATIONS
from replay.trace.losses import NO_GAPS
from replay.trace.parts import Parts
from replay.trace.windows import Window

if TYPE_CHECKING:
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.trace.losses import Gaps


class Replayed:
    """The figures (`found`) and the answers, each by its name."""

    def __init__(self, found: ArenaReplay, answers: Answers) -> None:
        self.found, self.answers = found, answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found if hasattr(self.found, name) else self.answers, name)


def pieces_of(
    events: pl.DataFrame,
    machine: Machine,
    layout: Layout,
    values: Snapshot,
    rows: int = ROWS,
    window: int | None = None,
) -> ArenaPieces:
    """The pieces of a table; in windows of so many rows."""
    pieces = ArenaPieces(Parts())
    ops = set(events.get_column("op").unique().cast(pl.String))
    by_pointer = GENERATIONS[machine.generation].purge_by_pointer
    cutter = ArenaCutter(layout, values, ops, pieces, by_pointer=by_pointer, rows=rows)
    step = max(1, window or events.height)
    for first in range(0, max(1, events.height), step):
        part = events[first : first + step]
        cutter.feed(Window(part, first, last=first + step >= events.height, beyond=0))
    return pieces


def replay_arena(
    events: pl.DataFrame,
    machine: Machine,
    layout: Layout,
    values: Snapshot | None = None,
    losses: Gaps = NO_GAPS,
    rows: int = ROWS,
    window: int | None = None,
) -> Replayed:
    """Replay the arena's calls of a table and compare them with what the kernel did."""
    values = values or Snapshot()
    pieces = pieces_of(events, machine, layout, values, rows, window)
    return replay_of(pieces, machine, layout, values, losses)


def replay_of(
    pieces: ArenaPieces,
    machine: Machine,
    layout: Layout,
    values: Snapshot,
    losses: Gaps = NO_GAPS,
) -> Replayed:
    """Replay the pieces of a table."""
    answers: list[Answers] = []
    found = replay_pieces(pieces, machine, layout, values, losses, answers.append)
    every = Answers(*(np.concatenate(column) for column in zip(*answers, strict=True)))
    return Replayed(found, every)
