"""The one error that a user can mend, and what a word may have meant that is none of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TRUNCATED: Final = "the file is damaged or was cut off; copy it again from the board"
"""Hint where a binary file says what cannot be."""
KNOWN: Final = "give a tracefs text, a trace.dat, a perf.data, or what `hmtrace convert` wrote"
"""Hint where a file is of no known format."""


class HmtraceError(Exception):
    """Something the user can mend: a damaged file, a wrong option, a missing fact.

    Raised where the fact is known and caught once, in ``hmtrace.__main__``, which prints it
    without a traceback and leaves with `exit_code`.

    Parameters
    ----------
    message
        What is wrong, in one sentence without a full stop.
    source
        File (or ``<stdin>``) that it is about.
    offset
        Byte offset in a binary file.
    line
        Line number in a text file, counted from 1.
    hint
        What the user can do about it; None where `offset` is given: :data:`TRUNCATED`.
    exit_code
        1 a check failed; 2 wrong usage; 3 unreadable or damaged input.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str | None = None,
        offset: int | None = None,
        line: int | None = None,
        hint: str | None = None,
        exit_code: int = 3,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.offset = offset
        self.line = line
        self.hint = TRUNCATED if hint is None and offset is not None else hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        where = self.source or ""
        if self.line is not None:
            where += f", line {self.line}"
        if self.offset is not None:
            where += f", offset {self.offset:#x}"
        where = where.removeprefix(", ")
        return f"{where}: {self.message}" if where else self.message


def meant(word: str, known: Iterable[str]) -> str:
    """Question that names what comes next to a word, a name that begins with it first.

    Parameters
    ----------
    word
        As it was typed.
    known
        Names that there are.

    Returns
    -------
    str
        Empty where nothing comes near.

    Examples
    --------
    >>> meant("rpi4", ["rpi3-1g", "rpi4-4g", "rpi4-8g"])
    "did you mean 'rpi4-4g' or 'rpi4-8g'?"
    >>> meant("poolfull", ["pool-full", "mixed"])
    "did you mean 'pool-full'?"
    >>> meant("qwerty", ["pool-full", "mixed"]), meant("--bufer", ["--force", "--check"])
    ('', '')
    """
    names = list(dict.fromkeys(known))
    typed = _letters(word)
    near = [name for name in names if _letters(name).startswith(typed)][:3] if typed else []
    if not near:
        import difflib

        by_letters = {_letters(name): name for name in reversed(names)}
        close = difflib.get_close_matches(typed, by_letters, 1)
        near = [by_letters[letters] for letters in close]
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """Hint for a word that is none of a list: what was meant, or all there are.

    Examples
    --------
    >>> one_of("jsn", ["table", "json"]), one_of("x", ["table", "json"])
    ("did you mean 'json'?", 'one of table, json')
    """
    names = list(known)
    return meant(word, names) or f"one of {', '.join(names)}"


def _letters(word: str) -> str:
    """Letters and digits of a word only."""
    return "".join(char for char in word.lower() if char.isalnum())
