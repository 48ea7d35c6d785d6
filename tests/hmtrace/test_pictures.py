"""Histograms of times and the map of slots, drawn from figures that were made by hand."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from hmtrace.report.histograms import Histograms, NamedTimes, Scale, times_sections
from hmtrace.report.slotmap import SlotPicture, slots_section
from hmtrace.report.text import unglued
from replay.outcome import Histogram, HoldHistogram, Observed
from replay.over_time import SlotMap, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

QUARTER = 2**0.25


def lines(renderables: Iterable[RenderableType], width: int = 60) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    return [line.rstrip() for line in unglued(captured.get()).splitlines()]


def times(**counts: int) -> Histogram:
    """Counts by bins named after their beginning, as of ``ns1000=3``."""
    edges = {float(name.removeprefix("ns")): number for name, number in counts.items()}
    return Histogram(tuple(edges), tuple(edges.values()))


def test_times_stand_over_their_decades() -> None:
    """1024 ns is bin 40 of quarters, 1 µs bin 39: three decades are 39.9 quarters."""
    one = times(ns1024=99, ns1048576=1)
    shown = lines([Histograms([NamedTimes("kmap", one)])], 60)
    top, bottom, axis, labels = shown
    assert top.index("█") == bottom.index("█") == bottom.index("│") + 1
    assert bottom.index("▁") - bottom.index("█") == 40
    assert bottom.startswith("kmap  100 │")
    assert axis.index("┴") + 13 == axis.index("┴", axis.index("┴") + 1)
    assert labels.index("10 µs") == axis.index("┴")


def test_bins_are_joined_where_there_is_no_room_and_widened_where_there_is() -> None:
    far = times(ns1=1, ns1073741824=1)
    assert Scale.of([far], 200) == Scale(first=0, bins=121, join=1, wide=1)
    assert Scale.of([far], 60) == Scale(first=0, bins=31, join=4, wide=1)
    near = times(ns16=1, ns32=1)
    assert Scale.of([near], 60) == Scale(first=16, bins=5, join=1, wide=12)
    assert Scale.of([near], 60).columns(near) == [1] * 12 + [0] * 36 + [1] * 12


@pytest.mark.parametrize("number", range(0, 200, 7))
def test_each_bin_is_found_again(number: int) -> None:
    edge = round(QUARTER**number, 3)
    scale = Scale.of([Histogram((edge,), (1,))], 8)
    assert scale == Scale(first=number, bins=1, join=1, wide=8)


def test_zero_is_in_the_first_bin() -> None:
    scale = Scale.of([times(ns0=3, ns1=2)], 8)
    assert scale.columns(times(ns0=3, ns1=2)) == [5] * 8


def test_nothing_is_drawn_of_no_times() -> None:
    assert list(times_sections(None)) == []
    assert list(times_sections(Observed())) == []
    held = Observed(holds=(HoldHistogram("kmap", 1, times(ns100=1)),))
    assert lines(times_sections(held))[1].startswith("Hold times")


def slot_map(*rows: tuple[list[int], list[int]]) -> SlotMap:
    return SlotMap(*(tuple(map(tuple, side)) for side in zip(*rows, strict=True)))


def test_slots_lie_above_each_other_by_number() -> None:
    shown = slot_map(
        ([255, 0, 0, 0], [0, 255, 0, 0]),
        ([0, 100, 0, 0], [0, 0, 255, 0]),
        ([0, 0, 200, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 1], [0, 0, 0, 0]),
    )
    picture = lines([SlotPicture(shown, 4, "0", "4 s")], 12)
    assert [line.partition("│")[2] or line.partition("┤")[2] for line in picture[:4]] == [
        "      ▒▒", "    ██", "  ▓▓░░", "██░░",
    ]  # fmt: skip
    assert picture[3].startswith(" 0 ┤")
    assert picture[5].split() == ["0", "4", "s"]


def test_a_cell_is_the_mean_of_its_slots_and_never_empty_where_one_was_used() -> None:
    half = ([255, 0], [0, 0])
    shown = slot_map(half, ([0, 0], [0, 1]), ([0, 0], [0, 0]), ([0, 0], [0, 0]))
    picture = lines([SlotPicture(shown, 1, "", "")], 12)
    assert picture[0] == " 0 ┤▒▒▒▒░░░░"


def test_pictures_of_slots_need_a_pool() -> None:
    line: dict[str, Any] = {
        "start_ns": 0, "end_ns": 8, "bin_ns": 1, "bins": 8, "column_ns": 4, "columns": 2,
    }  # fmt: skip
    assert list(slots_section(None)) == []
    assert list(slots_section(Timeline(**line))) == []
    many = slot_map(*[([255, 0], [0, 255])] * 512)
    shown = lines(slots_section(Timeline(**line, slot_map=many)), 80)
    assert "Slots over time" in shown[1]
    assert len(shown) == 1 + 1 + 16 + 2 + 1
    assert "(32 slots a line)" in shown[-1]
    assert shown[2].count("█") == 37
    assert shown[2].count("░") == 36
