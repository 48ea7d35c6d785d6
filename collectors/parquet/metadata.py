"""The document in a Parquet file's metadata: all of a capture but its events."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from collectors.capture import LostInterval, Marker
from collectors.errors import HmtraceError
from collectors.facts.model import Fact, Facts
from collectors.parquet.layout import SCHEMA_NAME
from collectors.parquet.shapes import RECORDS, fact_fits, fits

if TYPE_CHECKING:
    from collectors.capture import Capture

_MOST: Final = 1 << 96
"""No number is larger: sums of the 64-bit numbers of a trace, which may lie."""


def encode(capture: Capture, rows: int) -> str:
    """Write everything but the events down.

    Parameters
    ----------
    capture
        The capture.
    rows
        Rows of its event table.

    Returns
    -------
    str
        JSON, ASCII.
    """
    facts = capture.facts
    return json.dumps(
        {
            "schema": SCHEMA_NAME,
            "rows": rows,
            "origin": vars(capture.origin),
            "raw_events": capture.raw_events,
            "clock": capture.clock,
            "clock_is_ns": capture.clock_is_ns,
            "span_ns": capture.span_ns,
            "facts": {
                name: [_packed(fact.value), fact.source, fact.detail]
                for name, fact in facts.items()
            },
            "contradictions": facts.contradictions,
            "fact_notes": facts.notes,
            "lost": [vars(interval) for interval in capture.lost.intervals],
            "notes": capture.notes,
            "markers": [[marker.seq, marker.ts, marker.text] for marker in capture.markers],
        },
        separators=(",", ":"),
    )


class Document:
    """What the metadata says, checked.

    Parameters
    ----------
    text
        The JSON text.
    source
        Name of the file, for errors.

    Raises
    ------
    HmtraceError
        If it is not what :func:`encode` writes.
    """

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        try:
            self._top = json.loads(text)
        except (ValueError, RecursionError):
            raise self._bad("it is no JSON") from None
        if not isinstance(self._top, dict):
            raise self._bad("it is no JSON object")
        if self._top.get("schema") != SCHEMA_NAME:
            raise HmtraceError(
                f"metadata of form {str(self._top.get('schema'))[:40]!r}, not {SCHEMA_NAME!r}",
                source=source,
                hint="written by another version of hmtrace: convert the trace again",
            )
        try:
            self._read()
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._bad(f"{type(error).__name__}: {str(error)[:80]}") from None

    def _read(self) -> None:
        self.rows: int = _count(self._top["rows"])
        origin = self._get("origin", dict)
        self.format: str = _is(origin["format"], str)
        counts = self._get("raw_events", dict)
        self.raw_events = {name: _count(count) for name, count in counts.items()}
        self.clock: str = self._get("clock", str)
        self.clock_is_ns: bool = self._get("clock_is_ns", bool)
        self.span_ns: int = _count(self._top["span_ns"])
        facts = {}
        for name, (packed, source, detail) in self._get("facts", dict).items():
            value = _unpacked(packed)
            if not fact_fits(name, value):
                msg = f"{str(value)[:40]!r} is no value of {name!r}"
                raise TypeError(msg)
            facts[name] = Fact(value, _is(source, str), _is(detail, str))
        self.facts = Facts(
            MappingProxyType(facts), self._texts("contradictions"), self._texts("fact_notes")
        )
        self.lost = tuple(_interval(found) for found in self._get("lost", list))
        self.notes = self._texts("notes")
        self.markers = tuple(
            Marker(_count(seq), _time(ts), _is(text, str))
            for seq, ts, text in _is(self._top.get("markers", []), list)  # the first files had none
        )

    def _get(self, name: str, kind: type) -> Any:
        return _is(self._top[name], kind)

    def _texts(self, name: str) -> tuple[str, ...]:
        return tuple(_is(text, str) for text in self._get(name, list))

    def _bad(self, why: str) -> HmtraceError:
        return HmtraceError(
            f"the metadata of the file is damaged: {why}",
            source=self._source,
            hint="convert the trace again",
        )


def _interval(found: Any) -> LostInterval:
    cpu, count, start, end = (found[name] for name in ("cpu", "count", "start_ts", "end_ts"))
    return LostInterval(
        cpu=None if cpu is None else _count(cpu),
        count=None if count is None else _count(count),
        after_seq=_count(found["after_seq"]),
        start_ts=None if start is None else _time(start),
        end_ts=None if end is None else _time(end),
        reason=_is(found["reason"], str),
    )


def _is(value: Any, kind: Any) -> Any:
    """Give a value of this type; a bool is no number.

    Raises
    ------
    TypeError
        If it is of another.
    """
    if not fits(value, kind):
        msg = f"{str(value)[:40]!r} is not of type {kind}"
        raise TypeError(msg)
    return value


def _count(value: Any, least: int = 0) -> int:
    """Give a whole number from `least` on that a trace can have.

    Raises
    ------
    TypeError
        If it is another.
    ValueError
        If it lies outside.
    """
    if not least <= _is(value, int) <= _MOST:
        msg = f"{str(value)[:40]} is out of range"
        raise ValueError(msg)
    return int(value)


def _time(value: Any) -> int:
    """Give a time in ns, which may lie before the clock's start."""
    return _count(value, -_MOST)


def _packed(value: Any) -> Any:
    """JSON for a fact's value: what JSON has no type for becomes an object with one key."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_packed(part) for part in value]
    if isinstance(value, dict):
        return {"dict": [[_packed(k), _packed(v)] for k, v in value.items()]}
    name = type(value).__name__
    if isinstance(value, frozenset):
        value = sorted(value)
    elif name not in RECORDS and type(value) is not tuple:
        msg = f"a fact of type {name} cannot be written down"
        raise TypeError(msg)
    return {name: [_packed(part) for part in value]}


def _unpacked(value: Any) -> Any:
    """Value of what :func:`_packed` made."""
    if isinstance(value, list):
        return [_unpacked(part) for part in value]
    if not isinstance(value, dict):
        return value
    ((name, packed),) = value.items()
    parts = [_unpacked(part) for part in _is(packed, list)]
    if name == "dict":
        return {key: part for key, part in parts}  # noqa: C416 - checks that they are pairs
    if name in RECORDS:
        kind, of_parts = RECORDS[name]
        if not fits(tuple(parts), of_parts):
            msg = f"{str(parts)[:40]!r} is no {name}"
            raise TypeError(msg)
        return kind(*parts)
    if name in ("tuple", "frozenset"):
        return tuple(parts) if name == "tuple" else frozenset(parts)
    raise KeyError(name)
