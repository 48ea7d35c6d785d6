"""Text in the language of manual pages: the macros of man(7) that groff and mandoc both have."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

from hmtrace.report import signs

if TYPE_CHECKING:
    from collections.abc import Iterable

_LITERAL: Final = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
"""Signs that come out as others where they are not escaped, so that a copied line does not run."""

_WIDTH: Final = 78


def literal(text: str) -> str:
    r"""Text to be typed as it stands.

    Examples
    --------
    >>> print(literal("sh -c 'x'"))
    sh \-c \(aqx\(aq
    """
    plain = signs.plain(text)
    return _guarded("".join(_LITERAL.get(char, char) for char in plain))


def prose(text: str) -> str:
    r"""A paragraph, each sentence on lines of its own; names of options in it can be copied.

    Examples
    --------
    >>> print(prose("One a line: --pae, or ~/.cache. Then .ko files."))
    One a line: \%\-\-pae, or \%\(ti/.cache.
    Then .ko files.
    """
    sentences = re.split(r"(?<=[.?!]) (?=[A-Z])", signs.plain(text))
    return "\n".join("\n".join(_lines(sentence)) for sentence in sentences)


def _lines(sentence: str) -> list[str]:
    """Lines of a sentence; a full stop that ends a line would end it, too."""
    words = ["\\%" + literal(w) if _is_typed(w) else _escaped(w) for w in sentence.split()]
    wrapped = textwrap.wrap(" ".join(words), _WIDTH, break_long_words=False, break_on_hyphens=False)
    ends = [re.sub(r"([.?!])$", r"\1\\&", line) for line in wrapped[:-1]]
    return [_guarded(line) for line in (*ends, *wrapped[-1:])]


def bold(text: str) -> str:
    """What is typed as it stands, in bold."""
    return f"\\fB\\%{literal(text)}\\fR"


def italic(text: str) -> str:
    """What something else stands for, in italics."""
    return f"\\fI{literal(text)}\\fR"


def section(title: str, *blocks: str) -> str:
    """A section; nothing where it has no blocks."""
    return "\n".join([f".SH {title}", *blocks]) if blocks else ""


def terms(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Blocks of a list of terms, which are set already, each with a paragraph that is."""
    return [f".TP\n{term}\n{text}" for term, text in pairs]


def paragraphs(texts: Iterable[str]) -> list[str]:
    """Blocks of paragraphs, the first right below the title of its section."""
    return [(".PP\n" if at else "") + prose(text) for at, text in enumerate(texts)]


def lines(texts: Iterable[str]) -> list[str]:
    """A block of lines that are typed, each on a line of its own."""
    text = "\n".join(map(literal, texts))
    return [f".EX\n{text}\n.EE"] if text else []


def _is_typed(word: str) -> bool:
    return re.search(r"^[(\[\"']*[-~$]|\w=|/", word) is not None


def _escaped(word: str) -> str:
    return word.replace("\\", "\\e")


def _guarded(line: str) -> str:
    """A line that begins with a sign of roff's own would be an order."""
    return "\\&" + line if line.startswith((".", "'")) else line
