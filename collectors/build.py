"""From one reading and the machine's files to a capture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors.assemble import assemble
from collectors.capture import Capture, Origin
from collectors.facts import Fact
from collectors.facts.seen import seen
from collectors.pages import PageMap
from collectors.probes import KIND_LOST

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    symbols = reading.symbols
    if needs_symbols and not symbols:
        symbols = Symbols.from_kallsyms(source.read_meta("kallsyms") or b"")
    page_map = page_map_of(source.facts.values())
    events = assemble(reading.raw, symbols=symbols or None, page_map=page_map)
    told |= seen(events, source.trace, reading.raw.counts)
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


def page_map_of(values: Mapping[str, Any]) -> PageMap | None:
    """How pages and frames go together by the machine's own account (mem_map).

    A trace's own pairs go before it; kernels up to 5.10, whose kmap_atomic() shows no frame,
    have nothing else.
    """
    mem_map, size = values.get("mem_map"), values.get("page_struct")
    if not mem_map or not size:
        return None
    return PageMap(mem_map - values.get("phys_pfn_offset", 0) * size, size)
