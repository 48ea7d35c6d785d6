"""Numbers and foreign strings as people read them.

Task names, symbols, file names and boot lines come from the machine that was traced: whoever
could name a task could put an escape sequence into it. Everything foreign passes :func:`clean`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NA = "n/a"
"""Shown where a figure is not known."""

GLUE = "\N{BRAILLE PATTERN BLANK}"
"""Stands between a figure and its unit, so that lines do not break there: rich breaks lines at
every white space, the no-break space included. :func:`unglued` turns it into a blank."""

_TIMES = ((1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES = (
    ("EiB", 1 << 60, 10 << 60),
    ("TiB", 1 << 40, 10 << 40),
    ("GiB", 1 << 30, 10 << 30),
    ("MiB", 1 << 20, 1 << 20),
    ("KiB", 1 << 10, 1 << 10),
)
"""Suffix, its bytes, and the size from which it is used even if something is left over."""
_ACTED_ON = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")
_SYMBOL_SIZE = re.compile(r"(?<=[0-9a-f])/0x[0-9a-f]+(?=\s|$)")


def clean(text: object, limit: int = 200) -> str:
    r"""Make a foreign string safe to print.

    Parameters
    ----------
    text
        Anything; its ``str()`` is taken.
    limit
        Characters of the result at most; longer text ends in ``…``.

    Returns
    -------
    str
        One line: control and format characters (escape sequences, direction overrides),
        surrogates, unassigned code points, and blanks other than the ordinary one, which would
        make two names look alike, are written as ``\x1b`` or ``\u202e``.

    Examples
    --------
    >>> clean("kworker/0:1")
    'kworker/0:1'
    >>> clean("\x1b[2Jevil")
    '\\x1b[2Jevil'
    """
    raw = str(text)
    shown = raw[:limit]
    if not shown.isascii() or not shown.isprintable():
        shown = "".join(map(_escaped, shown))
    if len(raw) > limit or len(shown) > limit:
        return shown[: max(limit - 1, 0)] + "…"
    return shown


def last_part(path: str) -> str:
    r"""The last part of a foreign path, safe to print.

    Examples
    --------
    >>> last_part("captures/board-7/"), last_part("-")
    ('board-7', '-')
    """
    return clean(path.rstrip("/").rsplit("/", 1)[-1])


def inert(text: str) -> str:
    r"""Text of many lines in which a terminal acts on nothing but the ends of lines.

    Examples
    --------
    >>> inert("1,\x1b[31m\u202e,µ\n")
    '1,\\x1b[31m\\u202e,µ\n'
    """
    if text.isascii() and not _ACTED_ON.search(text):
        return text
    return "".join(char if char == "\n" else _escaped(char) for char in text)


def ascii_json(text: str) -> str:
    r"""JSON as it is, with ASCII alone.

    Examples
    --------
    >>> ascii_json('{"comm":"\u202e\x7fé\U0001f600"}')
    '{"comm":"\\u202e\\u007f\\u00e9\\ud83d\\ude00"}'
    """
    return _NOT_ASCII.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"


def unglued(text: str) -> str:
    """Text that has been laid out, with ordinary blanks."""
    return text.replace(GLUE, " ")


_group = ""
"""What stands between groups of three digits."""


def group_digits(*, wanted: bool) -> None:
    """Choose whether digits are grouped: for people they are, for awk they must not be."""
    global _group  # noqa: PLW0603  (set once, when it is known where the result goes)
    _group = GLUE if wanted else ""


@contextmanager
def digits_grouped() -> Iterator[None]:
    """Digits are grouped in here, and then as they were before."""
    before = bool(_group)
    group_digits(wanted=True)
    try:
        yield
    finally:
        group_digits(wanted=before)


def count(value: float | None) -> str:
    r"""Whole number, with an unbreakable blank between groups of three digits if they are grouped.

    Examples
    --------
    >>> count(24271)
    '24271'
    """
    return NA if value is None else f"{value:,.0f}".replace(",", _group)


def plural(value: int, one: str, many: str | None = None) -> str:
    r"""Count with its noun.

    Examples
    --------
    >>> plural(1, "wait"), plural(3, "wait"), plural(2, "flush", "flushes")
    ('1\u2800wait', '3\u2800waits', '2\u2800flushes')
    """
    return f"{count(value)}{GLUE}{one if value == 1 else many or one + 's'}"


def share(value: float | None) -> str:
    r"""Share of 1 as a percentage.

    A share that rounds to nothing or to everything without being it says so: 0.01 % of a trace
    may still be the one wait that somebody looks for.

    Examples
    --------
    >>> share(0.875), share(0.0), share(0.00004), share(0.99999), share(1.0), share(None)
    ('87.5\u2800%', '0\u2800%', '<0.1\u2800%', '>99.9\u2800%', '100\u2800%', 'n/a')
    """
    if value is None:
        return NA
    percent = 100 * value
    if percent in {0, 100}:
        shown = f"{percent:.0f}"
    elif 0 < percent < 0.1:
        shown = "<0.1"
    elif 99.9 < percent < 100:
        shown = ">99.9"
    else:
        shown = f"{percent:.1f}"
    return f"{shown}{GLUE}%"


def duration(ns: float | None) -> str:
    r"""Time span of nanoseconds in the unit that leaves one to three digits.

    Examples
    --------
    >>> duration(850), duration(1_240_000), duration(12_400_000_000), duration(0)
    ('850\u2800ns', '1.2\u2800ms', '12.4\u2800s', '0\u2800ns')
    """
    if ns is None:
        return NA
    if abs(ns) < 999.5:
        return f"{ns:.0f}{GLUE}ns"
    factor, unit = next((f, u) for f, u in _TIMES if abs(ns) < 999.95 * f or u == "s")
    value = ns / factor
    return f"{f'{value:.1f}' if abs(value) < 9999 else count(value)}{GLUE}{unit}"


def clock(ts: float) -> str:
    """Time stamp as traces print it, seconds and microseconds.

    Examples
    --------
    >>> clock(1_234_567_890_123)
    '1234.567890'
    """
    return f"{int(ts) // 1_000_000_000}.{int(ts) % 1_000_000_000 // 1000:06d}"


def size(value: float | None) -> str:
    r"""Bytes with a binary suffix, cut off rather than rounded, as the kernel's messages are.

    GiB are used from 10 GiB on, or where nothing is left over: a lowmem of 1792 MiB is known by
    that name.

    Examples
    --------
    >>> size(2 << 20), size(0x36FFE000), size(1792 << 20), size(3 << 30), size(512)
    ('2\u2800MiB', '879\u2800MiB', '1792\u2800MiB', '3\u2800GiB', '512\u2800B')
    """
    if value is None:
        return NA
    whole = int(value)
    for suffix, unit, least in _SIZES:
        if abs(whole) >= unit and (abs(whole) >= least or whole % unit == 0):
            tenths = abs(whole) * 10 // unit
            fraction = f".{tenths % 10}" if tenths % 10 and tenths < 1000 else ""
            return f"{'-' if whole < 0 else ''}{tenths // 10}{fraction}{GLUE}{suffix}"
    return f"{whole}{GLUE}B"


def mib(value: float | None) -> str:
    r"""Bytes as MiB with two places where they are not whole, so that parts add up to their sum.

    For amounts that stand beside others of their kind: RAM and its zones, the arena and its use.

    Examples
    --------
    >>> mib(0x36FFE000 - 0x9000), mib(15504 << 20), mib(72 << 10), mib(None)
    ('879.95\u2800MiB', '15504\u2800MiB', '72\u2800KiB', 'n/a')
    """
    if value is None:
        return NA
    whole, hundredths = divmod(int(value) * 100 >> 20, 100)
    if whole < 1 or not (hundredths or whole % 1024):
        return size(whole << 20 if whole else value)
    return f"{whole}{f'.{hundredths:02d}' if hundredths else ''}{GLUE}MiB"


def number(value: float | None, digits: int = 1) -> str:
    """Plain number with a fixed number of digits after the point."""
    return NA if value is None else f"{value:.{digits}f}"


def address(value: int | None) -> str:
    """Virtual or physical address, at least eight hexadecimal digits, without prefix.

    Examples
    --------
    >>> address(0xC0000000), address(0x1_4000_0000)
    ('c0000000', '140000000')
    """
    return NA if value is None else f"{value:08x}"


def symbol(site: str) -> str:
    """Call site without the size of its function (``f+0x12/0x40`` becomes ``f+0x12``)."""
    return _SYMBOL_SIZE.sub("", clean(site))
