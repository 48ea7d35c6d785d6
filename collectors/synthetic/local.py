"""kmap_local_page(): a stack of mappings per task, in slots of its CPU (mm/highmem.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.board import PAGE
from collectors.synthetic.probes import SITE

if TYPE_CHECKING:
    from collections.abc import Generator

    from collectors.synthetic.engine import Task
    from collectors.synthetic.tracer import Tracer

_INNER = SITE["__kmap_local_page_prot"]


class Local:
    """Local mappings of all tasks."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.board = tracer.board
        self.truth = tracer.truth.local

    def map(self, task: Task, pfn: int, site: int) -> Generator[object, None, int]:
        """Map a frame; a lowmem frame costs nothing and takes no slot.

        Returns
        -------
        int
            Address.
        """
        tracer, board = self.tracer, self.board
        tracer.hit(task, "kmap_local_page", board.page(pfn))
        yield -tracer.brief()
        if board.is_high(pfn):
            tracer.hit(task, "kmap_local_pfn", pfn)
            yield -tracer.brief()
            depth = len(task.stack)
            if depth >= board.local_depth - 1:
                msg = f"{task.comm} nests more than {depth} local mappings: the kernel would stop"
                raise RuntimeError(msg)
            address = board.local(task.cpu, depth)
            task.stack.append((address, pfn))
            task.pinned = True
            self.truth.maps += 1
            self.truth.max_depth = max(self.truth.max_depth, depth + 1)
            tracer.back(task, "kmap_local_pfn_ret", _INNER, address)
            yield -tracer.brief()
        else:
            address = board.direct(pfn)
            self.truth.lowmem += 1
        tracer.back(task, "kmap_local_page_ret", site, address)
        return address

    def unmap(self, task: Task, address: int) -> Generator[object, None, None]:
        """Give a mapping back by any address in it.

        The newest mapping leaves the stack, whichever was given: on i386 its page table entry is
        cleared, on ARM that of the address.
        """
        tracer, board = self.tracer, self.board
        tracer.hit(task, "kunmap_local", address)
        lowest = board.local(board.nr_cpus - 1, board.local_depth - 1)
        if lowest <= address < board.fix_kmap + PAGE:
            top, _ = task.stack.pop()
            self.truth.unmaps += 1
            self.truth.out_of_order += top != address & -PAGE
            task.pinned = bool(task.stack)
        yield -tracer.brief()

    def switched(self, cpu: int, prev: Task | None, following: Task | None) -> None:
        """A context switch takes the old task's mappings down and puts the new one's back."""
        del cpu
        if prev is not None and prev.stack:
            self.tracer.hit(prev, "kmap_local_sched_out")
            self.truth.saved_on_switch += 1
            self.truth.mappings_saved += len(prev.stack)
        if following is not None and following.stack:
            self.tracer.hit(following, "kmap_local_sched_in")
