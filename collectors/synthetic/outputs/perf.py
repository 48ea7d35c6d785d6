"""``perf script --ns`` of the probes' events (tools/perf/builtin-script.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.outputs.text import SWITCHED, arguments, seconds, signed
from collectors.synthetic.probes import PROBES, SWITCH, SymbolMap

if TYPE_CHECKING:
    from typing import IO

    from collectors.synthetic.board import Board
    from collectors.synthetic.probes import TracedEvent

_WIDTH = max(len(f"hm:{probe.name}") for probe in PROBES) + 1
_FLUSH_AT = 4096


class PerfWriter:
    """Writes a trace as perf script does, with addresses where perf has no symbols.

    Parameters
    ----------
    out
        Binary stream.
    board
        The machine.
    ns
        Nine digits behind the point (``--ns``), else six, cut off.
    """

    format = "perf-script"
    file_name = "perf-script.txt"

    def __init__(self, out: IO[bytes], board: Board, *, ns: bool = True) -> None:
        self._out = out
        self._ns = ns
        self._lines: list[str] = []
        symbols = SymbolMap(board.page_offset)
        self._sites = symbols.site
        self._bodies = []
        for probe in PROBES:
            function = f"{symbols.address[probe.function]:x}"
            where = f"({function} <- %x)" if probe.returns else f"({function})"
            self._bodies.append(f"{f'hm:{probe.name}:':>{_WIDTH}} {where}{arguments(probe)}")
        self._switched = f"{'sched:sched_switch:':>{_WIDTH}} {SWITCHED.partition(' ')[2]}"

    def write(self, record: TracedEvent) -> None:
        """Write a sample."""
        number = record.probe
        if number == SWITCH:
            body = self._switched % record.values
        else:
            probe = PROBES[number]
            values = signed(probe, record.values)
            if probe.returns:
                values = (self._sites[record.site], *values)
            body = self._bodies[number] % values
        stamp = seconds(record.ts, 9) if self._ns else seconds(record.ts // 1000, 6)
        comm = record.comm if record.pid else "swapper"
        self._lines.append(f"{comm:>16} {record.pid:5d} [{record.cpu:03d}] {stamp}: {body}\n")
        if len(self._lines) >= _FLUSH_AT:
            self.close()

    def close(self) -> None:
        """Write the rest."""
        self._out.write("".join(self._lines).encode())
        self._lines.clear()
