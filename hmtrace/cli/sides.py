"""What `compare` is given: a capture, a document of another command, or a row of a sweep."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError
from collectors.opened import opened
from hmtrace.cli.jsonfile import read_json
from hmtrace.cli.quiet import native_stderr_dropped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hmtrace.cli.prepared import Prepared
    from hmtrace.report.source import InputSummary
    from replay.compare.side import Side

BASELINE: Final = "baseline"
CAPTURED: Final = "captured"
_MOST_BYTES: Final = 256 << 20
_MOST_ROWS: Final = 1 << 20
_TABLES: Final = {".parquet", ".csv"}
_SCHEMA: Final = re.compile(r"hmtrace/(\w{1,20})/1")
_AXIS: Final = "axis_"
_NUMBER: Final = re.compile(r"#?(\d{1,9})")


class ToldSide(NamedTuple):
    """A side, and what was read for it where it is a capture."""

    side: Side
    source: InputSummary | None = None


class SideWords(NamedTuple):
    """A word of the command line taken apart.

    Attributes
    ----------
    text
        As it was given.
    file
        The document or table; None: it is a capture.
    which
        What of it is meant; empty: not told.
    """

    text: str
    file: Path | None
    which: str


def words_of(text: str) -> SideWords:
    """Tell a document from a capture by its first byte, a sweep's table by its columns."""
    if text == "-":
        return SideWords(text, Path("-") if _begins_document(_peeked()) else None, "")
    for name, which in _splits(text):
        path = Path(name)
        with suppress(OSError, ValueError):
            if not path.is_file():
                continue
            with opened(path) as file:
                head = file.read(64)
            if _begins_document(head) or _is_sweep_table(path):
                return SideWords(text, path, which)
            break
    return SideWords(text, None, "")


def _splits(text: str) -> list[tuple[str, str]]:
    """The whole as a file's name, then what is before each colon, the last first."""
    colons = [at for at, char in enumerate(text) if char == ":"]
    return [(text, ""), *((text[:at], text[at + 1 :]) for at in reversed(colons))]


def _peeked() -> bytes:
    """The first bytes of stdin, which stay there."""
    if sys.stdin is None:
        return b""
    peek = getattr(sys.stdin.buffer, "peek", None)  # not of every stream
    try:
        return bytes(peek(64)) if peek is not None else b""
    except (OSError, ValueError):
        return b""


def _begins_document(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{"


def _is_sweep_table(path: Path) -> bool:
    if path.suffix not in _TABLES:
        return False
    import polars as pl
    from polars.exceptions import PanicException, PolarsError

    try:
        with opened(path) as file, native_stderr_dropped():
            if path.suffix == ".csv":
                return file.read(len(_AXIS)) == _AXIS.encode()
            return any(name.startswith(_AXIS) for name in pl.read_parquet_schema(file))
    except (PolarsError, PanicException, OSError):  # no Parquet, or damaged: its reader tells
        return False


def told(words: SideWords, costs: Path | None) -> ToldSide:
    """Read a side.

    Raises
    ------
    HmtraceError
        Exit code 3: it cannot be read, or is no document that can be compared; 2: it has not what
        is asked of it.
    """
    if words.file is None:
        return _of_capture(words.text, costs)
    if words.file.suffix in _TABLES:
        return ToldSide(_of_table(words))
    return ToldSide(_of_document(words))


# Captures ---------------------------------------------------------------------------------------


def _of_capture(path: str, costs: Path | None) -> ToldSide:
    from hmtrace.cli.prepared import asked

    source, document = asked(path, costs, _ask)
    from replay.compare.side import side_of

    return ToldSide(side_of(document, path), source)


def _ask(ready: Prepared) -> tuple[InputSummary, dict[str, Any]]:
    """The document of a capture that is prepared, with how its call sites use their mappings."""
    from hmtrace.report.document import outcome_document, source_document
    from replay.whatif.callers import callers_of

    server = ready.server()
    lossy = bool(ready.capture.lost.intervals)
    callers = callers_of(server, ready.workload, None, lossy=lossy)
    source, outcome = ready.source(), server.baseline
    sites = [
        {
            "site": use.site.site,
            "op": use.site.op,
            "count": use.site.count,
            "held_median": use.held.median if use.held else None,
            "depth": use.depth,
            "over_switch": use.over_switch if callers.sees_switches else None,
        }
        for use in callers.uses
    ]
    document = {
        **source_document(source),
        **outcome_document(outcome),
        "evidence": ready.evidence(outcome),
        "sites": sites,
    }
    return source, document


# Documents --------------------------------------------------------------------------------------


def _of_document(words: SideWords) -> Side:
    from replay.compare.side import side_of, side_of_row

    document = _parsed(words)
    schema = document.get("schema")
    match = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    kind = "" if match is None else match[1]
    if kind == "sweep":
        machines, captures = (_objects(words, document, key) for key in ("machines", "captures"))
        row = _chosen(words, machines, _axes_of(machines))
        path = row.get("capture")
        source: dict[str, Any] = next((one for one in captures if one.get("path") == path), {})
        return side_of_row(row, source, words.text)
    if kind not in ("report", "replay"):
        raise HmtraceError(
            "is no document that can be compared",
            source=_shown(words),
            hint="those of report, replay and sweep can: --format json -o FILE",
        )
    if words.which and (kind != "replay" or words.which != BASELINE):
        raise HmtraceError(
            f"has no part {words.which!r}",
            source=_shown(words),
            hint=f":{BASELINE} is the captured machine of a replay's document",
            exit_code=2,
        )
    return side_of(document, words.text, baseline=words.which == BASELINE)


def _parsed(words: SideWords) -> dict[str, Any]:
    assert words.file is not None
    path = None if words.text == "-" else words.file
    document = read_json(path, _MOST_BYTES, "document", partial(_damaged, words))
    if not isinstance(document, dict):
        raise _damaged(words, "is no document")
    return document


def _shown(words: SideWords) -> str:
    return "<stdin>" if words.text == "-" else str(words.file)


def _damaged(words: SideWords, message: str) -> HmtraceError:
    return HmtraceError(message, source=_shown(words))


# Rows of sweeps ---------------------------------------------------------------------------------

_OF_ROW: Final = ("capture", "is_captured", "bound", "figures", "caveats")


def _objects(words: SideWords, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _damaged(words, f"has no {key}")
    return found


def _axes_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in (rows[0] if rows else ()) if key not in _OF_ROW]


def _of_table(words: SideWords) -> Side:
    """A row of a sweep's Parquet or CSV file."""
    import polars as pl
    from polars.exceptions import PanicException, PolarsError

    from replay.compare.side import side_of_row

    assert words.file is not None
    try:
        read = pl.read_csv if words.file.suffix == ".csv" else pl.read_parquet
        with opened(words.file) as file, native_stderr_dropped():
            rows = read(file, n_rows=_MOST_ROWS).to_dicts()
    except (PolarsError, PanicException, OSError) as error:
        raise _damaged(words, "is no table of a sweep") from error
    from replay.whatif.figures import FIGURES

    machines = [
        {key.removeprefix(_AXIS): str(v) for key, v in row.items() if key.startswith(_AXIS)}
        | {key: row.get(key) for key in ("capture", "is_captured", "bound")}
        | {"figures": {name: row.get(name) for name in FIGURES}}
        | {"caveats": str(row.get("caveats") or "").split("; ")}
        for row in rows
    ]
    return side_of_row(_chosen(words, machines, _axes_of(machines)), {}, words.text)


def _chosen(
    words: SideWords, machines: Sequence[Mapping[str, Any]], axes: Sequence[str]
) -> Mapping[str, Any]:
    """The row that is meant: by its number, ``captured``, or values of axes.

    Raises
    ------
    HmtraceError
        Exit code 2: none or several are.
    """
    which = words.which.strip()
    if match := _NUMBER.fullmatch(which):
        fits = list(machines)[int(match[1]) - 1 : int(match[1])] if int(match[1]) else []
    elif which == CAPTURED:
        fits = [row for row in machines if row.get("is_captured")]
    else:
        wanted = dict(_condition(words, part, axes) for part in which.split(",") if part.strip())
        fits = [
            row
            for row in machines
            if all(str(row.get(key)).lower() == value for key, value in wanted.items())
        ]
    if len(fits) != 1:
        values = {axis: dict.fromkeys(str(row.get(axis)) for row in machines) for axis in axes}
        known = "; ".join(f"{axis} {', '.join(list(of)[:12])}" for axis, of in values.items())
        raise HmtraceError(
            f"{'no' if not fits else len(fits)} rows fit {which or 'no choice'!r}",
            source=_shown(words),
            hint=f"FILE:AXIS=VALUE,…, FILE:{CAPTURED} or FILE:NUMBER (the best is 1): {known}",
            exit_code=2,
        )
    return fits[0]


def _condition(words: SideWords, part: str, axes: Sequence[str]) -> tuple[str, str]:
    key, equals, value = (one.strip() for one in part.partition("="))
    if not equals or key not in (*axes, "capture"):
        raise HmtraceError(
            f"{part.strip()!r} chooses no row",
            source=_shown(words),
            hint=f"AXIS=VALUE, the axes are {', '.join(axes)}",
            exit_code=2,
        )
    return key, value.lower()
