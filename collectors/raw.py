"""Raw events: what every reader produces, before entries and returns are paired.

One row per trace event that :mod:`collectors.probes` knows, in the order of the merged trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.probes import SLOTS
from collectors.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NO_TASK = -(1 << 17)
"""`pid` of an event on CPU 0 of which the trace does not tell the task; minus the number of the
CPU on others, so that calls of different CPUs are not taken for those of one task."""

RAW_DTYPE = np.dtype(
    [
        ("ts", np.int64),  # ns, or counts of a clock that is no time
        ("values", np.uint64, (SLOTS,)),  # meaning: Function.entry or Function.result
        ("caller", np.uint64),  # return address of a return probe, 0 unknown; Function.host
        ("pid", np.int32),
        ("comm", np.uint32),  # index into RawEvents.comms
        ("site", np.uint32),  # index into RawEvents.sites, 0 unknown
        ("kind", np.uint16),  # collectors.probes: 2 * function + is_return, or KIND_*
        ("cpu", np.uint16),
        ("ctx", np.uint8),  # collectors.events.Ctx
        ("present", np.uint8),  # bit i: values[i] was in the trace; FAULT
    ],
    align=True,
)

FAULT: Final = 1 << 5
"""Bit of `present`: a value could not be fetched, or the event itself says that the call failed."""

ROW_WORDS: Final = RAW_DTYPE.itemsize // 8
"""Loops write rows as 64-bit words: ts, 4 values, caller, then the packed rest."""

_PACKED: Final = {
    "ts": 0,
    "values": 8,
    "caller": 40,
    "pid": 48,
    "comm": 52,
    "site": 56,
    "kind": 60,
    "cpu": 62,
    "ctx": 64,
    "present": 65,
}
_fields = RAW_DTYPE.fields
if _fields is None or any(_fields[name][1] != at for name, at in _PACKED.items()):
    raise AssertionError("the loops pack rows as RAW_DTYPE was")

UNKNOWN_CPU: Final = 0xFFFF
"""`cpu` of a KIND_LOST row that cannot be put on one CPU."""


def join(pieces: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Put pieces of rows one behind the other.

    As words, since numpy copies structured arrays field by field.
    """
    if len(pieces) == 1:
        return pieces[0]
    words = [piece.view(np.int64) for piece in pieces]
    return np.concatenate([np.empty(0, np.int64), *words]).view(RAW_DTYPE)


@dataclass
class RawEvents:
    """Raw events of one capture, and the tables their indices point into.

    Attributes
    ----------
    rows
        Structured array of dtype :data:`RAW_DTYPE`.
    comms
        Task names; index 0 is "" (unknown).
    sites
        Call sites as ``symbol+0x12``; index 0 is "" (unknown).
    counts
        Number of events per function or tracepoint, known to hmtrace or not. Entry probes count
        under the function's name, return probes under ``name (return)``.
    stacks
        Different stack traces, each as ``innermost<-caller<-caller``; index 0 is "" (none).
    marks
        Texts of the first rows of kind KIND_MARK, in order; of later ones none was kept.
    """

    rows: NDArray[np.void]
    comms: Sequence[str] = ("",)
    sites: Sequence[str] = ("",)
    counts: dict[str, int] = field(default_factory=dict)
    stacks: Sequence[str] = ("",)
    marks: Sequence[str] = ()
