"""Pages of ``sweep --html`` and ``advise --html``: one file, the document's figures, escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from dataclasses import replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app
from hmtrace.cli.axes import parse_axes
from hmtrace.cli.crew import Alone
from hmtrace.cli.grid import Grid
from hmtrace.html.plotted import Plotted, front, legend, shades
from hmtrace.html.steps import HEIGHT, steps
from hmtrace.html.sweep import sweep_page
from tests.hmtrace.html.test_page import LARGEST, Parsed

FIXTURES = Path(__file__).parents[3] / "fixtures"
MINIX = FIXTURES / "i386-minix-pae-smp2"
FAILING = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
BOARD = FIXTURES / "arm-61-1g-minix"
GRID = ("--axis", "split=3g,2g,1g,3g_opt", "--axis", "ram=1G..4G*2")

pytestmark = pytest.mark.usefixtures("shared_shelf")


def made(folder: Path, *words: object) -> tuple[str, dict[str, Any]]:
    """Page and document of one run."""
    target = folder / "page.html"
    given = [*map(str, words), "--html", str(target), "--format", "json", "--force"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return target.read_text(), json.loads(result.stdout)


def text_of(part: str) -> str:
    words = html.unescape(re.sub(r"<[^>]*>", " ", part)).replace("\xa0", " ")
    return " ".join(words.split())


def tables(page: str, css: str) -> list[list[list[str]]]:
    """Cells of the rows of each table of a class, without the row of titles."""
    found = re.findall(rf'<table class="{css}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    return [
        [
            [text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in found
    ]


def check_closed(page: str) -> None:
    """Nothing runs or is fetched but what is in it; anchors are there, each once."""
    parsed = Parsed(page)
    (policy,) = [m["content"] or "" for m in parsed.all("meta") if "http-equiv" in m]
    for tag, source in (("script", "script-src"), ("style", "style-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts]
        sources = " ".join(f"'sha256-{digest}'" for digest in digests)
        assert f"{source} {sources};" in policy
    idents = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(set(idents)) == len(idents)
    for _, attributes in parsed.tags:
        assert not attributes.keys() & {"src", "style", "action"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "for", "aria-labelledby"):
            if name in attributes:
                assert (attributes[name] or "").removeprefix("#") in idents
    assert len(page.encode()) < LARGEST


def test_a_map_has_the_figures_of_the_document(tmp_path: Path) -> None:
    page, document = made(tmp_path, "sweep", MINIX, *GRID)
    check_closed(page)
    (rows,) = tables(page, "heat-table")
    assert rows == [
        ["3g", "2.6 ms", "2.6 ms", "2.6 ms"],
        ["2g", "134.9 µs", "≤ 2.6 ms", "≤ 2.6 ms"],
        ["1g", "134.9 µs", "134.9 µs", "≤ 2.6 ms"],
        ["3g_opt", "n/a", "n/a", "n/a"],
    ]
    (data,) = re.findall(r'id="data">(.*?)</script>', page)
    (one,) = json.loads(data)["maps"]
    figures = {figure["title"]: figure for figure in one["figures"]}
    keys = list(product(*(words for _, words in one["axes"])))
    machines = {(m["split"], m["ram"]): m for m in document["machines"]}
    for at, key in enumerate(keys):
        state = one["strings"][one["states"][at]]
        assert (state == "n/a") == (key not in machines)
        texts = {
            title: one["strings"][f["texts"][at]].replace("\xa0", "")
            for title, f in figures.items()
        }
        if key in machines:
            told = machines[key]["figures"]
            assert texts["lowmem, MiB"] == str(told["lowmem"] >> 20)
            assert texts["kmap"] in ("·", str(told["kmap"]), f"≤ {told['kmap']}")
            assert texts["user space, MiB"] == str(told["user"] >> 20)
        else:
            assert set(texts.values()) == {""}
            reason = one["strings"][one["reasons"][at]]
            assert reason == "the split 3g_opt does not exist with PAE"
    assert [keys[at] for at in one["captured"]] == [("3g", "1G")]
    # none has less cost, or more user space: 2g where no page is highmem, and 3g
    assert {keys[at] for at in figures["cost"]["on"]} == {
        ("3g", "1G"), ("3g", "2G"), ("3g", "4G"), ("2g", "1G"),
    }  # fmt: skip
    assert "Least cost: 134.9 µs with split 2g, ram 1G" in text_of(page)
    command = f"hmtrace sweep {MINIX} --axis split=3g,2g,1g,3g_opt --axis 'ram=1G..4G*2'"
    assert text_of(page).count(command) == 1


def test_machines_are_a_table_that_sorts_by_value(tmp_path: Path) -> None:
    page, document = made(tmp_path, "sweep", MINIX, *GRID)
    (rows,) = tables(page, "grid")
    assert [row[:2] for row in rows] == [
        [m["split"] + " *" * m["is_captured"], m["ram"]] for m in document["machines"]
    ]
    section = page[page.index('id="9-machines-least-cost-ns-first"') :]
    cells = re.findall(
        r'data-v="([^"]*)">(≤ 2.6 ms|2.6 ms|134.9 µs)<', section.replace("\xa0", " ")
    )
    assert [float(value) for value, _ in cells] == [
        m["figures"]["cost_ns"] for m in document["machines"]
    ]


def test_what_does_not_meet_a_condition_is_no_missing_kernel(tmp_path: Path) -> None:
    page, document = made(tmp_path, "sweep", MINIX, *GRID, "--where", "flushes<1")
    (rows,) = tables(page, "heat-table")
    assert [row[1:] for row in rows] == [
        ["unmet", "unmet", "unmet"],
        ["1 023", "unmet", "unmet"],
        ["1 023", "2 047", "unmet"],
        ["n/a", "n/a", "n/a"],
    ]
    assert len(document["machines"]) == 3
    assert "6 unmet, 3 that no kernel can be" in text_of(page)
    shown = CliRunner().invoke(app, ["sweep", str(MINIX), "--axis", "split=3g,2g,3g_opt", "--axis",
                                     "ram=1G,2G", "--where", "cost<100000000", "--where",
                                     "flushes<3000", "--where", "lowmem>900M"])  # fmt: skip
    (row,) = [line.split() for line in shown.stdout.split("\n") if line.startswith(" 3g   ")]
    assert row[1:] == ["unmet", "unmet"]


def test_one_axis_is_a_chart(tmp_path: Path) -> None:
    page, document = made(tmp_path, "sweep", FAILING, "--axis", "vmalloc=64M..256M+64M")
    check_closed(page)
    titles = [re.sub(r" over vmalloc.*", "", t) for t in re.findall(r"<figcaption>([^<]*)", page)]
    assert titles[0] == "cost"
    figures = page.split('<figure class="steps"')[1:]
    failures = figures[titles.index("failures")]
    at = [float(x) for x in re.findall(r'<svg x="([0-9.]+)%"', failures)]
    assert at == pytest.approx([3, 3 + 94 / 3, 3 + 188 / 3, 97], abs=0.001)
    heights = [float(y) - 20 for y in re.findall(r'<svg x="[0-9.]+%" y="([0-9.]+)"', failures)]
    values = {m["vmalloc"]: m["figures"]["failures"] for m in document["machines"]}
    ordered = [values[word] for word in ("64M", "128M", "192M", "256M")]
    most = max(ordered)
    assert heights == pytest.approx([HEIGHT * (1 - v / most) for v in ordered], abs=0.01)
    assert "hidden" not in figures[0].split(">")[0]
    assert all("hidden" in figure.split(">")[0] for figure in figures[1:])


def test_a_search_shows_what_it_found(tmp_path: Path) -> None:
    words = ("--find", "min:vmalloc", "--where", "failures=0")
    page, document = made(tmp_path, "sweep", FAILING, *words)
    check_closed(page)
    (answer,) = document["answers"]
    assert (answer["value"] >> 20, answer["value_sense"]) == (129, "least")
    assert "≥ 129M is the least vmalloc with failures=0" in text_of(page)
    (rows,) = tables(page, "grid")
    assert [row[0] for row in rows if row[-1]] == ["129M"]
    assert {row[0]: row[-1] for row in rows}["129M"] == "← at least"
    assert "← at least</text>" in page.replace("\xa0", " ")
    assert "--find min:vmalloc --where failures=0" in text_of(page)


def test_answers_over_other_axes_are_a_map(tmp_path: Path) -> None:
    words = (
        "--find",
        "min:pkmap",
        "--where",
        "waits=0",
        "--axis",
        "cpus=1,2",
        "--axis",
        "split=3g,2g",
    )
    capture = FIXTURES / "i386-hog-a-waiters-pae-smp2"
    page, document = made(tmp_path, "sweep", capture, *words)
    check_closed(page)
    (rows,) = tables(page, "heat-table")
    found = {(a["cpus"], a["split"]): a["value"] for a in document["answers"]}
    assert rows == [
        [cpus, *(f"≥ {found[cpus, '3g']}", str(found[cpus, "2g"]))] for cpus in ("1", "2")
    ]
    assert "Least pkmap with waits=0: 16 to ≥ 1024" in text_of(page)


def test_advice_is_that_of_the_document(tmp_path: Path) -> None:
    page, document = made(tmp_path, "advise", BOARD)
    check_closed(page)
    (one,) = document["captures"]
    text = text_of(page)
    assert "Choose 3g_opt, no HIGHMEM evidence: fair" in text
    assert (one["choice"]["split"], one["evidence"]) == ("3g_opt", "fair")
    builds, regions, *_ = tables(page, "grid")
    assert len(builds) == len(one["splits"])
    for row, split in zip(builds, one["splits"], strict=True):
        assert row[0].split()[0] == split["split"]
        assert row[1].replace(" ", "") == str(split["lowmem"] >> 20)
    assert [row[0] for row in builds if row[0].endswith((">", "*"))] == ["3g *", "3g_opt >"]
    sizes = {row[0]: row[1:] for row in regions}
    assert sizes["lowmem"] == ["768 MiB", "1 GiB", "+256 MiB"]
    assert sizes["pkmap"] == ["2 MiB", "none", "-2 MiB"]
    for reason in one["choice"]["reasons"]:
        assert " ".join(reason.split()) in text.replace("10 134", "10134").replace("9 370", "9370")
    assert "CONFIG_VMSPLIT_3G_OPT=y CONFIG_HIGHMEM=n" in text
    sides = page.split('<div class="sides">')[1]
    heights = [
        float(height)
        for height in re.findall(
            r'class="region lowmem">.*?height="([0-9.]+)"',
            sides.split('class="choose"')[0],
            re.DOTALL,
        )
    ]
    assert heights[:2] == pytest.approx([480 * 768 / 4096, 480 * 1024 / 4096], abs=0.01)


def test_several_captures_have_a_row_each_that_leads_to_their_sections(tmp_path: Path) -> None:
    other = FIXTURES / "i386-arena-pae-m2048-smp2"
    page, document = made(tmp_path, "advise", FAILING, other, BOARD)
    check_closed(page)
    boards = re.search(r'<section id="3-captures".*?</section>', page, re.DOTALL)
    assert boards is not None
    assert re.findall(r'<a href="#(capture-\d)">([^<]*)</a>', boards[0]) == [
        ("capture-1", FAILING.name), ("capture-2", other.name), ("capture-3", BOARD.name),
    ]  # fmt: skip
    (rows,) = tables(boards[0], "grid")
    assert [row[-1] for row in rows] == [one["evidence"] for one in document["captures"]]
    assert "The best for all: 2g, HIGHMEM (i386, 2 captures)" in text_of(page)
    assert document["common"][0]["split"] == "2g"


@pytest.mark.parametrize("command", ["advise", "sweep"])
def test_a_fleet_is_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(import_module(f"hmtrace.cli.{command}"), "FEW", 1)
    folder = tmp_path / "boards"
    for number, name in enumerate(("cases/i386-leak100", "mips32-61-minix")):
        shutil.copytree(FIXTURES / name, folder / f"board-{number}")
    axes = ["--axis", "pkmap=256,512"] if command == "sweep" else []
    page, document = made(tmp_path, command, folder, *axes)
    check_closed(page)
    assert len(document["captures"]) == 2
    if command == "advise":
        (rows,) = tables(page[page.index('id="boards"') :], "grid")
        assert sorted(row[0] for row in rows) == [f"board-{number}" for number in range(2)]
        best = {one["arch"]: one["build"] for one in document["common"]}
        assert best.keys() == {"i386", "mips32"}
        for arch, build in best.items():
            assert f"{build} ({arch}, " in text_of(page)
    else:
        assert "2 machines, least cost_ns first" in text_of(page)


def test_names_are_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\u202e'\"&amp;"
    folder = tmp_path / evil
    shutil.copytree(FAILING, folder)
    board = tmp_path / "<script>alert(2)<\\script>.toml"
    board.write_text('arch = "i386"\nram = "1G"\n')
    axis = ("--axis", f"machine={board}", "--axis", "split=3g,2g")
    grid = ("--axis", "split=3g,2g", "--axis", "ram=1G,2G", "--where", "cost>0")
    for words in (("advise",), ("sweep", "--axis", "vmalloc=128M,256M"), ("sweep", *grid)):
        page, _ = made(tmp_path, words[0], folder, *words[1:])
        check_closed(page)
        assert "<img" not in page
        assert "\u202e" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;\\u202e" in page
    result = CliRunner().invoke(app, ["sweep", str(MINIX), *axis, "--html",
                                      str(tmp_path / "m.html"), "--force"])  # fmt: skip
    assert result.exit_code == 0, result.output
    page = (tmp_path / "m.html").read_text()
    check_closed(page)
    assert "<script>alert" not in page


def test_thousands_of_machines_have_room() -> None:
    axes = parse_axes(["split=3g,2g", "ram=1G,2G"])
    swept = Grid(axes, None, None, "class", "closed", "cost_ns", (), Alone()).sweep(str(MINIX))
    names = {"vmalloc": 250, "split": 4, "ram": 4}
    words = {name: tuple(f"{name}{at}" for at in range(size)) for name, size in names.items()}
    first = swept.machines[0]
    machines = tuple(
        first._replace(
            words=dict(zip(words, key, strict=True)),
            figures={
                figure: None if value is None else value + (at * 7919 % 4001 << 20)
                for figure, value in first.figures.items()
            },
        )
        for at, key in enumerate(product(*words.values()))
    )
    big = replace(swept, axes=words, machines=machines, left_out=(), captured=(), numbers={})
    one = replace(big, axes={"vmalloc": tuple(f"v{at}" for at in range(1200))})
    one = replace(one, machines=tuple(
        m._replace(words={"vmalloc": f"v{at}"}) for at, m in enumerate(machines[:1200])
    ))  # fmt: skip
    page = sweep_page([big, one], ["hmtrace"])
    check_closed(page)
    text = text_of(page)
    assert "of 250 values of vmalloc are drawn" in text
    assert "… 3500 more: -n 0 lists all" in text
    assert "of 1200 values about 400 are drawn" in text


def plotted(values: dict[str, float | None], *, more: bool = False) -> Plotted:
    by_key = {(word,): value for word, value in values.items()}
    return Plotted("x", "x", more, by_key, lambda key: str(by_key[key]), lambda _: None, str)


def test_shades_go_by_value_or_by_its_order_of_magnitude() -> None:
    def shaded(*values: float, more: bool = False) -> list[int]:
        figure = plotted({str(at): value for at, value in enumerate(values)}, more=more)
        return list(shades(figure, list(figure.values)).values())

    assert shaded(100, 110, 160) == [0, 1, 6]
    assert shaded(100, 110, 160, more=True) == [6, 5, 0]
    assert shaded(1, 10, 1000) == [0, 2, 6]
    assert shaded(0, 1, 1000) == [0, 1, 6]
    assert shaded(-6, 0, 6) == [0, 3, 6]
    assert shaded(5, 5) == [0, 0]
    gone = plotted({"a": None, "b": 4})
    assert shades(gone, list(gone.values)) == {("b",): 0}


def test_a_legend_says_which_figures_have_a_shade() -> None:
    figure = plotted({"a": 1.0, "b": 1.5, "c": 12.0}, more=True)
    assert list(legend(figure, shades(figure, list(figure.values)))) == [
        (0, "12.0"),
        (6, "1.5 – 1.0"),
    ]


def test_alike_machines_are_on_the_front_together() -> None:
    cost = plotted({"a": 1, "b": 1, "c": 1, "d": 2, "e": 2, "f": None})
    room = plotted({"a": 3, "b": 4, "c": 4, "d": 4, "e": 9, "f": 99}, more=True)
    assert front(cost, room, cost.values) == {("b",), ("c",), ("e",)}


def test_marks_have_the_shape_of_their_sign() -> None:
    figure = plotted({"16": 4.0, "64": 2.0, "256": None, "1024": 0.0})
    figure = figure._replace(sense=lambda key: "least" if key == ("64",) else None)
    drawn = steps("pkmap", ["16", "64", "256", "1024"], [16, 64, 256, 1024], [figure],
                  [("64",)], ("1024", "← enough"))  # fmt: skip
    (chart,) = drawn.charts
    assert [(p.words, p.sense, p.is_captured) for p in chart.points] == [
        ("16: 4.0", "", False),
        ("64: 2.0", "≥", True),
        ("1024: 0.0", "", False),
    ]
    assert [p.x for p in chart.points] == pytest.approx([3, 3 + 94 / 3, 97], abs=0.001)  # ratios
    assert [p.y for p in chart.points] == [0, HEIGHT / 2, HEIGHT]
    assert chart.found is not None
    assert (chart.found.at, chart.found.words, chart.found.anchor) == (97, "← enough", "end")
    assert drawn.signs == (("≥", "at least so much"),)


def test_files_are_refused_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("precious")
    for words in (["advise", str(BOARD)], ["sweep", str(BOARD), "--axis", "split=3g,2g"]):
        refused = CliRunner().invoke(app, [*words, "--html", str(target)])
        assert getattr(refused.exception, "exit_code", None) == 2
        same = CliRunner().invoke(app, [*words, "--html", "x.csv", "-o", "x.csv"])
        assert getattr(same.exception, "exit_code", None) == 2
    assert target.read_text() == "precious"
