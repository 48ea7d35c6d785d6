"""What a terminal report says is what its page says: sections, rows, cells, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from hmtrace.html.blocks import (
    Lines,
    Listed,
    Pairs,
    Preformatted,
    TableBlock,
    blocks_of,
    sections_of,
)
from hmtrace.html.histograms import HistogramBlock
from hmtrace.report.caveats import bullets
from hmtrace.report.charts import Bar
from hmtrace.report.histograms import Histograms, NamedTimes
from hmtrace.report.parts import (
    Elided,
    Fitted,
    Picture,
    Valued,
    heading,
    indented,
    labelled,
    plain_table,
)
from hmtrace.report.text import unglued
from replay.outcome import Histogram

if TYPE_CHECKING:
    from hmtrace.html.blocks import Runs


def words(runs: Runs) -> str:
    return "".join(run.text for run in runs)


def test_headings_part_sections() -> None:
    parts = [Text("before"), heading("Pool", "512 slots"), labelled([("calls", "3")]), Text()]
    before, pool = sections_of([*parts, heading("Empty")])
    assert (before.ident, before.title) == ("", "")
    assert (pool.ident, pool.title, pool.aside) == ("pool", "Pool", "512 slots")
    (pairs,) = pool.parts  # type: ignore[misc]
    assert isinstance(pairs, Pairs)
    assert [(words(label), words(value)) for label, value in pairs.rows] == [("calls", "3")]


def test_sections_of_one_title_have_an_anchor_each() -> None:
    parts = [part for aside in ("arm", "i386") for part in (heading("Best: 2g", aside), Text("x"))]
    assert [(one.ident, one.title, one.aside) for one in sections_of(parts)] == [
        ("best-2g", "Best: 2g", "arm"),
        ("best-2g-2", "Best: 2g", "i386"),
    ]


def test_tables_keep_titles_sides_and_numbers() -> None:
    table = plain_table(("site", "left"), ("count", "right"), ("", "left"), expand_first=True)
    table.add_row(Elided("f+0x12", 5), Valued("1 024", 1024), Bar(0.25, 8))
    table.add_row("g", Valued("·", None), "")
    (grid,) = blocks_of(indented(table))
    assert isinstance(grid, TableBlock)
    assert [(c.title, c.is_right) for c in grid.columns] == [
        ("site", False),
        ("count", True),
        ("", False),
    ]
    first, second = grid.rows
    assert [words(cell.runs) for cell in first] == ["f+0x12", "1 024", ""]
    assert [cell.value for cell in first] == [None, 1024, 0.25]
    assert [cell.fraction for cell in first] == [None, None, 0.25]
    assert [(words(cell.runs), cell.value) for cell in second] == [
        ("g", None),
        ("·", None),
        ("", None),
    ]


def test_a_table_that_fits_columns_has_all_of_them() -> None:
    rows = [[Text("a"), Text("b" * 200)]]
    (grid,) = blocks_of(Fitted((("one", "left"), ("two", "right")), rows, ["two"], "elsewhere"))
    assert isinstance(grid, TableBlock)
    assert [column.title for column in grid.columns] == ["one", "two"]
    assert words(grid.rows[0][1].runs) == "b" * 200


def test_lists_lines_and_groups() -> None:
    found = list(blocks_of(Group(bullets(["one", "two"]), Text("a\n\nb", style="dim"), "c")))
    listed, lines, line = found
    assert isinstance(listed, Listed)
    assert [words(item) for item in listed.items] == ["one", "two"]
    assert isinstance(lines, Lines)
    assert [[(run.text, run.classes) for run in runs] for runs in lines.lines] == [
        [("a", "dim")],
        [],
        [("b", "dim")],
    ]
    assert isinstance(line, Lines)


def test_pictures_of_characters_are_left_out() -> None:
    assert list(blocks_of(Picture(Text("█")))) == []
    assert list(blocks_of(Text(""))) == []


def test_histograms_are_drawn_with_the_terminals_bins() -> None:
    times = Histogram((1000.0, 2000.0, 4000.0), (1, 10, 5))
    (block,) = blocks_of(Picture(indented(Histograms([NamedTimes("kmap", times)]))))
    assert isinstance(block, HistogramBlock)
    (row,) = block.rows
    assert (row.name, row.number) == ("kmap", "16")
    assert unglued(row.words) == "16 calls, most of them from 1.7 µs on"
    # 1, 2 and 4 µs lie four quarters of a doubling apart: bins 0, 4 and 8 of 9
    assert [(bar.x, bar.height) for bar in row.bars] == [(0, 0.1), (44.44, 1), (88.89, 0.5)]
    assert [unglued(bar.words) for bar in row.bars] == [
        "from 861 ns: 1",
        "from 1.7 µs: 10",
        "from 3.4 µs: 5",
    ]
    assert block.ticks == ((0.0, "1\u2800µs"),)


def test_what_only_a_terminal_can_draw_is_kept_as_it_draws_it() -> None:
    class Drawn:
        def __rich__(self) -> Text:
            return Text("a  b")

    (block,) = blocks_of(Drawn())  # type: ignore[arg-type]
    assert block == Preformatted("a  b")


def test_a_style_within_another_takes_its_place() -> None:
    text = Text("plain ", style="dim")
    text.append("bold", style="bold not dim")
    text.append(" red", style="red")
    (lines,) = blocks_of(text)
    assert isinstance(lines, Lines)
    assert [(run.text, run.classes) for run in lines.lines[0]] == [
        ("plain ", "dim"),
        ("bold", "bold"),
        (" red", "dim red"),
    ]
