"""The file of ``report --html``: complete, closed to the network, the figures of the document."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app
from hmtrace.html.page import PageHead, page
from hmtrace.report.text import count
from tests.hmtrace.test_sections import RULED

FIXTURES = Path(__file__).parents[3] / "fixtures"
WAITERS = str(FIXTURES / "i386-hog-a-waiters-pae-smp2")
LOST = str(FIXTURES / "i386-lost-overrun-pae-smp2")
VOID = {"meta", "rect", "br", "input", "link", "img"}
LARGEST = 3_000_000
"""Bytes of a page at most, whatever the capture."""


class Parsed(HTMLParser):
    """What a page holds; elements have to be closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(tmp_path: Path, capture: str, *more: str) -> str:
    target = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", capture, "--html", str(target), *more])
    assert result.exit_code == 0, result.output
    assert f"wrote {target}" in result.stderr
    return target.read_text()


@pytest.fixture(scope="module")
def waiters(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("page"), WAITERS)


def test_the_policy_names_every_script_and_style_and_nothing_else(waiters: str) -> None:
    parsed = Parsed(waiters)
    (policy,) = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.keys() == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    assert {rules[name] for name in ("default-src", "base-uri", "form-action")} == {"'none'"}

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = re.findall(r"<script>(.*?)</script>", waiters, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", waiters, re.DOTALL)
    assert rules["script-src"].split() == [digest(text) for text in scripts]
    assert rules["style-src"].split() == [digest(text) for text in styles]


def test_nothing_in_it_points_elsewhere_or_runs_from_an_attribute(waiters: str) -> None:
    anchors = {attributes.get("id") for _, attributes in Parsed(waiters).tags}
    for tag, attributes in Parsed(waiters).tags:
        assert not attributes.keys() & {"src", "srcset", "style", "action", "formaction", "ping"}
        assert not [name for name in attributes if name.startswith("on")], tag
        if "href" in attributes:
            target = attributes["href"]
            assert target is not None
            assert target.startswith("#")
            assert target[1:] in anchors
        assert tag not in {"iframe", "object", "embed", "base", "form"}


def test_it_has_every_section_of_the_terminal(waiters: str) -> None:
    shown = CliRunner().invoke(app, ["report", "--all", WAITERS]).stdout.split("\n")
    titles = {
        re.split(" {2,}", match["title"])[0].strip()
        for line in shown
        if (match := RULED.match(line))
    }
    on_page = set(re.findall(r'<h2 id="[^"]*">([^<]*?)(?: <small>|</h2>)', waiters))
    elsewhere = {"RAM", "Slots over time"}  # below the address space, on the timeline
    assert titles - elsewhere - on_page == set()
    assert {"Overview", "Findings"} <= on_page


def test_it_has_the_figures_and_findings_of_the_document(waiters: str) -> None:
    document = json.loads(CliRunner().invoke(app, ["report", "--format", "json", WAITERS]).stdout)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", waiters)).replace("\xa0", " ")
    for finding in document["findings"]:
        assert re.sub(r"\s+", " ", finding["message"]) in text.replace("&#39;", "'")
    assert f"{document['pool']['maps']} kmap" in text
    assert f"at most {document['pool']['max_used']} of {document['pool']['slots']} slots" in text
    assert (
        len(document["sites"])
        == waiters.count(
            "</tr>", waiters.index('id="call-sites"'), waiters.index('id="address-space"')
        )
        - 1
    )


def test_where_nothing_is_wrong_the_verdict_says_how_far_from_it(tmp_path: Path) -> None:
    text = written(tmp_path, str(FIXTURES / "i386-minix-pae-smp2"))
    start = text.index('<p class="verdict fine">')
    words = re.sub(r"<[^>]*>", " ", text[start : text.index("</p>", start)])
    assert " ".join(words.replace("\xa0", " ").split()) == (
        "nothing to act on mapping costs &lt;0.1 % of CPU time; at most 3 of 512 slots in use, "
        "nobody waited; local depth 2 of 15; none of 9 arena allocations failed"
    )


def test_what_was_lost_stands_at_the_top(tmp_path: Path) -> None:
    text = written(tmp_path, LOST)
    banner = text.index('<div class="lost" role="alert">')
    assert banner < text.index("<main ")
    words = text[banner : text.index("</div>", banner)].replace("\xa0", " ")
    assert "LOST: 77 468 events on CPU 0, 1 in 2 intervals" in words
    assert "CPU 0: 47 327 events, ring buffer overwritten before the first event" in words
    assert "Counts are lower bounds" in words


def test_digits_are_grouped_on_the_page_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", WAITERS, "--html", str(tmp_path / "page.html")])
    assert "42902 events" in result.stdout
    assert "42\xa0902\xa0events" in (tmp_path / "page.html").read_text()
    assert count(1024) == "1024"


def test_an_existing_file_is_replaced_by_force_alone(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("precious")
    refused = CliRunner().invoke(app, ["report", WAITERS, "--html", str(target)])
    assert getattr(refused.exception, "exit_code", None) == 2
    assert target.read_text() == "precious"
    assert len(written(tmp_path, WAITERS, "--force")) < LARGEST


def test_it_is_neither_the_capture_nor_the_other_output(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(b"# tracer: nop\n")
    for words in (
        ["--html", "-"],
        ["--html", str(trace)],
        ["-o", str(tmp_path / "a"), "--html", str(tmp_path / "a")],
    ):
        refused = CliRunner().invoke(app, ["report", str(trace), *words, "--force"])
        assert getattr(refused.exception, "exit_code", None) == 2
    assert trace.read_bytes() == b"# tracer: nop\n"
    assert not (tmp_path / "a").exists()


def test_no_data_ends_its_element() -> None:
    text = page(
        PageHead("report", "x"), [], {"comm": "</script><script>alert(1)</script>", "é": "\u2028"}
    )
    parsed = Parsed(text)
    assert len(parsed.all("script")) == 3
    (data,) = re.findall(r'id="data">(.*?)</script>', text)
    assert json.loads(data) == {"comm": "</script><script>alert(1)</script>", "é": "\u2028"}
    assert data.isascii()
