"""Descriptions in TOML that users give: machines and costs."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Final

from collectors.errors import HmtraceError
from collectors.opened import opened

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES: Final = 1 << 18
_WIDEST: Final = 4096
"""Characters of a line."""
_MOST_DOTS: Final = 100
"""Dots of a line: tomllib keeps every beginning of a dotted key, n * n / 2 words for n parts."""


def read_toml(path: Path, example: str) -> dict[str, Any]:
    """Read a description.

    Parameters
    ----------
    path
        File, as the user named it.
    example
        What a line of it looks like, for the hint.

    Raises
    ------
    HmtraceError
        Exit code 2: it cannot be read, is no TOML, or larger than any description.
    """

    def wrong(message: str, *, line: int | None = None, hint: str | None = None) -> HmtraceError:
        return HmtraceError(message, source=str(path), line=line, hint=hint, exit_code=2)

    try:
        with opened(path) as file:  # a FIFO or a device does not tell its size
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise wrong("is too large for a description")
    try:
        text = content.decode("utf-8-sig")  # editors of Windows put a mark in front
    except UnicodeDecodeError as error:
        raise wrong("is no TOML: not all of it is UTF-8", hint=example) from error
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _WIDEST or line.count(".") > _MOST_DOTS:
            raise wrong("this line is none of a description", line=number, hint=example)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise wrong("is no TOML: nested too deep", hint=example) from error
    except ValueError as error:  # numbers of very many digits, too
        raise wrong(f"is no TOML: {error}", hint=example) from error
