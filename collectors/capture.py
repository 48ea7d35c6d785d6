"""A capture: what every reader returns, whatever the format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from collectors.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from collectors.facts import Facts

BATCH_ROWS: Final = 1 << 18
"""Rows of a batch, and of a row group in a Parquet file."""


@dataclass(frozen=True)
class Origin:
    """Where a capture was read from.

    Attributes
    ----------
    path
        As the user gave it (``-`` for stdin).
    trace
        The trace file that was read, inside a folder or archive.
    format
        ``ftrace-text``, ``trace-cmd-report``, ``trace.dat-v6``, ``trace.dat-v7``,
        ``perf-script``, ``perf.data``, ``hmtrace-parquet``, ``hmtrace-arrow`` or ``synthetic``.
    bytes
        Size of the trace, decompressed.
    """

    path: str
    trace: str
    format: str
    bytes: int


@dataclass(frozen=True)
class LostInterval:
    """A stretch of time in which a CPU's events are missing.

    Attributes
    ----------
    cpu
        None where the loss cannot be put on one CPU.
    count
        Number of events; None where the trace does not say.
    after_seq
        The first event after the loss has this `seq` or a higher one.
    start_ts, end_ts
        Last event of the CPU before the loss and first after it; None where there is none.
    reason
        In words: ``ring buffer overwritten``, ``LOST marker``, ``truncated file``.
    """

    cpu: int | None
    count: int | None
    after_seq: int
    start_ts: int | None
    end_ts: int | None
    reason: str

    @classmethod
    def overwritten(
        cls, cpu: int, count: int, after_seq: int, first_ts: int | None
    ) -> LostInterval:
        """What a CPU's buffer overwrote before its first event (``overrun`` of its statistics)."""
        reason = "ring buffer overwritten (the kernel's statistics)"
        return cls(cpu, count, after_seq, None, first_ts, reason)

    @classmethod
    def refused(cls, cpu: int, count: int, after_seq: int, last_ts: int | None) -> LostInterval:
        """What found a CPU's buffer full behind its last event (``dropped events``)."""
        return cls(cpu, count, after_seq, last_ts, None, "buffer full (the kernel's statistics)")


@dataclass(frozen=True)
class Lost:
    """Everything that tracing lost."""

    intervals: tuple[LostInterval, ...] = ()

    @property
    def events(self) -> int:
        """Number of events known to be lost (a lower bound if `unknown`)."""
        return sum(i.count or 0 for i in self.intervals)

    @property
    def unknown(self) -> int:
        """Number of intervals whose count is not known."""
        return sum(i.count is None for i in self.intervals)

    def as_json(self) -> dict[str, Any]:
        """For the JSON documents: events, unknown, intervals."""
        return {
            "events": self.events,
            "unknown": self.unknown,
            "intervals": [vars(i) for i in self.intervals],
        }


@dataclass(frozen=True)
class Marker:
    """A text that user space wrote into the trace (tracefs ``trace_marker``).

    Attributes
    ----------
    seq
        Position in the merged capture.
    ts
        Time of the trace clock, as in the event table.
    text
        What was written, cut to 256 bytes.
    """

    seq: int
    ts: int
    text: str


@dataclass(frozen=True)
class Capture:
    """One capture of one machine.

    Attributes
    ----------
    origin
        File and format.
    events
        Event table (:data:`collectors.events.SCHEMA`), in the order of `seq`.
    raw_events
        Number of raw events per function or tracepoint.
    clock
        Trace clock: ``local``, ``global``, ``mono``, ``counter``, …; ``unknown``.
    clock_is_ns
        False for counter clocks: then `ts` counts and no duration is known.
    span_ns
        From the first to the last event.
    facts
        What the machine said about itself, each fact with its source.
    lost
        What tracing lost.
    notes
        Remarks for the user: contradictions, guesses, ignored files.
    markers
        Texts that user space wrote into the trace; the first 4096.
    spooled
        Whether `events` lies on the disk because it is large: to be read in :meth:`batches`.
    """

    origin: Origin
    events: pl.LazyFrame
    raw_events: dict[str, int]
    clock: str
    clock_is_ns: bool
    span_ns: int
    facts: Facts
    lost: Lost = field(default_factory=Lost)
    notes: tuple[str, ...] = ()
    markers: tuple[Marker, ...] = ()
    spooled: bool = False

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Event table piece by piece, in the order of `seq`, with bounded memory.

        Parameters
        ----------
        rows
            Rows at a time, at most about.

        Yields
        ------
        polars.DataFrame
        """
        from collectors.events import SCHEMA, batches

        yield from batches(self.events, list(SCHEMA), rows)
