"""What was read: the lines that open a report, the banner of losses, the line that closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from collectors.records import dataclass, field
from collectors.snapshot import Snapshot
from hmtrace import __version__
from hmtrace.report.answers import absences
from hmtrace.report.parts import joined
from hmtrace.report.text import GLUE, clean, count, duration, plural, share, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from collectors.capture import Capture, Lost, LostInterval, Origin
    from hmtrace.report.answers import Absence

_INTERVALS_SHOWN = 3


@dataclass(frozen=True)
class InputSummary:
    """What a report says about its input.

    Attributes
    ----------
    origin
        File and format.
    sha256
        Of the trace file's bytes, in hexadecimal; None where they cannot be read again (stdin).
    release
        ``uname -r`` of the traced kernel; None where unknown.
    clock, clock_is_ns, span_ns
        As in :class:`collectors.capture.Capture`.
    raw_events
        Events of the trace, known to hmtrace or not.
    lost
        What tracing lost.
    notes
        Remarks of the readers, contradictions of the machine's files included.
    absent
        Why there may be no call of the pool, of local mappings, of the arena
        (:func:`hmtrace.report.answers.absences`).
    """

    origin: Origin
    sha256: str | None
    release: str | None
    clock: str
    clock_is_ns: bool
    span_ns: int
    raw_events: int
    lost: Lost
    notes: tuple[str, ...] = field(default=())
    absent: Mapping[str, Absence] = field(default_factory=lambda: absences(Snapshot()))

    @classmethod
    def of(cls, capture: Capture, sha256: str | None) -> InputSummary:
        """Take what a report needs out of a capture."""
        return cls(
            origin=capture.origin,
            sha256=sha256,
            release=capture.facts.get("release"),
            clock=capture.clock,
            clock_is_ns=capture.clock_is_ns,
            span_ns=capture.span_ns,
            raw_events=sum(capture.raw_events.values()),
            lost=capture.lost,
            notes=tuple(
                dict.fromkeys((*capture.notes, *capture.facts.notes, *capture.facts.contradictions))
            ),
            absent=absences(capture.facts.snapshot()),
        )


def title_lines(command: str, source: InputSummary) -> Iterator[RenderableType]:
    """Command, file, format and extent, and the banner where something was lost.

    Yields
    ------
    RenderableType
        Two lines, and the banner.
    """
    yield Text.assemble((f"hmtrace {command}", "bold"), "  ", clean(source.origin.path))
    yield Text(source_in_words(source), style="dim")
    if source.lost.intervals:
        yield Text()
        yield from lost_banner(source.lost, source.span_ns if source.clock_is_ns else None)


def source_in_words(source: InputSummary) -> str:
    """Format, extent, clock and size, in one line."""
    span = duration(source.span_ns) if source.clock_is_ns else f"{count(source.span_ns)} ticks"
    return joined(
        [
            clean(source.origin.format),
            plural(source.raw_events, "event")
            + (f" over {span}" if source.span_ns or source.clock_is_ns else ", without times"),
            f"clock {clean(source.clock)}",
            size(source.origin.bytes),
        ]
    )


def lost_banner(lost: Lost, span_ns: int | None) -> Iterator[RenderableType]:
    """Warning that something was lost, impossible to overlook.

    Parameters
    ----------
    lost
        What tracing lost.
    span_ns
        Length of the capture; None where the clock is no time.

    Yields
    ------
    RenderableType
        How much, where, and what it means.
    """
    yield Text("!! " + lost_in_words(lost), style="bold red")
    for line in lost_lines(lost, span_ns):
        yield Padding(Text(line, style="red"), (0, 0, 0, 3))


def lost_lines(lost: Lost, span_ns: int | None) -> Iterator[str]:
    """Where events were lost, and what it means; parameters as of :func:`lost_banner`.

    Yields
    ------
    str
    """
    for interval in lost.intervals[:_INTERVALS_SHOWN]:
        yield _interval_in_words(interval, span_ns)
    more = len(lost.intervals) - _INTERVALS_SHOWN
    if more > 0:
        yield f"and {plural(more, 'more interval')}"
    yield "Counts are lower bounds, and mappings that span a loss are not paired."


def lost_in_words(lost: Lost) -> str:
    """How much was lost, in one line.

    Returns
    -------
    str
        ``LOST: 77 468 events on CPU 0, 1 in 2 intervals``.
    """
    cpus = sorted({i.cpu for i in lost.intervals if i.cpu is not None})
    where = (
        f" on CPU {', '.join(map(str, cpus[:8]))}{', …' if len(cpus) > 8 else ''}" if cpus else ""
    )
    if not lost.events:
        amount = "an unknown number of events"
    elif lost.unknown:
        amount = f"at least {plural(lost.events, 'event')}"
    else:
        amount = plural(lost.events, "event")
    return f"LOST: {amount}{where} in {plural(len(lost.intervals), 'interval')}"


def _interval_in_words(interval: LostInterval, span_ns: int | None) -> str:
    cpu = "all CPUs" if interval.cpu is None else f"CPU {interval.cpu}"
    amount = "number unknown" if interval.count is None else plural(interval.count, "event")
    words = f"{cpu}: {amount}, {clean(interval.reason)}"
    if interval.start_ts is None:
        return f"{words} before the first event"
    if interval.end_ts is None:
        return f"{words} after the last event"
    if span_ns is None:
        return words
    gap = interval.end_ts - interval.start_ts
    part = f" ({share(min(gap / span_ns, 1.0))} of the capture)" if span_ns else ""
    return f"{words}, a gap of {duration(gap)}{part}"


def reproducibility(source: InputSummary) -> Text:
    """Version, input, kernel, clock and losses: what is needed to get the same figures again."""
    digest = source.sha256[:12] if source.sha256 else "none (stream)"
    phrases = [
        f"hmtrace {__version__}",
        f"sha256 {digest}",
        f"kernel {clean(source.release) if source.release else 'unknown'}",
        f"clock {clean(source.clock)}",
        "nothing lost",
    ]
    whole = [phrase.replace(" ", GLUE) for phrase in phrases]
    if source.lost.intervals:
        whole[-1] = lost_in_words(source.lost).lower()
    return Text(joined(whole), style="dim")
