"""What these pages need of Sphinx beyond Markdown: pictures that follow the theme."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def visit_image(self: HTML5Translator, node: nodes.image) -> None:
    """Write an SVG into the page itself, where the theme's colours and the search reach it."""
    path = Path(self.builder.srcdir) / node["uri"]
    if path.suffix != ".svg" or not path.exists():
        HTML5Translator.visit_image(self, node)
        return
    self.body.append(f'<div class="picture">{path.read_text(encoding="utf-8").strip()}</div>')


def depart_image(self: HTML5Translator, node: nodes.image) -> None:
    """Nothing is left open."""


def without_mermaid(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Leave out what GitHub draws and nothing here does; the same stands below it as text."""
    source[0] = re.sub(r"(?ms)^```mermaid\n.*?^```\n", "", source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", without_mermaid)
    app.add_node(nodes.image, override=True, html=(visit_image, depart_image))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
