"""What a trace.dat says about lost events: marks in the pages, and the kernel's statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from collectors.capture import LostInterval
from collectors.probes import KIND_LOST
from collectors.raw import RAW_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.tracecmd_dat.pages import Pages, Records


def find_lost(
    pages: Pages, rows: NDArray[np.void], records: Records
) -> tuple[tuple[LostInterval, ...], NDArray[np.void]]:
    """List every loss, and put a marker in front of the rows where only statistics tell of one.

    Parameters
    ----------
    pages
        The buffer.
    rows
        Raw events of it, loss markers among them.
    records
        Where they came from.

    Returns
    -------
    lost, rows
        `after_seq` counts the rows returned.
    """
    return _counted(pages, rows, _marked(pages, rows, records))


def _marked(pages: Pages, rows: NDArray[np.void], records: Records) -> list[LostInterval]:
    """List the losses that are marked in the pages."""
    from collectors.tracecmd_dat.kernels import NO_STAMP

    marks = np.flatnonzero(rows["kind"] == KIND_LOST)
    # The n-th marker as listed, CPU after CPU, has the n-th stamp before it.
    number = np.argsort(np.argsort(records.order[marks], kind="stable"), kind="stable")
    clock = pages.file.clock
    found = []
    for row, nth in zip(marks.tolist(), number.tolist(), strict=True):
        cpu = int(rows["cpu"][row])
        before = records.mark_before[nth : nth + 1]
        start = None
        if int(before[0]) != NO_STAMP:
            start = int(clock.apply(before, pages.cpus.index(cpu))[0])
        known = bool(rows["present"][row] & 1)
        count = int(rows["values"][row, 0]) if known else None
        why = "ring buffer overwritten" if start is None else "lost-events mark of a page"
        found.append(LostInterval(cpu, count, row, start, int(rows["ts"][row]), why))
    return found


def _counted(
    pages: Pages, rows: NDArray[np.void], marked: list[LostInterval]
) -> tuple[tuple[LostInterval, ...], NDArray[np.void]]:
    """Add the losses that only the kernel's statistics tell of.

    ``overrun`` counts events that newer ones overwrote, ``dropped events`` those that found the
    buffer full (kernel/trace/ring_buffer.c). For the former a marker is put in front of the rows.
    """
    stats = pages.file.cpu_stats if pages.buffer.name == "" else {}
    with_marks = {i.cpu for i in marked}
    front, behind = [], []
    for index, cpu in enumerate(pages.cpus):
        first, last = pages.file.clock.apply(pages.bounds[index, 2:4].copy(), index).tolist()
        overrun = stats.get(cpu, {}).get("overrun", 0)
        if overrun and cpu not in with_marks:
            front.append((cpu, overrun, first))
        dropped = stats.get(cpu, {}).get("dropped events", 0)
        if dropped:
            behind.append((cpu, dropped, last))
    added = np.zeros(len(front), RAW_DTYPE)
    for row, (cpu, count, first) in zip(added, front, strict=True):
        row["ts"] = rows["ts"][0] if len(rows) else first
        row["kind"], row["cpu"], row["ctx"], row["present"] = KIND_LOST, cpu, 128, 1
        row["values"][0] = count
    why = "ring buffer overwritten (the kernel's statistics)"
    lost = [LostInterval(c, n, i, None, ts, why) for i, (c, n, ts) in enumerate(front)]
    lost += [replace(i, after_seq=i.after_seq + len(front)) for i in marked]
    if front:
        rows = np.concatenate([added, rows])
    why = "buffer full (the kernel's statistics)"
    lost += [LostInterval(c, n, len(rows), ts, None, why) for c, n, ts in behind]
    return tuple(lost), rows
