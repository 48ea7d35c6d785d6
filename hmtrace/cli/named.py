"""Which captures a command line names: folders of captures, patterns and URLs become captures."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collectors.input.remote import RemotePlace

_PATTERN: Final = re.compile(r"[*?\[]")


def named(captures: list[str]) -> list[str]:
    """The captures that were named, in this order, none twice.

    Parameters
    ----------
    captures
        Of each word: a capture; a folder without a trace of its own, which stands for the captures
        in it; a pattern (``boards/*``), quoted or on a system whose shell leaves it; a URL of any
        of these.

    Raises
    ------
    HmtraceError
        Exit code 2: a pattern that fits nothing.
    """
    found: dict[str, None] = {}
    for word in captures:
        found |= dict.fromkeys(_meant(word))
    return list(found)


def _meant(word: str) -> list[str]:
    from collectors.input import remote

    if word == "-" or os.path.lexists(word):
        return _in_folder(word)
    if remote.is_url(word):
        path = remote.local_path(word)
        return _meant(path) if path is not None else _behind(word)
    if not _PATTERN.search(word):
        return [word]
    found = [path for path in sorted(glob.glob(word, recursive=True)) if _may_be(path)]  # noqa: PTH207
    if not found:
        raise HmtraceError("no file or folder fits this pattern", source=clean(word), exit_code=2)
    return [capture for path in found for capture in _in_folder(path)]


def _may_be(path: str) -> bool:
    """Whether what fits a pattern may be a capture: nobody means a README by ``boards/*``."""
    return Path(path).is_dir() or not Path(path).name.startswith((".", "README"))


def _in_folder(word: str) -> list[str]:
    """The captures in a folder of captures; itself where it is none."""
    from collectors.input.opening import captures_in, trace_files

    folder = Path(word)
    try:
        if not folder.is_dir() or next(trace_files(folder), None) is not None:
            return [word]
        return captures_in(folder) or [word]
    except OSError:  # who opens it tells
        return [word]


def _behind(url: str) -> list[str]:
    """Captures that a URL stands for."""
    from collectors.input.remote import RemotePlace

    place = RemotePlace.of(url)
    if place.lists and "*" in url:
        found = place.matches()
        if not found:
            raise HmtraceError("nothing fits this pattern", source=place.shown, exit_code=2)
        return [capture for one in found for capture in _in_place(RemotePlace.of(one))]
    return _in_place(place)


def _in_place(place: RemotePlace) -> list[str]:
    from collectors.input.opening import trace_names

    if not place.is_folder():
        return [place.url]
    entries = place.entries()
    files = [name for name, is_folder in entries.items() if not is_folder]
    if next(trace_names(files), None) is not None:
        return [place.url]
    below = [place.beside(name).url for name, is_folder in entries.items() if is_folder]
    wanted = (".workload", ".parquet", ".arrow", ".dat")
    alone = [place.beside(name).url for name in files if name.endswith(wanted) or ".tar" in name]
    return sorted([*below, *alone]) or [place.url]
