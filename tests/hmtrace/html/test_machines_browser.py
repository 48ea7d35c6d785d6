"""Pages of ``sweep`` and ``advise`` in a real browser: what is chosen on them is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app
from tests.hmtrace.html.browser import Opened, browser

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["browser"]

FIXTURES = Path(__file__).parents[3] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
AXES = ("--axis", "pkmap=256..1024*2", "--axis", "split=3g,2g", "--axis", "cpus=1,2,4")
BOARD = FIXTURES / "arm-61-1g-minix"
WIDTHS = (360, 800, 1400)

Made = tuple[Path, dict[str, Any]]


def made(folder: Path, *words: object) -> Made:
    """Page and document of one run."""
    page = folder / "page.html"
    given = [*map(str, words), "--html", str(page), "--format", "json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return page, json.loads(result.stdout)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("swept"), "sweep", WAITERS, *AXES)


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("advised"), "advise", BOARD)


def opened(browser: Opened, page: Path) -> None:
    browser.log()
    browser.open(page)
    assert browser.log() == ([], [page.as_uri()])


def rows(browser: Opened) -> list[list[str]]:
    """Cells of the map, with ordinary blanks and without what only screen readers are told."""
    found: list[list[str]] = browser.run(
        "return [...document.querySelectorAll('.heat-table tbody tr')].map((row) =>"
        "[...row.cells].map((cell) => cell.childNodes[0].textContent.replaceAll('\\u00a0', ' ')))"
    )
    return found


def choose(browser: Opened, label: str, option: str) -> None:
    (select,) = [
        element.find_element("css selector", "select")
        for element in browser.driver.find_elements("css selector", ".heat-tools label")
        if element.text.startswith(label)
    ]
    browser.run(
        "const [select, text] = arguments;"
        "select.value = [...select.options].find((one) => one.textContent === text).value;"
        "select.dispatchEvent(new Event('change'))",
        select,
        option,
    )


def of_machines(document: dict[str, Any], **words: str) -> Callable[[str], list[Any]]:
    """Figures of the machines with these words, by the pool's size."""
    fit = [m for m in document["machines"] if words.items() <= m.items()]
    ordered = sorted(fit, key=lambda m: int(m["pkmap"]))
    return lambda figure: [m["figures"][figure] for m in ordered]


def test_figures_and_axes_are_chosen(browser: Opened, swept: Made) -> None:
    page, document = swept
    opened(browser, page)
    assert [row[0] for row in rows(browser)] == ["256", "512", "1024"]
    choose(browser, "Figure", "kmap")
    choose(browser, "Columns", "cpus")
    assert browser.texts(".heat-table thead th") == ["pkmap \\ cpus", "1", "2", "4"]
    for at, cpus in enumerate(("1", "2", "4"), 1):
        told = of_machines(document, cpus=cpus, split="3g")
        for text, kmap, asleep in zip(
            [row[at] for row in rows(browser)], told("kmap"), told("asleep"), strict=True
        ):
            assert text.replace("≥ ", "") == ("stuck" if asleep else str(kmap))
    choose(browser, "split", "2g")
    assert {text for row in rows(browser) for text in row[1:]} == {"·"}
    choose(browser, "Rows", "cpus")  # changes places with the columns
    assert browser.texts(".heat-table thead th") == ["cpus \\ pkmap", "256", "512", "1024"]
    choose(browser, "split", "3g")
    captured = browser.texts(".heat-table td.captured")
    assert len(captured) == 1
    assert "captured machine" in captured[0]


def test_a_cell_tells_all_of_its_machine(browser: Opened, swept: Made) -> None:
    from selenium.webdriver.common.keys import Keys

    page, document = swept
    opened(browser, page)
    browser.find(".heat-table tbody tr:first-child td:nth-child(2)").click()
    browser.act().send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT).perform()
    assert browser.run("return document.activeElement.cellIndex") == 2
    words = dict(
        word.split(" ")
        for word in browser.texts(".cell-detail .bold")[0].split(" (")[0].split(", ")
    )
    assert words["pkmap"] == "512"
    (machine,) = [m for m in document["machines"] if words.items() <= m.items()]
    labels, values = browser.texts(".cell-detail dt"), browser.texts(".cell-detail dd")
    told = dict(zip(labels, values, strict=True))
    for name, label in (("lowmem", "lowmem, MiB"), ("user", "user space, MiB")):
        assert told[label].replace(" ", "") == str(machine["figures"][name] >> 20)
    shown = [value for label, value in zip(labels, values, strict=True) if label == "caveat"]
    assert set(shown) <= {" ".join(caveat.split()) for caveat in machine["caveats"]}
    tabbed = browser.run(
        "return document.querySelectorAll('.heat-table td[tabindex=\"0\"]').length"
    )
    assert tabbed == 1


def test_columns_of_machines_sort_by_value(browser: Opened, swept: Made) -> None:
    page, document = swept
    opened(browser, page)
    head = "#machines-table"
    browser.run(
        "const table = document.querySelector('table.grid'); table.id = 'machines-table';"
        "[...table.tHead.rows[0].cells].find((h) => h.textContent === 'cost')"
        ".querySelector('button').click()"
    )
    order = browser.run(
        f"return [...document.querySelectorAll('{head} tbody tr')]"
        ".map((row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent.split(' ')[0]))"
    )
    costs = {
        (m["pkmap"], m["split"], m["cpus"]): m["figures"]["cost_ns"] for m in document["machines"]
    }
    sorted_by = [costs[key] for key in map(tuple, order)]
    assert sorted_by == sorted(costs.values(), reverse=True)


def test_another_build_is_put_beside_the_present_one(browser: Opened, advised: Made) -> None:
    page, document = advised
    opened(browser, page)
    shown = "return [...document.querySelectorAll('.sides h3')].filter((h) => h.checkVisibility())"
    titles = f"{shown}.map((h) => h.textContent.trim())"
    assert browser.run(titles) == ["3g, HIGHMEM now", "3g_opt, no HIGHMEM the choice"]
    options = browser.texts("#beside-1 option")
    assert len(options) == len(document["captures"][0]["splits"]) - 1
    browser.run(
        "const select = document.getElementById('beside-1'); select.selectedIndex ="
        "[...select.options].findIndex((o) => o.textContent.startsWith('1g, no HIGHMEM'));"
        "select.dispatchEvent(new Event('change'))"
    )
    assert browser.run(titles) == ["3g, HIGHMEM now", "1g, no HIGHMEM better?"]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(
    browser: Opened, swept: Made, advised: Made, width: int
) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    for page, _ in (swept, advised):
        opened(browser, page)
        browser.command("Emulation.setDeviceMetricsOverride", **screen)
        try:
            assert browser.run("return document.documentElement.scrollWidth") <= width
        finally:
            browser.command("Emulation.clearDeviceMetricsOverride")


def test_everything_has_a_name_and_contrast(browser: Opened, swept: Made) -> None:
    opened(browser, swept[0])
    unnamed = browser.run(
        "return [...document.querySelectorAll('button, input, select, [role=region]')]"
        ".filter((e) => !(e.ariaLabel || e.textContent.trim() && e.tagName !== 'SELECT'"
        " || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    for features in ([], [dark]):
        browser.command("Emulation.setEmulatedMedia", features=features)
        for at in range(7):
            colours = browser.run(
                "const cell = document.querySelector('.heat-table tbody td');"
                "cell.className = `s${arguments[0]}`; const style = getComputedStyle(cell);"
                "return [style.color, style.backgroundColor]",
                at,
            )
            light, deep = sorted(map(luminance, colours), reverse=True)
            assert (light + 0.05) / (deep + 0.05) >= 4.5, (at, features)
    browser.command("Emulation.setEmulatedMedia", features=[])


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 has it."""
    parts = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
