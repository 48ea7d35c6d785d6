"""The lines of a kernel's log without what stands before them, however it was written down.

A message that is ``[    0.000000] x`` in the kernel's ring is ``<5>x``, ``[  +0.000000] x``,
``kern  :notice: [Mon Nov 30 05:28:39 2026] x``, ``Nov 30 05:28:39 board kernel: [    0.000000] x``
or nothing but ``x`` in what dmesg, syslog, the journal or a serial console made of it; in JSON
(``journalctl -o json``, ``dmesg -J``) it is a string of its own.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINES: Final = 100_000
"""Lines that are read: the boot stands in the first few hundred of a log."""
MAX_LINE: Final = 2000
"""Characters of a line that are looked at."""

_MOST: Final = 6
"""Prefixes that a line may have one before the other."""

_TIME = r"\d\d:\d\d:\d\d(?:[.,:]\d{1,9})?"
_DAY = r"[A-Z][a-z]{2}"
_WORD = r"[^\s\[\]<>:]{1,12}"
_PREFIXES: Final = (
    r"\x1b\[[0-9;]{0,16}[mK]",  # colours of a terminal
    r"<\d{1,3}>",  # level, dmesg -r and consoles
    r"\d{1,4},\d{1,12},\d{1,16},[-c+](?:,\w{1,20}=\w{1,20})?;",  # /dev/kmsg
    r"[a-z]\w{2,7} {0,6}:[a-z]{3,6} {0,6}:",  # facility and level, dmesg -x
    # time since boot; with the time since the last line, dmesg -d
    r"\[ {0,12}(?P<since>\d{1,9}\.\d{6})(?: {1,4}< {0,12}\d{1,12}\.\d{1,9}>)?\]",
    # as others write it; of a grabber of consoles, twice
    r"\[ {0,12}\d{1,12}\.\d{1,9}(?: {1,4}<? {0,12}\d{1,12}\.\d{1,9}>?)?\]",
    # dmesg -T, -T -d, in the words of any language; -H, a new minute
    rf"\[{_WORD} {_WORD} [ \d]\d {_TIME} \d{{4}}(?: <[ +\d.]{{1,24}}>)?\]",
    rf"\[{_WORD}?\d{{1,2}} \d\d:\d\d\]",
    r"\[ {0,8}\+\d{1,9}\.\d{1,9}\]",  # dmesg -H, time since the last line
    r"\[<[ +\d.]{1,24}>\]",  # dmesg -d -t
    r"\[ {0,8}[TC]\d{1,8}\]",  # CONFIG_PRINTK_CALLER
    rf"\[?\d{{4}}-\d\d-\d\d[T ]{_TIME}(?:Z| ?[+-]\d\d:?\d\d)?\]?(?=[ \[])",  # ISO 8601
    rf"{_DAY} \d{{4}}-\d\d-\d\d {_TIME} [A-Z]{{2,5}}(?= )",  # journalctl -o short-full
    rf"(?:{_DAY} )?{_DAY} [ \d]\d {_TIME}(?: \d{{4}})?(?= )",  # syslog, logread
    rf"\[?{_TIME}\]?>?(?=[ \[])",  # a terminal's own
    r"\d{9,10}\.\d{6}(?= )",  # journalctl -o short-unix
    # host and facility of syslog, or nothing of them
    r"(?:[\w.:-]{1,64} ){0,2}kernel(?:\[\d{1,7}\])?:(?= |$)",
    # RFC 5424, behind its level
    rf"1 \d{{4}}-\d\d-\d\dT{_TIME}(?:Z|[+-]\d\d:\d\d) \S{{1,64}} kernel(?: \S{{1,40}}){{3}}"
    r"(?: \ufeff?|$)",
    # Android's logcat of the kernel's buffer: process, thread, level and tag
    rf"\d\d-\d\d {_TIME} {{1,9}}\d{{1,7}} {{1,9}}\d{{1,7}} [VDIWEFS] (?:kernel)? {{0,12}}:"
    r"(?= |$)",
    r"MESSAGE=",  # journalctl -o export, -o verbose
    # CPU and task, as Android's vendors put them there
    r"(?:<\d>)?[-.]? ?\(\d{1,2}\) ?\[\d{1,7}:[^\]\[]{1,30}\]",
    r"\[\d{1,2}: {0,20}[^\]\[:]{1,30}: {0,8}\d{1,7}\]",
    r"[cC]\d{1,2} {1,9}(?:\d{1,7} |\[ {0,20}[^\]\[]{1,30}\])(?=\S| )",
)
_JSON: Final = re.compile(
    r'(?:^|[{,]) {0,16}"(?:MESSAGE|msg)" {0,4}: {0,4}("(?:[^"\\]|\\.){0,2000}")'
)
"""The message in a line of JSON, of the journal and of dmesg."""
_QUOTE: Final = re.compile(r'[\t ]{0,40}[{"]')
_PREFIX: Final = re.compile(rf"(?:{'|'.join(_PREFIXES)})[ \t]{{0,200}}")
"""One thing that may stand before a message; every part of it is bounded."""


def messages(text: str) -> Iterator[tuple[int, str]]:
    r"""Number of a line, from 1 on, and the message in it.

    Parameters
    ----------
    text
        The log.

    Yields
    ------
    tuple
        Messages without the blanks before them; lines without any are left out.

    Examples
    --------
    >>> list(messages("<6>[    0.000000][    T0] x\n\nNov  3 01:02:03 pc kernel: [ 0.1] y"))
    [(1, 'x'), (3, 'y')]
    """
    for number, raw in enumerate(_lines(text), 1):
        if message := message_of(raw):
            yield number, message


def stamped(text: str) -> Iterator[tuple[int | None, str]]:
    r"""Time of a message in ns since boot, None where it has none, and the message.

    Examples
    --------
    >>> list(stamped("[   47.865263][    T1] x\n[Nov30 05:28] y\n"))
    [(47865263000, 'x'), (None, 'y')]
    """
    for raw in _lines(text):
        since, message = _split(raw)
        if message:
            yield int(since.replace(".", "")) * 1000 if since else None, message


def since_boot(text: str) -> Iterator[tuple[int, str]]:
    r"""Time of a message in ns since boot, and the message; lines without both are left out.

    Examples
    --------
    >>> list(since_boot("[   47.865263][    T1] x\n[Nov30 05:28] y\npc kernel: [    1.5] z"))
    [(47865263000, 'x')]
    """
    for at, message in stamped(text):
        if at is not None:
            yield at, message


def message_of(line: str) -> str:
    """What the kernel said in a line."""
    return _split(line)[1]


def _lines(text: str) -> list[str]:
    return text.split("\n", MAX_LINES)[:MAX_LINES]


def _split(line: str) -> tuple[str, str]:
    """The kernel's time before a message, in seconds with six places or empty; and the message."""
    if _QUOTE.match(line) and (found := _JSON.search(line)):
        line = _unquoted(found[1])
    line = line[:MAX_LINE].strip("\r\0\t ")
    at = 0
    since = ""
    for _ in range(_MOST):
        match = _PREFIX.match(line, at)
        if match is None:
            break
        at = match.end()
        since = match["since"] or since  # of a terminal's own and the kernel's the latter
    return since, line[at:]


def _unquoted(string: str) -> str:
    """A string of JSON; as it stands where it is none."""
    try:
        return str(json.loads(string))
    except ValueError:
        return string[1:-1]
