"""What a format is, and what reading one gives: the contract between collectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from collectors.capture import Lost
from collectors.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.input.source import Source
    from collectors.raw import RawEvents
    from collectors.symbols.table import Symbols


PIECE_ROWS: Final = 1 << 18
"""Raw events in a piece of a :class:`Stream`, at most about.

19 MB: the C library keeps blocks of that size for reuse, while larger ones come from the system
anew each time, page by page (a fifth of the time of a conversion went there).
"""


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
    machine
        The machine's name as ``uname -m`` has it, where the trace says it, else "".
    mem_total
        Its MemTotal in bytes where the trace says it.
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
    machine: str = ""
    mem_total: int | None = None
    notes: tuple[str, ...] = ()
    symbols: Symbols | None = None


@dataclass(frozen=True)
class Stream:
    """A trace read piece by piece, in trace order, with bounded memory.

    Attributes
    ----------
    pieces
        Raw events, at most about :data:`PIECE_ROWS` at a time. `seq` of a raw event is its position
        in all pieces together, loss markers counted. Tables `comms` and `sites` are those so far:
        an index means the same in every later piece. `counts` may stay empty. An iterator may
        raise :class:`AgainError`.
    ending
        To be called once the pieces are used up: what :attr:`Format.read` would have given, but for
        `raw`, which has no rows, only `counts`. Positions in `lost` are those of the whole trace.
    symbols
        The kernel's symbols where the trace itself holds them; may be called while reading.
    """

    pieces: Iterator[RawEvents]
    ending: Callable[[], Reading]
    symbols: Callable[[], Symbols | None] = lambda: None

    def whole(self) -> Reading:
        """Read all pieces into one :class:`Reading`."""
        from collectors.raw import join

        rows = join([piece.rows for piece in self.pieces])
        end = self.ending()
        return replace(end, raw=replace(end.raw, rows=rows))


@dataclass(frozen=True)
class Embedded:
    """A trace inside a file of another format, to be read by the reader of its own.

    Attributes
    ----------
    source
        Its bytes, with the machine's files of the outer one.
    around
        Adds to what was read of it what the outer file says.
    """

    source: Source
    around: Callable[[Reading], Reading]

    def outside(self, inner: Stream) -> Stream:
        """The trace of the outer file, given that of the inner."""
        return replace(inner, ending=lambda: self.around(inner.ending()))


class AgainError(Exception):
    """What the pieces gave so far was wrong: ask the format for a new stream, it knows better now.

    Raised at most once for a source (by a text whose lines turn out not to be in order).
    """


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
    stream
        Reads it piece by piece; called as ``stream(source, progress)``.
    rank
        In a capture folder the trace with the lowest rank is taken: 0 trace.dat, 1 perf.data,
        2 text.
    event_bytes
        Size of a short event, to tell from a trace's size whether its table fits into memory.
    """

    name: str
    sniff: Callable[[bytes], bool]
    read: Callable[[Source, Callable[[int, int], None] | None], Reading]
    stream: Callable[[Source, Callable[[int, int], None] | None], Stream]
    rank: int = 2
    event_bytes: int = 64
