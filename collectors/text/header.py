"""The header of tracefs text and of trace-cmd report: what the comment lines say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.records import dataclass
from collectors.text import forms

if TYPE_CHECKING:
    from numpy.typing import NDArray

# By number of flag columns: hardirq/softirq, preemption depth (kernel/trace/trace.c:
# print_func_help_header_irq; 7: PREEMPT_RT kernels; 6 has been used in two orders: the header
# decides, without one nothing is believed but the first column).
_COLUMNS: Final = {4: (2, 3), 5: (2, 3), 7: (3, 4)}

_ENTRIES: Final = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)\s+#P:(\d+)")
_LATENCY: Final = re.compile(
    r"^# latency: .{0,200}#(\d{1,18})/(\d{1,18}), CPU#\d{1,6} \|.{0,200}?#P:(\d{1,6})"
)
_RELEASE: Final = re.compile(r"latency trace v\S+ on (\S+)")
_FLAG: Final = re.compile(r"^#[ |/]*_-+=> (\S+)")
_CPUS: Final = re.compile(r"^(?:.*: )?cpus=(\d+)$")


@dataclass(frozen=True)
class Header:
    """What the header says.

    Attributes
    ----------
    tracer
        ``nop``, ``function``, …; "" without a header.
    in_buffer, written
        Events in the buffer and events written to it; the difference was overwritten.
    cpus
        Number of CPUs.
    release
        Kernel release (latency formats only).
    is_report
        The first lines are trace-cmd's.
    columns : ndarray of int64, shape (9, 2)
        By number of flag columns: which tells hardirq/softirq, which the preemption depth. The
        first row: columns of the function_graph tracer (bits of :mod:`collectors.text.forms`, -1 if
        it is not this tracer's), and 1 where lines have no task, CPU and time.
    corrupted
        The kernel warned that function tracing is corrupted.
    base
        Of the numbers that the lines consist of with option ``raw`` or ``hex``
        (:func:`collectors.text.forms.base_of`); 0 for any other text.
    """

    tracer: str
    in_buffer: int | None
    written: int | None
    cpus: int | None
    release: str
    is_report: bool
    columns: NDArray[np.int64]
    corrupted: bool
    base: int = 0

    @property
    def untimed(self) -> str:
        """In words, why events have no time stamps; "" where they have."""
        if self.columns[0, 1] > 0:
            return (
                "the text has no task, CPU and time (option nocontext-info): events are counted, "
                "no more"
            )
        graph = int(self.columns[0, 0])
        if graph >= 0 and not graph & (forms.ABSTIME | forms.RELTIME):
            return (
                "the text has no column of times (option funcgraph-abstime): the order of calls "
                "and their durations are known, when they ran is not"
            )
        return ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Other columns that the text has not, in words."""
        graph = int(self.columns[0, 0])
        if graph < 0 or graph & forms.CPU:
            return ()
        return ("the text has no column of CPUs (option funcgraph-cpu): all are shown on CPU 0",)


def parse_header(head: bytes) -> Header:
    """Read the header out of the first bytes of a trace.

    Parameters
    ----------
    head
        Start of the text.

    Returns
    -------
    Header
    """
    columns = np.full((9, 2), -1, np.int64)
    for width, both in _COLUMNS.items():
        columns[width] = both
    tracer = release = ""
    in_buffer = written = cpus = None
    is_report = corrupted = False
    flags: list[str] = []
    lines = head.decode("utf-8", "replace").splitlines()
    for line in lines[:200]:
        if not line.startswith("#"):
            if m := _CPUS.match(line):
                is_report, cpus = True, min(int(m[1][:6]), 1 << 16)
            continue
        if line.startswith("# tracer:"):
            tracer = line.partition(":")[2].strip()
        elif m := _ENTRIES.search(line) or _LATENCY.match(line):
            in_buffer, written, cpus = (int(m[k][:18]) for k in (1, 2, 3))
        elif m := _RELEASE.search(line):
            release = m[1]
        elif m := _FLAG.match(line):
            flags.append(m[1])
        corrupted = corrupted or "FUNCTION TRACING IS CORRUPTED" in line
    if flags and flags[0] == "CPU#":  # latency format: the CPU stands before the flags
        flags = flags[1:]
    if 1 <= len(flags) <= 8 and "hardirq/softirq" in flags:
        depth = flags.index("preempt-depth") if "preempt-depth" in flags else -1
        columns[len(flags)] = flags.index("hardirq/softirq"), depth
    if not is_report and (not tracer or tracer in ("function_graph", "nop", "function")):
        columns[0] = forms.graph_columns(lines), forms.is_nameless(lines)
    base = 0 if is_report else forms.base_of(lines)
    return Header(tracer, in_buffer, written, cpus, release, is_report, columns, corrupted, base)
