"""The tracefs file ``trace``, as kernel/trace/trace.c and trace_probe.c of 6.1 write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from collectors.synthetic.probes import HEX, PROBES, SIGNED, SITES, SIZE, SWITCH

if TYPE_CHECKING:
    from typing import IO

    from collectors.synthetic.board import Board
    from collectors.synthetic.probes import SimulatedProbe, TracedEvent

_HEADER: Final = """\
# tracer: nop
#
{entries}
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""
_ENTRIES_WIDTH: Final = 90
_FLUSH_AT: Final = 4096
"""Lines that are written at once."""
SWITCHED: Final = (
    "sched_switch: prev_comm=%s prev_pid=%d prev_prio=120 prev_state=%s ==> "
    "next_comm=%s next_pid=%d next_prio=120"
)


def arguments(probe: SimulatedProbe) -> str:
    """Format of a probe's values."""
    words = {HEX: "0x%x", "x8": "0x%x"}
    return "".join(f" {name}={words.get(kind, '%d')}" for name, kind in probe.args)


def signed(probe: SimulatedProbe, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values as they are printed: those of 32-bit signed arguments with their sign."""
    if all(kind != SIGNED for _, kind in probe.args):
        return values
    return tuple(
        value - (1 << 32) if kind == SIGNED and value >> 31 else value
        for (_, kind), value in zip(probe.args, values, strict=True)
    )


def seconds(units: int, digits: int) -> str:
    """Time stamp of so many units of 10^-`digits` seconds."""
    whole, part = divmod(units, 10**digits)
    return f"{whole:5d}.{part:0{digits}d}"


class TextWriter:
    """Writes a trace as text, line by line.

    Parameters
    ----------
    out
        Binary stream, seekable: the header, which tells the number of events, is written last.
    board
        The machine.
    ns
        Nine digits behind the point, as ``trace-cmd report -t`` has, not the kernel's six.
    """

    format = "ftrace-text"
    file_name = "trace.txt"

    def __init__(self, out: IO[bytes], board: Board, *, ns: bool = False) -> None:
        self._out = out
        self._board = board
        self._ns = ns
        self._lines: list[str] = []
        self._written = 0
        self._begin = out.tell()
        out.write(self._header(0))
        self._bodies = []
        for probe in PROBES:
            if probe.returns:
                where = f"(%s/0x{SIZE:x} <- {probe.function})"
            else:
                where = f"({probe.function}+0x0/0x{SIZE:x})"
            self._bodies.append(f"{probe.name}: {where}{arguments(probe)}")

    def _header(self, events: int) -> bytes:
        line = f"# entries-in-buffer/entries-written: {events}/{events}   #P:{self._board.cpus}"
        return _HEADER.format(entries=line.ljust(_ENTRIES_WIDTH)).encode()

    def write(self, record: TracedEvent) -> None:
        """Write an event."""
        number = record.probe
        if number == SWITCH:
            flags, body = "d..2", SWITCHED % record.values
        else:
            probe = PROBES[number]
            flags = f"...{probe.preempt or '.'}"
            values = signed(probe, record.values)
            if probe.returns:
                values = (SITES[record.site], *values)
            body = self._bodies[number] % values
        stamp = seconds(record.ts, 9) if self._ns else seconds((record.ts + 500) // 1000, 6)
        self._lines.append(
            f"{record.comm:>16}-{record.pid:<7d} [{record.cpu:03d}] "
            f"{flags}{'1' if record.pinned else '.'} {stamp}: {body}\n"
        )
        if len(self._lines) >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        self._out.write("".join(self._lines).encode())
        self._written += len(self._lines)
        self._lines.clear()

    def close(self) -> None:
        """Write the rest, and the number of events."""
        self._flush()
        self._out.seek(self._begin)
        self._out.write(self._header(self._written))
