"""Pages in a real browser: silent, closed to the network, and what they are for works."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app
from tests.hmtrace.html.browser import Opened, browser
from tests.hmtrace.test_hostile import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["browser"]

FIXTURES = Path(__file__).parents[3] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
LOST = FIXTURES / "i386-lost-overrun-pae-smp2"
EVIL = "<img/src=x:/>"
SCRIPT = "<script>hacked=1</script>\u202e"
WIDTHS = (360, 800, 1400)


def page_of(folder: Path, source: Path) -> tuple[Path, dict[str, Any]]:
    """Page and document of a capture, of one run."""
    page = folder / "page.html"
    words = ["report", str(source), "--html", str(page), "--format", "json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return page, json.loads(result.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return page_of(tmp_path_factory.mktemp("waiters"), WAITERS)


@pytest.fixture
def waiters(browser: Opened, made: tuple[Path, dict[str, Any]]) -> Iterator[Opened]:
    """The page of a full pool, opened; in the end it has said and asked for nothing."""
    browser.open(made[0])
    yield browser
    said, asked = browser.log()
    assert said == []
    assert asked == [made[0].as_uri()]


def press(browser: Opened, *keys: str) -> None:
    browser.act().send_keys(*keys).perform()


def test_figures_are_those_of_the_document(
    waiters: Opened, made: tuple[Path, dict[str, Any]]
) -> None:
    document = made[1]
    tiles = dict(zip(waiters.texts(".tile-label"), waiters.texts(".tile-figure"), strict=True))
    assert tiles["pool slots in use, at most"] == str(document["pool"]["max_used"]) == "512"
    assert tiles["waits for a slot"] == str(document["pool"]["waits"]) == "36"
    assert tiles["local mappings nested, at most"] == str(document["local"]["max_depth"])
    assert waiters.texts(".finding .message") == [f["message"] for f in document["findings"]]
    data = json.loads(waiters.run("return document.getElementById('data').textContent"))
    plots = {plot["id"]: plot for plot in data["plots"]}
    used, stale, _ = plots["plot-pool"]["series"]
    assert max(used["values"]) == document["pool"]["max_used"]
    assert max(stale["values"]) == document["pool"]["max_stale"]
    assert max(plots["plot-waits"]["series"][0]["values"]) == 8
    marks = {series["label"]: sum(series["values"]) for series in plots["plot-marks"]["series"]}
    assert marks == {
        "wraps of the pool": sum(document["marks"]["wraps"]),
        "flushes by kmap_flush_unused()": sum(document["marks"]["passes"]),
        "purges of the arena": sum(document["marks"]["purges"]),
    }
    drawn = waiters.run("return [...document.querySelectorAll('.plot canvas')].map((c) => c.width)")
    assert len(drawn) == len(plots)
    assert min(drawn) > 600


def test_columns_sort_and_rows_are_filtered(
    waiters: Opened, made: tuple[Path, dict[str, Any]]
) -> None:
    counts = sorted((site["count"] for site in made[1]["sites"]), reverse=True)
    head = waiters.find("#call-sites th:nth-child(3)")
    column = "#call-sites tbody tr:not([hidden]) td:nth-child(3)"

    def shown() -> list[int]:
        return [int(text.replace(" ", "")) for text in waiters.texts(column)]

    button = head.find_element("css selector", "button")
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert shown() == counts
    button.send_keys("\n")
    assert head.get_attribute("aria-sort") == "ascending"
    assert shown() == counts[::-1]
    waiters.find("#call-sites .filter input").send_keys("copy_user KMAP_local")
    names = waiters.texts("#call-sites tbody tr:not([hidden]) th")
    assert names
    assert all("copy_user" in name for name in names)
    found = waiters.texts("#call-sites .filter [role=status]")
    assert found == [f"{len(names)} of {len(counts)} rows"]


def test_a_finding_leads_to_its_place_on_the_timeline(
    waiters: Opened, made: tuple[Path, dict[str, Any]]
) -> None:
    data = json.loads(waiters.run("return document.getElementById('data').textContent"))
    first = made[1]["findings"][0]["first"]["ts"]
    at = first - int(data["start"])
    assert data["findings"][0] == {
        "number": 1,
        "at": at,
        "severity": "problem",
        "words": made[1]["findings"][0]["message"],
    }
    assert waiters.texts("#timeline .range") == ["2.2 s, all of it"]
    waiters.find("#finding-1 .to-time").click()
    (range_,) = waiters.texts("#timeline .range")
    low, high = (float(word.split()[0]) * 1e6 for word in range_.split(" of ")[0].split(" – "))
    assert low < at < high
    assert high - low == pytest.approx(24 * data["bin"], rel=0.01)
    assert waiters.run("return document.activeElement.id") == "timeline"
    assert "followed" in waiters.find("#finding-1").get_attribute("class")
    top = waiters.run("return document.getElementById('timeline').getBoundingClientRect().top")
    assert abs(top) < 5


def test_a_long_call_leads_to_its_place(waiters: Opened, made: tuple[Path, dict[str, Any]]) -> None:
    data = json.loads(waiters.run("return document.getElementById('data').textContent"))
    at = made[1]["longest"][0]["ts"] - int(data["start"])
    waiters.find("#longest-calls tbody tr:first-child .to-time").click()
    (range_,) = waiters.texts("#timeline .range")
    low, high = (float(word.split()[0]) * 1e6 for word in range_.split(" of ")[0].split(" – "))
    assert low < at < high


def test_charts_zoom_by_mouse_and_keys(waiters: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    over = waiters.find("#plot-pool .u-over")
    waiters.run("arguments[0].scrollIntoView({block: 'center'})", over)
    wide = over.size["width"]
    chain = waiters.act().move_to_element_with_offset(over, -wide // 4, 0)
    chain.click_and_hold().move_by_offset(wide // 2, 0).release().perform()
    (dragged,) = waiters.texts("#timeline .range")
    low, high = (float(word.split()[0]) for word in dragged.split(" of ")[0].split(" – "))
    unit = 1000 if "ms" in dragged.split(" – ")[0] else 1
    assert high - low / unit == pytest.approx(2.16 / 2, abs=0.1)
    assert waiters.texts("#plot-pool .tip b")  # what is under the pointer is told
    waiters.act().double_click(over).perform()
    assert waiters.texts("#timeline .range") == ["2.2 s, all of it"]

    waiters.run("document.querySelector('#plot-arena-map .plot-area').focus()")
    press(waiters, "+")
    zoomed = waiters.texts("#timeline .range")
    assert zoomed != ["2.2 s, all of it"]
    shifted = waiters.act().key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT)
    shifted.key_up(Keys.SHIFT).perform()
    assert waiters.texts("#timeline .range") != zoomed
    press(waiters, Keys.ARROW_RIGHT)
    (told,) = waiters.texts("#timeline > .unseen[role=status]")
    assert told.endswith("in use: 1.8 %, freed, waits for a purge: 0.2 %")
    press(waiters, "0")
    assert waiters.texts("#timeline .range") == ["2.2 s, all of it"]
    press(waiters, Keys.ARROW_DOWN)
    assert ", fb3fe000 – fb53e000, in use: 0 %" in waiters.texts("#timeline > .unseen")[0]


def test_a_map_zooms_to_addresses_too(waiters: Opened) -> None:
    over = waiters.find("#plot-arena-map .u-over")
    waiters.run("arguments[0].scrollIntoView({block: 'center'})", over)
    wide, tall = over.size["width"], over.size["height"]
    chain = waiters.act().move_to_element_with_offset(over, -wide // 4, 0)
    chain.click_and_hold().move_by_offset(wide // 2, tall // 2 - 4).release().perform()
    (dragged,) = waiters.texts("#timeline .range")
    low, high = (float(word.split()[0]) for word in dragged.split(" of ")[0].split(" – "))
    assert dragged == f"{low:.1f} ms – {high:.1f} s of 2.2 s"
    assert high - low / 1000 == pytest.approx(2.16 / 2, abs=0.1)
    waiters.act().move_to_element_with_offset(over, 0, tall // 2 - 4).perform()
    place = waiters.texts("#plot-arena-map .tip div")[1].split(" – ")
    assert int(place[0], 16) < 0xF77FE000 + 0x400000  # the lowest addresses are at the bottom
    waiters.act().move_to_element_with_offset(over, 0, 4 - tall // 2).perform()
    place = waiters.texts("#plot-arena-map .tip div")[1].split(" – ")
    middle = (0xF77FE000 + 0xFEFFE000) // 2
    assert abs(int(place[0], 16) - middle) < 0x400000
    waiters.act().double_click(over).perform()
    assert waiters.texts("#timeline .range") == ["2.2 s, all of it"]


def test_values_are_there_as_a_table(waiters: Opened) -> None:
    waiters.find("#plot-pool summary").click()
    waiters.wait("return document.querySelector('#plot-pool .plot-data table') !== null")
    rows = waiters.texts("#plot-pool .plot-data tbody tr")
    assert len(rows) == 40
    used = [int(text) for text in waiters.texts("#plot-pool .plot-data tbody td:nth-child(2)")]
    assert (used[0], max(used), used[-1]) == (0, 512, 0)
    words = waiters.run("return document.querySelector('#plot-pool .plot-area').ariaLabel")
    assert words.startswith("Slots of the pool: at most 512 of 512 in use at 13.63")


def test_keyboard_finds_everything_in_order(waiters: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    press(waiters, Keys.TAB)
    assert waiters.run("return document.activeElement.className") == "skip"
    press(waiters, Keys.TAB)
    assert waiters.run("return document.activeElement.id") == "theme"
    waiters.run("document.querySelector('.skip').focus()")
    press(waiters, Keys.ENTER)
    press(waiters, Keys.TAB)  # from the beginning of the report on
    assert waiters.run("return document.activeElement.closest('section').id") == "overview"
    reached = waiters.run(
        "return [...document.querySelectorAll('a, button, input, summary, [tabindex=\"0\"]')]"
        ".filter((e) => !e.checkVisibility()).map((e) => e.outerHTML)"
    )
    assert reached == []
    unnamed = waiters.run(
        "return [...document.querySelectorAll('button, input, [role=group], [role=region]')]"
        ".filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))"
        ".map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_colours_follow_the_system_and_the_button(waiters: Opened) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    canvas = "return document.querySelector('#plot-pool canvas').toDataURL().length"
    light_paper, light_chart = waiters.run(paper), waiters.run(canvas)
    waiters.command("Emulation.setEmulatedMedia", features=[dark])
    dark_paper = waiters.run(paper)
    assert dark_paper != light_paper
    waiters.wait(f"return (() => {{ {canvas} }})() !== arguments[0]", light_chart)
    button = waiters.find("#theme")
    assert button.get_attribute("aria-label") == "Switch to light colours"
    button.click()
    assert waiters.run(paper) == light_paper
    assert button.get_attribute("aria-label") == "Switch to dark colours"
    pdf = base64.b64decode(waiters.command("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert waiters.run(paper) == light_paper
    waiters.command("Emulation.setEmulatedMedia", features=[])
    waiters.run("localStorage.clear()")


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(waiters: Opened, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    waiters.command("Emulation.setDeviceMetricsOverride", **screen)
    try:
        assert waiters.run("return document.documentElement.scrollWidth") <= width
        waiters.wait(
            "const area = document.querySelector('.plot-area');"
            "return area.querySelector('.uplot').clientWidth === area.clientWidth"
        )
    finally:
        waiters.command("Emulation.clearDeviceMetricsOverride")


def test_losses_are_shaded_and_told(browser: Opened, tmp_path: Path) -> None:
    page, document = page_of(tmp_path, LOST)
    browser.open(page)
    (banner,) = browser.texts("[role=alert] strong")
    assert banner == "LOST: 77 468 events on CPU 0, 1 in 2 intervals"
    data = json.loads(browser.run("return document.getElementById('data').textContent"))
    assert sum(map(bool, data["lost"])) == 2
    assert len(browser.driver.find_elements("css selector", ".strip-lost")) == 2
    assert document["lost"]["events"] == 77468
    assert browser.log() == ([], [page.as_uri()])


def test_names_from_the_trace_are_text(browser: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "evil<b>"
    folder.mkdir()
    for name, content in capture(EVIL, "f", SCRIPT).items():
        (folder / name).write_bytes(content)
    page, document = page_of(tmp_path, folder)
    browser.open(page)
    assert browser.run("return [window.hacked, document.images.length]") == [None, 0]
    assert browser.run("return document.querySelectorAll('script').length") == 3
    assert "evil<b>" in browser.find("h1").text
    tasks = browser.texts("#longest-calls tbody td:nth-child(3)")
    assert set(tasks) == {f"{EVIL}[7]", f"{EVIL}[8]"}
    assert document["longest"][0]["comm"] == EVIL
    caveats = " ".join(browser.texts("#caveats li"))
    assert f"vmalloc={SCRIPT}".replace("\u202e", "\\u202e") in caveats
    assert "\u202e" not in page.read_text()
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 2';"
        "document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
        '\'<img src="https://example.invalid/x.png"><b style="color:red" onclick="1">x</b>\')'
    )
    assert browser.run("return window.hacked") is None
    said, asked = browser.log()
    assert len([line for line in said if "Content Security Policy" in line]) >= 3
    assert asked == [page.as_uri()]
