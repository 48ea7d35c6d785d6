"""The one error that a user can mend."""

from __future__ import annotations

from typing import Final

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
