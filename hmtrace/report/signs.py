"""Signs beyond ASCII, and what stands for them where a terminal has ASCII alone."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

SIGNS: Final = {
    "≥": ">=", "≤": "<=", "≈": "~", "±": "+-", "…": "...", "·": "|", "×": "x", "µ": "u", "μ": "u",
    "←": "<-", "→": "->", "↑": "^", "↓": "v", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"',
    "”": '"', "•": "*", "−": "-",
    "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "-", "▎": "-", "▏": "-",
    "▇": "#", "▆": "*", "▅": "+", "▄": "=", "▃": "-", "▂": ".", "▁": "_",
    "▓": "%", "▒": "+", "░": ".",
    "─": "-", "━": "-", "│": "|", "┃": "|", "═": "=", "║": "|",
}  # fmt: skip
"""Sign to ASCII; other characters of boxes become a plus."""
_BOX: Final = re.compile("[\u2500-\u257f]")
_SPARE: Final = re.compile("  +")
_PLAIN_LOCALES: Final = ("C", "POSIX")


def is_plain(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream takes ASCII alone.

    It does where its encoding is none of Unicode's, and a terminal does whose locale is expressly C
    or POSIX: Python writes UTF-8 there, too, but nobody said that the terminal shows it.
    """
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        return True
    names = (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    chosen = next(filter(None, names), "")
    return chosen in _PLAIN_LOCALES and stream.isatty()


def plain(text: str) -> str:
    """Text that has been laid out, with ASCII in place of its signs.

    A sign that becomes several characters takes room from the next run of blanks of its line, so
    that columns stay below each other.

    Examples
    --------
    >>> print(plain("│ waits   ≥3   1.2 µs │"))
    | waits   >=3  1.2 us |
    >>> print(plain("┌──┐ ██▌ 10…20"))
    +--+ ### 10...20
    """
    return "\n".join(map(_plain_line, text.split("\n")))


def _plain_line(line: str) -> str:
    if line.isascii():
        return line
    out: list[str] = []
    owed = 0
    for piece in re.split("(  +)", line):
        if _SPARE.fullmatch(piece):
            given = min(owed, len(piece) - 1)
            owed -= given
            out.append(piece[given:])
            continue
        for char in piece:
            sign = SIGNS.get(char) or ("+" if _BOX.fullmatch(char) else char)
            owed += len(sign) - 1
            out.append(sign)
    return "".join(out)
