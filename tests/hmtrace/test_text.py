"""Numbers and foreign strings."""

from __future__ import annotations

import pytest
from rich.console import Console

from hmtrace.report.charts import MarkRow, StackedChart, bar, resample
from hmtrace.report.marks import marks_alone
from hmtrace.report.text import GLUE, clean, count, duration, share, size, symbol, unglued
from replay.over_time import MarkedTimes


def test_clean_leaves_nothing_that_a_terminal_acts_on() -> None:
    everything = "".join(map(chr, range(0x3000)))
    cleaned = clean(everything, limit=10**6)
    assert cleaned.isprintable()
    assert not set(cleaned) & {chr(c) for c in (*range(0x20), *range(0x7F, 0xA0))}
    assert "\u202e" not in cleaned
    assert "\u2028" not in cleaned


def test_clean_keeps_ordinary_names() -> None:
    assert clean("kworker/u4:2+events_unbound") == "kworker/u4:2+events_unbound"
    assert clean("naïve-größe") == "naïve-größe"
    assert clean("\udcff") == "\\udcff"


def test_clean_tells_other_blanks_from_the_ordinary_one() -> None:
    assert clean("a b") == "a b"
    assert clean("a\xa0b\u3000c") == "a\\xa0b\\u3000c"


def test_clean_cuts_long_names() -> None:
    assert clean("x" * 300, limit=10) == "x" * 9 + "…"
    assert len(clean("\x1b" * 300, limit=10)) == 10


def test_large_and_small_figures() -> None:
    assert unglued(count(1_234_567)) == "1234567"
    assert unglued(duration(999_999)) == "1.0 ms"
    assert unglued(duration(999.7)) == "1.0 µs"
    assert unglued(duration(20_000_000_000_000)) == "20000 s"
    assert unglued(share(0.0009)) == "<0.1 %"
    assert unglued(size(64 << 30)) == "64 GiB"
    assert unglued(size(2816 << 20)) == "2816 MiB"
    assert unglued(size(0)) == "0 B"


def test_symbols_lose_the_size_of_their_function() -> None:
    assert symbol("dir_get_page+0x32/0x90 [minix]") == "dir_get_page+0x32 [minix]"
    assert symbol("0xc1234567") == "0xc1234567"


def test_figures_are_not_torn_from_their_units() -> None:
    assert GLUE in duration(5)
    assert not GLUE.isspace(), "rich breaks lines at white space"


def test_bars_show_the_smallest_share() -> None:
    assert bar(0, 10) == ""
    assert bar(1e-9, 10) == "▏"
    assert bar(1, 10) == "█" * 10
    assert bar(7, 10) == "█" * 10


def test_resampling_keeps_peaks() -> None:
    assert max(resample([0, 0, 9, 0, 0, 0, 0], 3)) == 9
    assert len(resample([1.0] * 1000, 71)) == 71
    assert resample([], 5) == []


@pytest.mark.parametrize("width", [20, 80, 120])
def test_the_chart_stays_inside_its_width(width: int) -> None:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(StackedChart([0, 512, 600], [0, 100, 0], 512, "0 ns", "3.0 s"))
    lines = captured.get().splitlines()
    assert len(lines) == 8
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_marks_lie_below_the_columns_that_they_happened_in(width: int) -> None:
    counts = [0] * 240
    counts[0], counts[100], counts[101], counts[239] = 1, 2, 7, 12
    used = [0.0] * 240
    used[100] = 512.0
    console = Console(width=width, color_system=None, safe_box=True)
    with console.capture() as captured:
        marks = (MarkRow("purges", counts), MarkRow("waits", counts[::-1]))
        console.print(StackedChart(used, [0] * 240, 512, "0 ns", "3.0 s", marks=marks))
    lines = captured.get().splitlines()
    assert len(lines) == 10
    purges, waits = lines[7], lines[8]
    middle = ["27"]  # two columns side by side
    assert purges.isascii()
    assert waits.isascii()
    assert purges.split() == ["purges", "1", *middle, "+"]
    assert waits.split()[1] == "+"
    assert purges.index(middle[0][0]) == lines[0].index("█")
    assert len(purges) == len(lines[6]) == width


def test_an_axis_may_stand_alone() -> None:
    marks = MarkedTimes(0, 10_000_000, (0, 0), (0, 0), (3, 0), (0, 0))
    console = Console(width=40, color_system=None)
    with console.capture() as captured:
        console.print(*marks_alone(marks))
    lines = [line.rstrip() for line in captured.get().splitlines() if line.strip()]
    assert lines[1] == "  purges  3"
    assert lines[0].lstrip().startswith("└──")
    assert lines[2].endswith(duration(20e6))
    assert not list(marks_alone(MarkedTimes(0, 1, (0,), (0,), (0,), (0,))))


def test_the_chart_of_a_full_pool_is_full_and_of_an_empty_one_empty() -> None:
    console = Console(width=40, color_system=None)

    def drawn(low: float, high: float) -> str:
        with console.capture() as captured:
            console.print(StackedChart([low], [high], 512, "a", "b", height=4))
        return "".join(captured.get().splitlines()[:4])

    assert drawn(512, 0).count("█") == 4 * (40 - 6)
    assert "█" not in drawn(0, 512)
    assert drawn(0, 512).count("░") == 4 * (40 - 6)
    assert not set(drawn(0, 0)) & set("█░▁▂▃▄▅▆▇")
    assert "▁" in drawn(1, 0), "a single slot is visible"
