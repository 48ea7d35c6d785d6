"""How a capture was made, as the recorder notes it: recorder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.facts.numbers import decimal
from collectors.snapshot import Recording

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_TIMES = ("before_cs", "recorded_cs", "after_cs")


def parse(text: str, sheet: Sheet) -> None:
    """Write down what the recorder could not do. Fact: recording.

    Lines are ``WORD VALUE…``; the last one of a word counts, but for those that were refused.
    """
    last: dict[str, str] = {}
    refused: list[str] = []
    for line in text.split("\n"):
        word, _, value = line.partition(" ")
        if word == "refused":
            refused.append(value)
        elif word:
            last[word] = value.strip()
    if "recorder" not in last:
        sheet.note("is not of hmtrace's recorder")
        return
    snapshot = last.get("snapshot", "")
    times = [decimal(last[word]) for word in _TIMES if word in last]
    known = [time for time in times if time is not None]
    sheet.add(
        "recording",
        Recording(
            version=last["recorder"],
            agreed="agreed=yes" in snapshot if snapshot else None,
            stopped=last.get("stopped", ""),
            missing=tuple(last.get("missing", "").split()),
            refused=tuple(refused),
            times_cs=tuple(known) if len(known) == len(_TIMES) else (),
            buffer_kb=decimal(last.get("buffer_kb", "")),
        ),
        detail=f"recorder {last['recorder']}",
    )
