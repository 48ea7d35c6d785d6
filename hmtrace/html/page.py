"""The skeleton of a page: templates filled in, styles and scripts inside, and its policy."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from collectors.records import dataclass
from hmtrace import __version__
from hmtrace.report.text import GLUE, ascii_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hmtrace.html.blocks import Section
    from hmtrace.html.overview import LossBanner

_FIRST_SCRIPTS: Final = ("theme.js",)
"""Run before anything is drawn."""
_SCRIPTS: Final = ("tables.js",)
_CHART_SCRIPTS: Final = (
    "vendor/uPlot.LICENSE",
    "vendor/uPlot.iife.min.js",
    "format.js",
    "view.js",
    "maps.js",
    "plots.js",
    "timeline.js",
)
_STYLES: Final = ("page.css",)
_CHART_STYLES: Final = ("vendor/uPlot.min.css",)
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class PageHead:
    """What stands at the top and the foot of a page.

    Attributes
    ----------
    command
        Of hmtrace, that made it.
    title
        What it is about: safe to print.
    facts
        Phrases below the title.
    lost
        What tracing lost; None: nothing.
    foot
        Phrases at the foot.
    """

    command: str
    title: str
    facts: tuple[str, ...] = ()
    lost: LossBanner | None = None
    foot: tuple[str, ...] = ()


class Kit(NamedTuple):
    """Names of the scripts and styles that some pages have besides those of all."""

    scripts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()


MACHINES: Final = Kit(("choose.js", "heat.js"), ("machines.css",))
"""Of pages that compare machines."""


def page(
    head: PageHead,
    sections: Sequence[Section],
    data: Mapping[str, Any] | None = None,
    kit: Kit | None = None,
) -> str:
    """One HTML file.

    Parameters
    ----------
    head
        Title and foot.
    sections
        From top to bottom, each with an anchor of its own.
    data
        What scripts draw charts from, in the types that JSON has; None: there are no charts.
    kit
        Scripts and styles; None: those of charts, if there are any.

    Returns
    -------
    str
        Text of the file. Everything in it is escaped, and its policy lets no script run but those
        that are in it, and nothing be fetched.
    """
    if kit is None:
        kit = Kit() if data is None else Kit(_CHART_SCRIPTS, _CHART_STYLES)
    early = _assets(_FIRST_SCRIPTS)
    late = _assets((*kit.scripts, *_SCRIPTS))
    styles = _assets((*kit.styles, *_STYLES))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_digest(early)} {_digest(late)}",
            f"style-src {_digest(styles)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            head=head,
            sections=sections,
            policy=policy,
            early=Markup(early),  # our own files, which the policy names by digest
            late=Markup(late),
            styles=Markup(styles),
            data=Markup(_embedded(data)) if data is not None else None,
            version=__version__,
        )
    )


def shown(text: object) -> str:
    r"""Text of a report as a page has it: what must not be parted stays together.

    Examples
    --------
    >>> shown("12\u2800MiB") == "12\xa0MiB"
    True
    """
    return str(text).replace(GLUE, _NO_BREAK)


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that no HTML parser finds an end of its element in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return ascii_json(safe)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hmtrace.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return environment


@cache
def _assets(names: tuple[str, ...]) -> str:
    """Files of ``assets/`` one behind the other; licences as comments."""
    folder = files("hmtrace.html") / "assets"
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in names}
    return "\n".join(
        f"/*\n{text}*/" if name.endswith("LICENSE") else text for name, text in texts.items()
    )


def _digest(text: str) -> str:
    """A source of a content security policy that is this very text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
