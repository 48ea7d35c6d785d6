"""What a text trace says about lost events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from collectors.probes import KIND_LOST
from collectors.raw import RAW_DTYPE, UNKNOWN_CPU
from collectors.traceevent.losses import Losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.capture import Lost
    from collectors.input.source import Source
    from collectors.text.header import Header


def overwritten(header: Header, source: Source) -> NDArray[np.void]:
    """Markers for what the ring buffer overwrote before the first event.

    Parameters
    ----------
    header
        Says how many events were overwritten.
    source
        The capture; its facts may say on which CPUs.

    Returns
    -------
    ndarray of RAW_DTYPE
        KIND_LOST rows, to stand in front of the trace.
    """
    number = (header.written or 0) - (header.in_buffer or 0)
    if number <= 0:
        return np.zeros(0, RAW_DTYPE)
    by_cpu = {c: n for c, n in source.facts.snapshot().overrun.items() if n}
    if sum(by_cpu.values()) != number:
        by_cpu = {UNKNOWN_CPU: number}
    front = np.zeros(len(by_cpu), RAW_DTYPE)
    front["kind"] = KIND_LOST
    front["cpu"] = list(by_cpu)
    front["values"][:, 0] = list(by_cpu.values())
    front["present"] = 1
    front["ctx"] = 128
    return front


def find_lost(
    rows: NDArray[np.void], header: Header, source: Source
) -> tuple[NDArray[np.void], Lost]:
    """Build the list of losses, and put a marker in front where the start is missing.

    Parameters
    ----------
    rows
        Raw events, markers among them.
    header, source
        As of :func:`overwritten`.

    Returns
    -------
    rows, lost
        The rows, with KIND_LOST rows in front if the ring buffer was overwritten.
    """
    front = overwritten(header, source)
    if len(front):
        if len(rows):
            front["ts"] = rows["ts"][0]
        rows = np.concatenate([front, rows])
    losses = Losses(len(front))
    losses.add(rows)
    return rows, losses.lost()
