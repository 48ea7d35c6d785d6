"""Words and tables as Markdown, from docstrings in reStructuredText and from plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")
_SPECIAL = re.compile(r"([\\*_<>|\[\]{}$~#^])")


def words(text: str) -> str:
    """Text as Markdown that shows it: what is between backquotes is code, the rest means nothing.

    Examples
    --------
    >>> words("__vmalloc() of `a|b`, <FILE>")
    '\\\\_\\\\_vmalloc() of `a\\\\|b`, \\\\<FILE\\\\>'
    """
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        part.replace("|", "\\|") if part.startswith("`") else _SPECIAL.sub(r"\\\1", part)
        for part in parts
    )


def from_rest(text: str) -> str:
    """A paragraph of a docstring as Markdown.

    Examples
    --------
    >>> from_rest("See :data:`replay.x.COSTS`, ``a_b``.")
    'See `COSTS`, `a_b`.'
    """
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return words(text.replace("``", "`"))


def code(text: object) -> str:
    """Text as code, within a table too."""
    return f"`{text}`".replace("|", "\\|") if str(text) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def described(text: str) -> dict[str, str]:
    """Names of a numpydoc section with what is below each, one paragraph.

    Examples
    --------
    >>> described('''
    ... ts, end_ts
    ...     Nanoseconds.
    ... cpu
    ...     A number.''')
    {'ts, end_ts': 'Nanoseconds.', 'cpu': 'A number.'}
    """
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.strip("\n").splitlines():
        if line.startswith(" ") and name:
            found[name].append(line.strip())
        elif re.fullmatch(r"\w+(, \w+)*", line):
            name = line
            found[name] = []
        else:
            name = ""
    return {name: " ".join(lines) for name, lines in found.items()}
