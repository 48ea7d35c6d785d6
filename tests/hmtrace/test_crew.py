"""What is handed to a process at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hmtrace.cli.crew import Backlog
from replay.machine.model import Machine
from replay.whatif.sweep import Candidate, Likeness

MACHINE = Machine(arch="i386")


def candidates(**axes: str) -> list[Candidate]:
    found: list[dict[str, str]] = [{}]
    for name, words in axes.items():
        found = [{**one, name: word} for one in found for word in words.split()]
    return [Candidate(words, MACHINE) for words in found]


def likeness(grid: list[Candidate], maps: int, allocs: int) -> Likeness:
    captured = SimpleNamespace(
        pool=SimpleNamespace(maps=maps, unmaps=maps), arena=SimpleNamespace(allocs=allocs)
    )
    return Likeness(grid, cast("Any", captured))


def test_who_shares_what_takes_longest_stays_together() -> None:
    """The pool of a trace with many kmap() calls, the arena of one with many vmalloc() calls."""
    grid = candidates(split="2g 3g", pkmap="128 256 512", cpus="1 2")
    pools = likeness(grid, 10_000_000, 100).ordered(grid)
    assert [one.words["pkmap"] for one in pools] == ["128"] * 4 + ["256"] * 4 + ["512"] * 4
    arenas = likeness(grid, 1000, 100_000).ordered(grid)
    assert [one.words["split"] for one in arenas] == ["2g"] * 6 + ["3g"] * 6
    assert [one.words["pkmap"] for one in arenas] == ["128", "128", "256", "256", "512", "512"] * 2


def test_parts_end_where_groups_do() -> None:
    grid = candidates(pkmap="1 2 3", cpus="1 2 3 4")
    queue = Backlog(likeness(grid, 10_000_000, 100).group)
    queue.add(grid)
    assert queue.part(1, 99) == grid[:4]
    assert queue.part(2, 3, last=True) == grid[:8:-1]
    assert queue.part(1, 99, last=True) == [grid[8]]
    assert queue.first() == grid[4]
    assert queue.part(0, 1) == [grid[5]]
    assert queue.part(99, 1) == grid[6:8]
    assert not queue
