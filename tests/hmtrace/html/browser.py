"""A headless chromium that pages are opened in, and what it had to say."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1200,900",
)  # fmt: skip


class Opened:
    """One browser; pages are opened in it one after another."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Open a page, whose charts are drawn when this comes back."""
        self.log()
        self.driver.get(page.as_uri())
        self.run("document.documentElement.style.scrollBehavior = 'auto'")

    def run(self, script: str, *arguments: object) -> Any:
        """What a script of the test's, which no policy of the page stops, gives back."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: object) -> None:
        """Go on when a script gives true: what the browser does in its own time is done."""
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(self.driver, 60, poll_frequency=0.05)
        wait.until(lambda _: self.run(script, *arguments), script)

    def find(self, selector: str) -> WebElement:
        """The only element of a selector."""
        (found,) = self.driver.find_elements("css selector", selector)
        return found

    def texts(self, selector: str) -> list[str]:
        """Text of each element as the page has it, with ordinary blanks."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return [" ".join(text.split()) for text in self.run(script, selector)]

    def act(self) -> ActionChains:
        """Begin what a hand does; its pointer needs no quarter of a second for a movement."""
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.driver, duration=20)

    def command(self, name: str, **parameters: object) -> Any:
        """A command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def log(self) -> tuple[list[str], list[str]]:
        """What was said on the console, and which URLs were fetched, since the last time.

        What the page's policy stopped is not fetched.
        """
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        stopped = {
            event["params"]["requestId"]
            for event in events
            if event["method"] == "Network.loadingFailed"
            and event["params"].get("blockedReason") == "csp"
        }
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
            and event["params"]["requestId"] not in stopped
        ]
        return said, asked


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The browser, started once for a module's tests; they are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    paths = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(paths):
        pytest.skip("no chromium with chromedriver here (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    try:
        driver.get("about:blank")  # else its own first page may still fetch its parts
        yield Opened(driver)
    finally:
        driver.quit()
