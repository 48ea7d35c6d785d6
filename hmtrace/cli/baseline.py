"""What an earlier `check` found, so that only what is new fails."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from collectors.errors import HmtraceError
from hmtrace.cli.jsonfile import read_json

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES: Final = 64 << 20
_SCHEMA: Final = "hmtrace/check/1"


def read_baseline(path: Path) -> dict[str, str]:
    """Fingerprints of the findings in a document of `check`, with the worst severity of each.

    Raises
    ------
    HmtraceError
        Exit code 2: it cannot be read, or is no such document.
    """
    from replay.rules.rule import SEVERITIES

    document = _document(path)
    known: dict[str, str] = {}
    for finding in document.get("findings", ()):
        try:
            name, severity = finding["fingerprint"], finding["severity"]
            rank = SEVERITIES.index(severity)
            before = known.get(name)
        except (TypeError, KeyError, ValueError) as error:
            raise _wrong(path, "has a finding without fingerprint or severity") from error
        if before is None or rank < SEVERITIES.index(before):
            known[name] = severity
    return known


def _document(path: Path) -> dict[str, Any]:
    document = read_json(path, _MOST_BYTES, "baseline", partial(_wrong, path))
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
        raise _wrong(path, f"is no document of schema {_SCHEMA}")
    if not isinstance(document.get("findings"), list):
        raise _wrong(path, "has no findings")
    return document


def _wrong(path: Path, message: str) -> HmtraceError:
    hint = "hmtrace check CAPTURE --format json -o FILE makes one"
    return HmtraceError(message, source=str(path), hint=hint, exit_code=2)
