"""Pages into one folder, Sphinx over it, and what the result would load from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.docsite import commands, rules, schemas, tables
from tests.readme import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS: Final = ROOT / "docs"
PROJECT: Final = ("CHANGELOG", "CONTRIBUTING", "SECURITY")
"""Pages of the repository's top that the site has in its folder project/."""
_LOADS: Final = (
    re.compile(
        r"<(?:link|script|img|iframe|source|object|embed)\b[^>]*?(?:src|href|data)=\"([^\"]*)"
    ),
    re.compile(r"@import\s+(?:url\()?[\"']?([^\"')]+)"),
    re.compile(r"url\(\s*[\"']?([^\"')]+)"),
)
_TOP: Final = re.compile(rf"(\]\((?:\.\./)*)\.\./({'|'.join(PROJECT)})\.md")
"""A link to one of these from a page of docs/."""
_LINK: Final = re.compile(r"<a\b[^>]*?href=\"(https?://[^\"]*)")


def made() -> Iterator[tuple[str, str]]:
    """Pages that are written by no hand: path in docs/, and text."""
    yield from commands.pages()
    yield from rules.pages()
    yield from schemas.pages()
    yield from tables.pages()
    for name in PROJECT:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        text = text.replace("](docs/", "](../")
        yield f"project/{name.lower()}.md", text


def stage(source: Path) -> None:
    """Put docs/ and the pages that are made into one folder, which must not be there."""
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("__pycache__"))
    for path in source.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        path.write_text(_TOP.sub(lambda m: f"{m[1]}project/{m[2].lower()}.md", text))
    for name, text in made():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def build(folder: Path) -> Path:
    """Make the site; what an earlier run left in the folder goes.

    Returns
    -------
    Path
        The folder with ``index.html``.

    Raises
    ------
    subprocess.CalledProcessError
        Sphinx found something wrong: a link that leads nowhere, a page that no menu has.
    """
    source, site = folder / "source", folder / "html"
    for left in (source, site):
        shutil.rmtree(left, ignore_errors=True)
    stage(source)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html"]
    doctrees = ["-d", folder / "doctrees"]
    subprocess.run([*sphinx, *doctrees, source, site], check=True, cwd=ROOT)
    return site


def loads(site: Path) -> Iterator[tuple[Path, str]]:
    """What pages and styles load when they are opened: file of the site, address."""
    for path in sorted(site.rglob("*")):
        if path.suffix in {".html", ".css"}:
            text = path.read_text(encoding="utf-8")
            for pattern in _LOADS[path.suffix == ".css" :]:
                yield from ((path, address) for address in pattern.findall(text))


def links_outside(site: Path) -> dict[str, list[str]]:
    """Addresses of the web that a reader may follow, with the pages that have them."""
    found: dict[str, list[str]] = {}
    for path in sorted(site.rglob("*.html")):
        for address in _LINK.findall(path.read_text(encoding="utf-8")):
            found.setdefault(address, []).append(path.relative_to(site).as_posix())
    return found
