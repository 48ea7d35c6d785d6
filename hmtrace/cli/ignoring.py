"""What `check` is told to leave out: ``--ignore``, and files of such lines."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError, meant
from collectors.opened import opened
from hmtrace.report.checking import Ignored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_MOST_BYTES: Final = 1 << 20
_WORDS: Final = re.compile(r"([^@\s]+)(?:@(.*?))?(?:\s+until\s+(\S+))?", re.DOTALL)
_REMARK: Final = re.compile(r"(^|\s)#.*")
_FORM: Final = "NAME, NAME@PATTERN, either with ' until YYYY-MM-DD' behind it"


def ignored_from(text: str, rules: Collection[str], where: str = "--ignore") -> Ignored:
    """Read what one ``--ignore`` says.

    Parameters
    ----------
    text
        Rule, perhaps a pattern of functions and tasks, perhaps the last day.
    rules
        Names that there are.
    where
        What an error names.

    Raises
    ------
    HmtraceError
        Exit code 2.

    Examples
    --------
    >>> ignored_from("slow-calls@kworker* until 2026-12-31", ["slow-calls"])
    Ignored(rule='slow-calls', pattern='kworker*', until=datetime.date(2026, 12, 31))
    """
    match = _WORDS.fullmatch(text.strip())
    if match is None or match[1] not in rules:
        name = match[1] if match else text
        near = "" if match is None else meant(name, rules)
        hint = near or f"{_FORM}; hmtrace check --rules lists the names"
        raise HmtraceError(f"{where}: there is no rule {name!r}", hint=hint, exit_code=2)
    return Ignored(match[1], match[2] or "*", None if match[3] is None else _day(match[3], where))


def _day(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise HmtraceError(f"{where}: {text!r} is no day", hint=_FORM, exit_code=2) from error


def read_ignored(path: Path, rules: Collection[str]) -> Iterator[Ignored]:
    """What the lines of a file say to leave out; what is behind ``#`` is a remark.

    Yields
    ------
    Ignored

    Raises
    ------
    HmtraceError
        Exit code 2: it cannot be read, or a line is wrong.
    """
    try:
        with opened(path) as file:
            content = file.read(_MOST_BYTES + 1)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise HmtraceError(f"cannot be read: {why}", source=str(path), exit_code=2) from error
    if len(content) > _MOST_BYTES:
        raise HmtraceError("is too large for a list", source=str(path), exit_code=2)
    for number, line in enumerate(lines, 1):
        if text := _REMARK.sub("", line).strip():
            yield ignored_from(text, rules, f"{path}, line {number}")
