"""From one reading and the machine's files to a capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.assemble import assemble
from collectors.capture import Capture, Origin
from collectors.facts import Fact
from collectors.probes import KIND_LOST

if TYPE_CHECKING:
    from collectors.reading import Reading
    from collectors.source import Source


def build_capture(source: Source, reading: Reading) -> Capture:
    """Pair the raw events, name the call sites, and put everything together.

    Parameters
    ----------
    source
        Where the trace came from, and the machine's facts.
    reading
        What the format's reader found.

    Returns
    -------
    Capture
    """
    from collectors.symbols import Symbols

    told: dict[str, Fact] = {}
    if reading.release:
        told["release"] = Fact(reading.release, source.trace, "header of the trace")
    if reading.cpus:
        told["cpus"] = Fact(reading.cpus, source.trace, "header of the trace")
    rows = reading.raw.rows
    needs_symbols = bool(((rows["caller"] != 0) & (rows["site"] == 0)).any())
    kallsyms = source.read_meta("kallsyms") if needs_symbols else None
    events = assemble(reading.raw, symbols=Symbols.from_kallsyms(kallsyms) if kallsyms else None)
    notes = [*source.notes, *reading.notes]
    if not (rows["kind"] < KIND_LOST).any():
        notes.append(
            "the trace holds no mapping event (kmap, kmap_local, vmap and others): record with "
            "the probes of hmtrace recorder"
        )
    return Capture(
        origin=Origin(source.path, source.trace, reading.format, len(source.data)),
        events=events.lazy(),
        raw_events=reading.raw.counts,
        clock=reading.clock or source.facts.get("clock", "unknown"),
        clock_is_ns=reading.clock_is_ns,
        span_ns=reading.span_ns,
        facts=source.facts.with_facts(told),
        lost=reading.lost,
        notes=tuple(notes),
    )
