"""kmap() and kunmap() as mm/highmem.c has them: slots, cursor, flushes, sleepers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from collectors.synthetic.board import PAGE
from collectors.synthetic.engine import BLOCK, SpinLock

if TYPE_CHECKING:
    from collections.abc import Generator

    from collectors.synthetic.engine import Task
    from collectors.synthetic.tracer import Tracer


class SimulatedPool:
    """The pool of persistent mappings.

    Attributes
    ----------
    counts
        Per slot: 0 free, 1 not used but still mapped, more: one user less.
    slot_of
        Slot of each mapped page frame.
    last
        last_pkmap_nr.
    sleepers
        Tasks that wait for a slot, oldest first.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.board = tracer.board
        self.truth = tracer.truth.pool
        self.lock = SpinLock(tracer.engine)
        self.counts = [0] * self.board.pkmap_slots
        self.page_at = [0] * self.board.pkmap_slots
        self.slot_of: dict[int, int] = {}
        self.last = 0
        self.used = 0
        self.sleepers: deque[Task] = deque()

    def kmap(self, task: Task, pfn: int, site: int) -> Generator[object, None, int]:
        """Map a frame; the task may sleep.

        Returns
        -------
        int
            Address.
        """
        board, tracer = self.board, self.tracer
        if not board.is_high(pfn):
            return board.direct(pfn)
        tracer.hit(task, "kmap_high", board.page(pfn))
        self.truth.calls += 1
        yield -tracer.lag()
        yield from self.lock.take(task)
        if pfn not in self.slot_of:
            yield from self._map_new(task, pfn)
        else:
            self.truth.hits += 1
        slot = self.slot_of[pfn]
        self.counts[slot] += 1
        if self.counts[slot] == 2:
            self.used += 1
            self.truth.max_used = max(self.truth.max_used, self.used)
        yield -tracer.hold()
        self.lock.release()
        yield -tracer.lag()
        address = board.pkmap_base + slot * PAGE
        tracer.back(task, "kmap_high_ret", site, address)
        self.truth.maps += 1
        return address

    def kunmap(self, task: Task, pfn: int) -> Generator[object, None, None]:
        """Give a frame back; who waits for a slot is woken when it was the last user."""
        tracer = self.tracer
        if not self.board.is_high(pfn):
            return
        tracer.hit(task, "kunmap_high", self.board.page(pfn))
        yield -tracer.lag()
        yield from self.lock.take(task)
        slot = self.slot_of[pfn]
        self.counts[slot] -= 1
        free = self.counts[slot] == 1
        self.used -= free
        yield -tracer.hold()
        self.lock.release()
        if free:
            while self.sleepers:  # queued at the head, and not exclusive: the newest first, all
                tracer.engine.wake(self.sleepers.pop())
        self.truth.unmaps += 1
        yield -tracer.lag()

    def flush_unused(self, task: Task) -> Generator[object, None, None]:
        """Free every slot that nobody uses: set_memory_*() on x86 asks for it."""
        tracer = self.tracer
        tracer.hit(task, "kmap_flush_unused")
        yield -tracer.lag()
        yield from self.lock.take(task)
        yield from self._flush(task)
        self.lock.release()
        self.truth.unused += 1
        yield -tracer.lag()

    def _map_new(self, task: Task, pfn: int) -> Generator[object, None, None]:
        """Find a slot; returns with the lock held and the frame mapped, by this task or another."""
        engine, slots = self.tracer.engine, len(self.counts)
        while True:
            slot, visited = self._free_from(self.last + 1)
            if slot < 0:
                self.last = 0
                self.truth.wraps += 1
                yield from self._flush(task)
                slot, rest = self._free_from(0)
                visited += rest
            self.truth.scanned += visited
            yield -(20 + 2 * visited)
            if slot >= 0:
                break
            self.last = slots - 1
            self.sleepers.append(task)
            self.truth.waits += 1
            self.truth.waiting.add(task.pid)
            self.lock.release()
            began = engine.now
            yield BLOCK
            self.truth.wait_ns += engine.now - began
            yield from self.lock.take(task)
            if pfn in self.slot_of:
                self.truth.hits += 1
                return
        self.truth.new += 1
        self.last = slot
        self.counts[slot] = 1
        self.page_at[slot] = pfn
        self.slot_of[pfn] = slot

    def _free_from(self, first: int) -> tuple[int, int]:
        """First free slot from `first` on (-1: none up to the end), and slots looked at."""
        try:
            slot = self.counts.index(0, first)
        except ValueError:
            return -1, len(self.counts) - first
        return slot, slot - first + 1

    def _flush(self, task: Task) -> Generator[object, None, None]:
        """flush_all_zero_pkmaps(): the TLB is flushed only where a slot was freed."""
        tracer, board = self.tracer, self.board
        tracer.hit(task, "flush_all_zero_pkmaps")
        self.truth.passes += 1
        freed = [slot for slot, count in enumerate(self.counts) if count == 1]
        for slot in freed:
            self.counts[slot] = 0
            del self.slot_of[self.page_at[slot]]
        yield -(200 + 30 * len(freed))
        if freed:
            self.truth.flushes += 1
            self.truth.freed += len(freed)
            yield from tracer.flush_range(
                task, board.pkmap_base, board.pkmap_base + PAGE * len(self.counts)
            )
