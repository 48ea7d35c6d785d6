"""What charts of a page are drawn from: the timeline's own figures, and words that agree."""

from __future__ import annotations

import base64

import pytest

from hmtrace.html.timeline import MAP_ROWS, TimelineParts, timeline_data, timeline_section
from hmtrace.report.text import unglued
from replay.over_time import (
    ArenaLine,
    ArenaMap,
    LocalLine,
    MarkLine,
    PoolLine,
    SlotMap,
    Timeline,
)
from tests.hmtrace.conftest import busy_outcome, source_of

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
"""More than a script's numbers hold exactly."""
MIB = 1 << 20


def line(**changes: object) -> Timeline:
    parts: dict[str, object] = {
        "start_ns": START, "end_ns": START + 3 * SECOND, "bin_ns": SECOND, "bins": 3,
        "column_ns": 3 * SECOND, "columns": 1,
    }  # fmt: skip
    return Timeline(**(parts | changes))  # type: ignore[arg-type]


def parts_of(timeline: Timeline) -> TimelineParts:
    parts = timeline_section(source_of(), busy_outcome(), timeline).parts
    assert isinstance(parts, TimelineParts)
    return parts


def test_words_tell_the_most_and_when_it_was_first() -> None:
    pool = PoolLine(512, (3, 512, 512), (1.0, 300.456, 2.0), (0, 7, 9), (0, 2, 1))
    timeline = line(
        pool=pool,
        local=LocalLine({0: (1, 0, 2), 3: (0, 3, 0)}),
        arena=ArenaLine((MIB, 3 * MIB, MIB), (0, 0, 2 * MIB), (90 * MIB, 80 * MIB, 85 * MIB)),
        marks=MarkLine((0, 1, 0), None, (2, 0, 3)),
        flush_ns={"small": (0.0, 5.0, 0.0), "large": (0.0, 1000.0, 2000.0), "none": (0.0,) * 3},
    )
    words = {plot.ident: unglued(plot.words) for plot in parts_of(timeline).plots}
    assert words == {
        "plot-pool": "at most 512 of 512 in use at 1800000001.000000; at most 9 stale at "
        "1800000002.000000",
        "plot-waits": "at most 2 tasks asleep at 1800000001.000000",
        "plot-marks": "1 wrap of the pool; 5 purges of the arena",
        "plot-local": "at most 3 deep at 1800000001.000000, 15 fit",
        "plot-arena": "at most 3 MiB in use at 1800000001.000000; at most 2 MiB freed lazily at "
        "1800000002.000000; of 120 MiB",
        "plot-hole": "never below 80 MiB of 120 MiB",
        "plot-flushes": "large 3.0 µs; small 5 ns; most in one bin 2.0 µs at 1800000002.000000",
    }


def test_what_is_not_there_is_told_instead() -> None:
    parts = parts_of(line())
    assert parts.plots == ()
    assert [words.split(":")[0] for words in parts.missing] == ["pool", "local", "arena"]
    assert parts.missing[0] == "pool: kmap() was traced without its pages"
    assert parts.lost_words == ""


def test_bins_of_losses_are_counted() -> None:
    assert unglued(parts_of(line(lost=(0, 2, 1))).lost_words) == (
        "events were lost in 2 bins, shaded in every chart"
    )


@pytest.mark.parametrize(
    ("slots", "rows"), [(3, [9, 0, 5]), (2 * MAP_ROWS, None), (2 * MAP_ROWS + 2, None)]
)
def test_neighbours_share_a_row_that_has_the_most_of_them(
    slots: int, rows: list[int] | None
) -> None:
    shares = [9, 0, 5] if rows else [slot % 251 for slot in range(slots)]
    used = tuple((share,) for share in shares)
    timeline = line(slot_map=SlotMap(used, ((0,),) * slots))
    section = timeline_section(source_of(), busy_outcome(), timeline)
    data = timeline_data(section, timeline, (), clock_is_ns=True)
    (plot,) = data["plots"]
    cells = list(base64.b64decode(plot["layers"][0]["cells"]))
    each = -(-slots // MAP_ROWS)
    assert plot["rows"] == len(cells) <= MAP_ROWS
    assert cells == [max(shares[at : at + each]) for at in range(0, slots, each)]
    assert (plot["low"], plot["high"]) == (0, slots)


def test_the_map_of_the_arena_has_its_addresses() -> None:
    shape = ArenaMap(0xF7800000, 0xFF000000, ((1,), (255,)), ((0,), (3,)))
    (plot,) = parts_of(line(arena_map=shape)).plots
    assert (plot.rows, plot.low, plot.high) == (2, 0xF7800000, 0xFF000000)
    assert [base64.b64decode(layer.cells) for layer in plot.layers] == [b"\x01\xff", b"\x00\x03"]


def test_data_has_its_start_in_full() -> None:
    section = timeline_section(source_of(), busy_outcome(), line())
    data = timeline_data(section, line(), (), clock_is_ns=True)
    assert (data["start"], data["end"], data["bins"]) == (str(START), 3 * SECOND, 3)
