"""Losses that the trace does not tell of itself: the kernel's statistics of its ring buffers do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.capture import Lost, LostInterval

if TYPE_CHECKING:
    from collectors.reading import Reading
    from collectors.snapshot import Snapshot
    from collectors.table.part import Part


class BufferEnds:
    """Finds when each CPU's events begin and end, if its buffer lost some.

    Sources: kernel/trace/ring_buffer.c. A buffer that is full overwrites its oldest events
    (rb_handle_head_page(); ``overrun``) or refuses new ones (``dropped events``); one that
    nobody has read from has lost what is before its first event, or behind its last one.

    Parameters
    ----------
    told
        Has the statistics.
    """

    def __init__(self, told: Snapshot) -> None:
        self._entries = sum(told.buffer_entries.values())
        self._overrun, self._dropped = (
            {cpu: number for cpu, number in sorted(found.items()) if number}
            for found in (told.overrun, told.dropped)
        )
        self._ends: dict[int, tuple[int, int]] = {}

    def add(self, part: Part) -> None:
        """Take further rows of the event table."""
        cpu, ts = part.columns["cpu"].values, part.columns["ts"].values
        assert cpu is not None  # is never null
        assert ts is not None
        for number in {*self._overrun, *self._dropped}:
            own = ts[cpu == number]
            if own.size:
                first, last = self._ends.get(number, (int(own[0]), int(own[0])))
                self._ends[number] = min(first, int(own.min())), max(last, int(own.max()))

    def lost(self, reading: Reading) -> tuple[Lost, list[str]]:
        """What was lost, and what is to be said of the statistics.

        They are of this trace where the buffers held as many events as it has: then nothing was
        read or written in between.

        Parameters
        ----------
        reading
            The trace, and what it tells of losses itself, which is not told again.

        Returns
        -------
        Lost
            All losses.
        list of str
            Notes.
        """
        overrun, dropped = sum(self._overrun.values()), sum(self._dropped.values())
        if not overrun + dropped:
            return reading.lost, []
        events = sum(reading.raw.counts.values())
        if self._entries != events:
            return reading.lost, [
                f"stats counts {self._entries} events in the buffers, the trace has {events}: it "
                f"is of another run or moment, and what it says was lost ({overrun} overwritten, "
                f"{dropped} refused events) is not taken over"
            ]
        told = reading.lost.intervals
        found = list(told)
        for cpu, count in self._overrun.items() if not told else ():
            first = self._ends[cpu][0] if cpu in self._ends else None
            found.append(LostInterval.overwritten(cpu, count, 0, first))
        known = {each.cpu for each in told if each.end_ts is None}
        for cpu, count in self._dropped.items():
            if cpu not in known:
                last = self._ends[cpu][1] if cpu in self._ends else None
                found.append(LostInterval.refused(cpu, count, events, last))
        return Lost(tuple(found)), []
