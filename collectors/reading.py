"""What a format is, and what reading one gives: the contract between collectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collectors.capture import Lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.raw import RawEvents
    from collectors.source import Source
    from collectors.symbols import Symbols


@dataclass(frozen=True)
class Reading:
    """What a collector got out of a trace, before entries and returns are paired.

    Attributes
    ----------
    raw
        Raw events in trace order.
    format
        Name of the format, as in :class:`collectors.capture.Origin`.
    clock
        Trace clock where the trace itself says it, else "".
    clock_is_ns
        False for counter clocks.
    span_ns
        From the first to the last event, known to hmtrace or not.
    lost
        What tracing lost.
    release
        Kernel release where the trace says it, else "".
    cpus
        Number of CPUs where the trace says it.
    notes
        Remarks for the user.
    symbols
        The kernel's symbols where the trace itself holds them.
    """

    raw: RawEvents
    format: str
    clock: str = ""
    clock_is_ns: bool = True
    span_ns: int = 0
    lost: Lost = field(default_factory=Lost)
    release: str = ""
    cpus: int | None = None
    notes: tuple[str, ...] = ()
    symbols: Symbols | None = None


@dataclass(frozen=True)
class Format:
    """One trace format.

    Attributes
    ----------
    name
        Shown to users.
    sniff
        Tells from the first 64 KiB whether a file is of this format; never from its name.
    read
        Reads it; called as ``read(source, progress)``.
    rank
        In a capture folder the trace with the lowest rank is taken: 0 trace.dat, 1 perf.data,
        2 text.
    """

    name: str
    sniff: Callable[[bytes], bool]
    read: Callable[[Source, Callable[[int, int], None] | None], Reading]
    rank: int = 2
