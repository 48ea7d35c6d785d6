"""The site is built, stands alone, can be searched, and has a page for all that the program has."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
import typer

from collectors.events import OPS, SCHEMA
from hmtrace.cli import app
from tests.docsite.build import build, links_outside, loads
from tests.readme import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def site(shared_folder: Path) -> Path:
    """Built with warnings as errors: each link within it leads somewhere. All workers have one."""
    folder = shared_folder / "site"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            build(folder)
            (folder / "built").touch()
    return folder / "html"


def shown(site: Path, page: str) -> str:
    """Words of a page, without its menus."""
    text = (site / f"{page}.html").read_text()
    article = text[text.index('<article role="main"') : text.index("</article>")]
    plain = re.sub(r"<[^>]+>", "", article)
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = list(loads(site))
    assert len(found) > 1000
    for path, address in found:
        parts = urlsplit(address)
        assert (parts.scheme, parts.netloc) in {("", ""), ("data", "")}, f"{path}: {address}"
        if parts.path and not parts.scheme:
            assert (path.parent / unquote(parts.path)).exists(), f"{path}: {address}"
    scripts = [re.findall(r"<script>(.*?)</script>", p.read_text()) for p in site.rglob("*.html")]
    assert not any("http" in script for page in scripts for script in page)


def test_links_that_leave_it_are_few_and_known(site: Path) -> None:
    hosts = {urlsplit(address).netloc for address in links_outside(site)}
    assert hosts <= {
        "github.com",  # Furo's own line at the foot
        "pradyunsg.me",
        "www.sphinx-doc.org",
        "keepachangelog.com",
        "semver.org",
    }


def test_every_page_is_in_the_search_index(site: Path) -> None:
    text = (site / "searchindex.js").read_text()
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    written = {p.relative_to(ROOT / "docs").with_suffix("").as_posix() for p in PAGES[2:]}
    assert written < set(index["docnames"])
    terms, titles = index["terms"]["deadlock"], index["titleterms"]["deadlock"]
    found = {index["docnames"][number] for number in (*terms, *[titles])}
    assert {"check", "reference/rules/kmap-deadlock"} <= found


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_search_works_from_a_file(site: Path, tmp_path: Path) -> None:
    shell = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    shell += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000"]
    address = f"{(site / 'search.html').as_uri()}?q=deadlock"
    done = subprocess.run(
        [*shell, address], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"<ul[^>]* class=\"search\">(.*?)</ul>", done.stdout)
    assert found is not None
    assert "reference/rules/kmap-deadlock.html" in found[1]


def test_every_command_has_a_page_with_all_its_options(site: Path) -> None:
    group: Any = typer.main.get_command(app)
    assert len(group.commands) >= 13
    for name, command in group.commands.items():
        text = shown(site, f"reference/commands/{name}")
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("-"):
                    assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{name} {option}"


def test_every_rule_has_a_page(site: Path) -> None:
    source = "".join(path.read_text() for path in (ROOT / "replay/rules").glob("*.py"))
    names = set(re.findall(r"FindingRule\(\s*(?:name=)?\"([a-z-]+)\"", source))
    assert {"kmap-deadlock", "local-depth", "arena-exhausted"} <= names
    assert {p.stem for p in (site / "reference/rules").glob("*.html")} == {*names, "index"}
    assert "map one page at a time" in shown(site, "reference/rules/kmap-deadlock").lower()


def test_every_schema_has_a_page_with_its_keys(site: Path) -> None:
    for path in (ROOT / "docs/schemas").glob("*.json"):
        text = shown(site, f"reference/schemas/{path.stem}")
        schema = json.loads(path.read_text())
        assert schema["title"] in text
        for key, below in schema["properties"].items():
            assert key in text
            for inner in below.get("properties", {}):
                assert f"{key}.{inner}" in text
    assert "findings[].evidence" in shown(site, "reference/schemas/report")
    assert list(site.glob("_downloads/*/report.json"))


def test_tables_have_every_column_operation_cost_and_preset(site: Path) -> None:
    events = shown(site, "reference/events")
    assert {*SCHEMA, *OPS} <= set(re.findall(r"\w+", events))
    assert "Nanoseconds of the trace clock" in events
    costs = tomllib.loads((ROOT / "replay/machine/costs.toml").read_text())
    text = " ".join(shown(site, "reference/costs").split())
    text = text.replace("&#39;", "'").replace("&quot;", '"')
    for name, cost in costs.items():
        assert name in text
        assert " ".join(cost["source"].split()) in text
    machines = shown(site, "reference/machines")
    for path in (ROOT / "replay/machine/presets").glob("*.toml"):
        assert path.stem in machines


def test_exit_codes_are_those_of_the_program(site: Path) -> None:
    text = shown(site, "reference/exit-codes")
    source = (ROOT / "hmtrace/__main__.py").read_text()
    named = {int(n) for n in re.findall(r"(?m)^EXIT_\w+ = (\d+)$", source)}
    assert named
    assert named | {0, 1, 2, 3, 130} <= {int(n) for n in re.findall(r"\b\d{1,3}\b", text)}
