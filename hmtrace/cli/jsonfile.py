"""JSON that a command takes as input: read within bounds, refused in its caller's words."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from collectors.opened import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collectors.errors import HmtraceError


def read_json(path: Path | None, most: int, what: str, wrong: Callable[[str], HmtraceError]) -> Any:
    """Read and parse a file of JSON.

    Parameters
    ----------
    path
        None: standard input.
    most
        Bytes that it may have.
    what
        It is too large for this.
    wrong
        Makes the error of what is wrong with the file.

    Raises
    ------
    HmtraceError
        That of `wrong`: it cannot be read, is too large, or no JSON.
    """
    try:
        if path is None:
            content = sys.stdin.buffer.read(most + 1)
        else:
            with opened(path) as file:
                content = file.read(most + 1)
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise wrong(f"is too large for a {what}")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise wrong(f"is no JSON: {error}") from error
