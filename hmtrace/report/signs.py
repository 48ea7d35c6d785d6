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
_ELIDED: Final = re.compile(r"(?<=[\w.]{4})[A-Za-z_.]{2}…")
"""A name that lost its middle may lose two letters more: its dots take three columns."""
_NARROW: Final = {"→": ">", "←": "<", "…": "~"}
"""What a sign becomes where a line has no room for what stands for it elsewhere."""
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


def plain(text: str, width: int | None = None) -> str:
    """Text that has been laid out, with ASCII in place of its signs.

    A sign that becomes several characters takes room from the next run of blanks of its line, so
    that columns stay below each other; three dots inside a name from the name.

    Parameters
    ----------
    text
        Lines, as a terminal of Unicode has them.
    width
        Columns that no line leaves if that can be helped: rules end earlier, arrows lose their
        shafts.

    Examples
    --------
    >>> print(plain("│ waits   ≥3   1.2 µs │"))
    | waits   >=3  1.2 us |
    >>> print(plain("┌──┐ ██▌ 10…20 copy_user_h…+0xc2"))
    +--+ ### 10...20 copy_user...+0xc2
    >>> print(plain("Pool → ──────", 13))
    Pool -> -----
    >>> print(plain("1 → 2 · 3 → 4", 14))
    1 -> 2 | 3 > 4
    """
    return "\n".join(_plain_line(line, width) for line in text.split("\n"))


def _plain_line(line: str, width: int | None) -> str:
    if line.isascii():
        return line
    line = _ELIDED.sub("...", line)
    shown = _replaced(line)
    if width is None or len(shown) <= width:
        return shown
    if line.endswith(("─" * (len(shown) - width + 1), "-" * (len(shown) - width + 1))):
        return shown[:width]
    for sign, narrow in _NARROW.items():
        while sign in line and len(shown) > width:
            before, _, after = line.rpartition(sign)
            line = before + narrow + after
            shown = _replaced(line)
    return shown


def _replaced(line: str) -> str:
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
