"""The arena in pieces: the same as in one, wherever windows and pieces end, in flat memory."""

from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from collectors.snapshot import Snapshot
from hmtrace.cli import app
from replay.arena import pieces as arena_pieces
from replay.arena.calls import ArenaCalls
from replay.arena.pieces import LONGEST
from replay.arena.replay import ArenaPlayer
from replay.arena.result import AMBIGUOUS, CERTAIN, WRONG
from replay.machine.layout import layout_of
from replay.trace.sanitise import within_bounds
from tests.opened import FIXTURES, opened
from tests.replay import arena_simulator as sim
from tests.replay import test_windows_random as random_tables
from tests.replay.test_arena_replay import PC, PURGES_PROBED, P, _alloc
from tests.replay.whole_arena import pieces_of, replay_arena, replay_of

if TYPE_CHECKING:
    from pathlib import Path

    from replay.arena.pieces import ArenaPiece, ArenaPieces
    from replay.arena.replay import Played
    from tests.replay.whole_arena import Replayed

A = 0xF7800000


def same(found: Replayed, expected: Replayed) -> None:
    """All figures and all answers."""
    for name in (f.name for f in fields(expected.found)):
        assert getattr(found.found, name) == getattr(expected.found, name), name
    for name, values in expected.answers._asdict().items():
        assert np.array_equal(getattr(found.answers, name), values), name


@cache
def table_of(name: str) -> tuple[Any, ...]:
    """Events, machine, layout and facts of a capture."""
    capture, machine = opened(name)
    events = capture.events.collect().sort("seq")
    return events, machine, layout_of(machine), capture.facts.snapshot()


@cache
def whole(name: str) -> Replayed:
    """The arena of a capture replayed in one piece."""
    return replay_arena(*table_of(name))


def pieces_in_windows(args: tuple[Any, ...], rows: int, window: int) -> ArenaPieces:
    """The pieces of a table read in windows: the same as of one that is read at once.

    What is known of a task before its purge may be told by an event that other windows leave out:
    where it is, the replays of the pieces are compared, too.
    """
    events, *rest = args
    found, expected = (pieces_of(events, *rest, rows=rows, window=size) for size in (window, None))
    alike = [same_piece(*pair) for pair in zip(found, expected, strict=True)]
    if not all(alike):
        same(replay_of(found, *rest), replay_of(expected, *rest))
    return found


def same_piece(found: ArenaPiece, expected: ArenaPiece) -> bool:
    """Every table of a piece, but for what is known of tasks before: whether it is the same."""
    for name in ("begin", "end", "forced", "last", "next_purge"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in (f.name for f in fields(ArenaCalls)):
        ours, theirs = getattr(found.calls, name), getattr(expected.calls, name)
        assert ours.equals(theirs) if isinstance(ours, pl.DataFrame) else ours == theirs, name
    assert found.bounds.equals(expected.bounds)
    assert found.blocks.drop("before").equals(expected.blocks.drop("before"))
    return found.blocks.equals(expected.blocks)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("i386-arena-pae-m2048-smp2", 250),
        ("i386-hog-e-vmapfail-pae-smp1", 500),
        ("i386-510-hog-e-vmapfail-pae-smp1", 700),
        ("arm-612-percpu-lpae-smp2", 100),
        ("i386-44-mix-pae-smp2", 100),
        ("i386-twin-vmap-vmalloc128", 1000),
        ("cases/i386-open-purge", 1),
        ("cases/i386-open-purge", 7),
        ("cases/i386-overflow-behind-purge", 100),
        ("cases/arm-vmallocinfo-end-lost", 3),
        ("cases/arm-vmallocinfo-end-lost", 7),
    ],
)
def test_pieces_come_to_the_same_as_the_whole(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena_pieces, "LONGEST", 1_000)  # a purge may be open for longer
    same(replay_arena(*table_of(name), rows=rows), whole(name))


@pytest.mark.parametrize(
    ("name", "window", "rows"),
    [
        ("i386-arena-pae-m2048-smp2", 777, 250),
        ("i386-510-hog-e-vmapfail-pae-smp1", 100, 300),
        ("arm-612-percpu-lpae-smp2", 100, 100),
        ("arm-612-percpu-lpae-smp2", 100, 100_000),
        ("cases/i386-open-purge", 1, 10),
        ("cases/i386-open-purge", 7, 3),
        ("cases/i386-overflow-behind-purge", 1, 20),
        ("cases/i386-overflow-behind-purge", 7, 1_000),
        ("cases/arm-vmallocinfo-end-lost", 1, 1_000),
        ("cases/arm-vmallocinfo-end-lost", 7, 5),
    ],
)
def test_where_windows_end_changes_nothing(name: str, window: int, rows: int) -> None:
    pieces_in_windows(table_of(name), rows, window)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("window", "rows"), [(1, 1_000), (7, 40), (100, 15)])
def test_random_tables_in_any_windows(seed: int, window: int, rows: int) -> None:
    """Nonsense included: what is under way may never end."""
    events, _ = within_bounds(random_tables.table(seed, 500 if window > 1 else 150))
    machine = random_tables.OLD if seed % 2 else random_tables.I386
    values = random_tables.VALUES if seed % 3 else Snapshot()
    args = events, machine, layout_of(machine), values
    replay_of(pieces_in_windows(args, rows, window), *args[1:])


@pytest.mark.parametrize("generation", ["5.10", "6.1", "6.12"])
@pytest.mark.parametrize("seed", range(3))
def test_races_in_pieces(generation: str, seed: int) -> None:
    """Calls on several CPUs overlap: no cut parts them."""
    events, areas = sim.simulate(seed, 500, 3, generation, (1, P))
    machine = replace(PC, generation=generation)
    values = Snapshot(areas=areas, probes=(PURGES_PROBED,))
    args = events, machine, layout_of(machine), values
    whole, found = replay_arena(*args), replay_arena(*args, rows=60)
    assert found.wrong == whole.wrong == 0
    assert (found.predicted == whole.predicted).mean() > 0.99
    assert found.certain > 0.9 * whole.certain
    assert found.purges == whole.purges


def test_pieces_end_where_nothing_is_under_way() -> None:
    events, machine, layout, values = table_of("i386-arena-pae-m2048-smp2")
    pieces = list(pieces_of(events, machine, layout, values, rows=400))
    assert len(pieces) > 5
    assert [p.begin for p in pieces[1:]] == [p.end for p in pieces[:-1]]
    assert [p.last for p in pieces] == [False] * (len(pieces) - 1) + [True]
    for piece in pieces:
        calls = piece.calls
        for frame in (calls.allocs, calls.purges):
            assert frame["hi"].max() is None or frame["hi"].max() < piece.end
        assert not piece.forced


def test_pieces_and_what_they_came_to_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are read, and of those that are put in order, two are there at a time."""
    seen: list[tuple[weakref.ref[Any], ...]] = []
    most = [0, 0]
    take = ArenaPlayer.take

    def noted(player: ArenaPlayer, piece: ArenaPiece) -> Played:
        played = take(player, piece)
        seen.append((weakref.ref(piece), weakref.ref(played)))
        for n, of_kind in enumerate(zip(*seen, strict=True)):
            most[n] = max(most[n], sum(each() is not None for each in of_kind))
        return played

    monkeypatch.setattr(ArenaPlayer, "take", noted)
    replay_arena(*table_of("i386-arena-pae-m2048-smp2"), rows=100)
    assert len(seen) > 10
    assert max(most) <= 2


def forever(rows: int) -> tuple[Replayed, list[bool]]:
    """A call that never returns, and pairs of calls that do."""
    lost = {**_alloc(2, 3, P, None), "pid": 77, "end_seq": None}
    pairs = [
        row
        for n in range(40)
        for row in (
            _alloc(10 + 4 * n, 11 + 4 * n, 2 * P, A + P + 2 * P * n),
            {"seq": 12 + 4 * n, "op": "area_free", "pid": 3, "vaddr": A + P + 2 * P * n,
             "end": A + 3 * P + 2 * P * n},
        )
    ]  # fmt: skip
    from collectors.events import SCHEMA

    table = pl.DataFrame([lost, *pairs], schema_overrides=SCHEMA)
    table = pl.concat([pl.DataFrame(schema=SCHEMA), table], how="diagonal_relaxed").select(*SCHEMA)
    table = table.cast(SCHEMA).with_columns(pl.col("ctx", "cpu", "ts").fill_null(0))
    below = sim.Area(A - 2 * P, A, "vmalloc", "")
    values = Snapshot(areas=(below,), probes=(PURGES_PROBED,))
    args = table, PC, layout_of(PC), values
    forced = [piece.forced for piece in pieces_of(*args, rows=rows)]
    return replay_arena(*args, rows=rows), forced


def test_a_call_that_never_returns_holds_nothing_for_ever() -> None:
    rows = 5
    found, forced = forever(rows)
    assert forced[0]
    assert len(forced) > 2
    verdict = found.verdict[1:]
    assert found.wrong == 0
    assert (verdict[rows * LONGEST // 2 :] == AMBIGUOUS).all()
    assert any("returns with a larger maxactive" in caveat for caveat in found.caveats)
    whole, forced = forever(1_000)
    assert forced == [False]
    assert not any("maxactive" in caveat for caveat in whole.caveats)
    assert WRONG not in whole.verdict
    assert CERTAIN in whole.verdict[1:]


_CHILD = """
import os, re, sys
os.environ["POLARS_ROW_GROUP_PREFETCH_SIZE"] = "2"  # as the program
from pathlib import Path
from replay.arena import pieces
from replay.trace import parts
pieces.ROWS, parts.IN_MEMORY = 4_000, 1 << 20
from collectors import open_capture
from replay.machine.from_facts import machine_from
from replay.machine.options import with_options
from replay.validate.run import validate
from replay.whatif.run import what_if
from replay.walk import TraceWalk
import polars as pl

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])

looked = []
windows = TraceWalk.windows
TraceWalk.windows = lambda walk: looked.append(peak()) or windows(walk)
capture = open_capture(sys.argv[1])
values = capture.facts.snapshot()
machine = machine_from(values)[0]
events = pl.scan_parquet(sys.argv[3])
if sys.argv[2] == "validate":
    done = validate(events, machine, values=values, rows=20_000).vmap.total
else:
    there = with_options(machine, vmalloc=200 << 20)
    done = what_if(events, machine, there, values=values, rows=20_000)[1].arena.allocs
print(done, peak() - looked[0])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_arenas_events(tmp_path: Path) -> None:
    """Four times as many areas asked for, freed and purged take no more memory.

    Over what the first look at the table took, whose Parquet file polars maps.
    """
    found: dict[str, list[tuple[int, int]]] = {"validate": [], "replay": []}
    path = tmp_path / "storm.parquet"
    options = ["--events", "240000", "--cpus", "1", "-o", str(path)]
    assert CliRunner().invoke(app, ["synth", "purge-storm", *options]).exit_code == 0
    whole = pl.read_parquet(path)
    for number in (whole.height // 4, whole.height):
        rows = tmp_path / f"{number}-rows.parquet"
        whole.head(number).write_parquet(rows, row_group_size=20_000)
        for command, figures in found.items():
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(path), command, str(rows)],
                capture_output=True, text=True, check=True, cwd=FIXTURES.parent,
            )  # fmt: skip
            total, peak = map(int, done.stdout.split())
            figures.append((total, peak))
    for (few, low), (many, high) in found.values():
        assert many > 3.5 * few > 20_000
        assert high < low + 25_000  # kB
