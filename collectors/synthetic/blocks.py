"""vm_map_ram(): blocks of the arena cut into pieces, one queue of blocks per CPU.

mm/vmalloc.c of 6.1 to 6.12: vb_alloc, vb_free, new_vmap_block, purge_fragmented_blocks,
_vm_unmap_aliases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.synthetic.arena import NOWHERE
from collectors.synthetic.board import PAGE
from collectors.synthetic.probes import SITE

if TYPE_CHECKING:
    from collections.abc import Generator

    from collectors.synthetic.arena import SimulatedArena
    from collectors.synthetic.engine import Task
    from collectors.synthetic.tracer import Tracer

MOST: Final = 32
"""VMAP_MAX_ALLOC: above so many pages vm_map_ram() takes an area of its own."""


class SimulatedBlock:
    """A block: pages never handed out, pages unmapped, and between which of them."""

    __slots__ = ("dirty", "first_dirty", "last_dirty", "left", "start")

    def __init__(self, start: int, left: int) -> None:
        self.start = start
        self.left = left
        self.dirty = 0
        self.first_dirty = 1 << 30
        self.last_dirty = 0


class SimulatedBlocks:
    """The blocks of all CPUs."""

    def __init__(self, tracer: Tracer, arena: SimulatedArena) -> None:
        self.tracer = tracer
        self.board = tracer.board
        self.arena = arena
        self.truth = tracer.truth.arena
        self.queues: list[list[SimulatedBlock]] = [[] for _ in range(self.board.cpus)]
        self.by_start: dict[int, SimulatedBlock] = {}
        self._young = self.board.block_pages // 4
        arena.fragments = self.purge_fragments

    def map(self, task: Task, pages: int, array: int, site: int) -> Generator[object, None, int]:
        """vm_map_ram(): map so many pages; 0 where there is no room."""
        tracer, board = self.tracer, self.board
        tracer.hit(task, "vm_map_ram", array, pages, 0xFFFF_FFFF)
        yield -tracer.lag()
        if pages > MOST:
            address = yield from self.arena.alloc(
                task, pages * PAGE, PAGE, board.vmalloc_start, board.vmalloc_end,
                SITE["vm_map_ram"], "vm_map_ram",
            )  # fmt: skip
        else:
            address = yield from self._piece(task, _rounded(pages))
        self.truth.block_maps += bool(address)
        yield -tracer.lag()
        tracer.back(task, "vm_map_ram_ret", site, address)
        return address

    def unmap(self, task: Task, address: int, pages: int) -> Generator[object, None, None]:
        """vm_unmap_ram()."""
        tracer = self.tracer
        tracer.hit(task, "vm_unmap_ram", address, pages)
        yield -tracer.lag()
        if pages > MOST:
            yield from self.arena.release(task, address)
            return
        size = self.board.block_pages * PAGE
        block = self.by_start[address // size * size]
        units, first = _rounded(pages), (address - block.start) // PAGE
        block.first_dirty = min(block.first_dirty, first)
        block.last_dirty = max(block.last_dirty, first + units)
        block.dirty += units
        if block.dirty == self.board.block_pages:
            del self.by_start[block.start]
            yield from self.arena.release(task, block.start)

    def _piece(self, task: Task, units: int) -> Generator[object, None, int]:
        board = self.board
        for block in self.queues[task.cpu]:
            if block.left >= units:
                offset = board.block_pages - block.left
                self._cut(block, units, task.cpu)
                return block.start + offset * PAGE
        size = board.block_pages * PAGE
        start = yield from self.arena.alloc(
            task, size, size, board.vmalloc_start, board.vmalloc_end,
            SITE["new_vmap_block"], "vm_map_ram",
        )  # fmt: skip
        if start:
            block = SimulatedBlock(start, board.block_pages)
            self.by_start[start] = block
            self.queues[task.cpu].append(block)
            self._cut(block, units, task.cpu)
            self.truth.blocks += 1
        return start

    def _cut(self, block: SimulatedBlock, units: int, cpu: int) -> None:
        block.left -= units
        if not block.left:
            self.queues[cpu].remove(block)

    def purge_fragments(self, task: Task) -> Generator[object, None, None]:
        """Give up blocks of which nothing is in use, though not all was handed out."""
        self.tracer.hit(task, "purge_fragmented_blocks")
        yield -self.tracer.lag()
        yield from self._give_up(task, self.board.block_pages)

    def _give_up(self, task: Task, below: int) -> Generator[object, None, None]:
        """Give up such blocks with fewer than so many pages that were never used."""
        for queue in self.queues:
            for block in list(queue):
                unused = block.left + block.dirty == self.board.block_pages and block.dirty
                if unused and block.left < below:
                    queue.remove(block)
                    del self.by_start[block.start]
                    yield from self.arena.release(task, block.start)

    def unmap_aliases(
        self, task: Task, start: int = NOWHERE, end: int = 0, *, flush: bool = False
    ) -> Generator[object, None, None]:
        """_vm_unmap_aliases(): flush whatever may still be in a TLB."""
        tracer = self.tracer
        tracer.hit(task, "vm_unmap_aliases_part", start, end, int(flush))
        yield -tracer.lag()
        if self.board.kernel.keeps_young_blocks:
            yield from self.arena.purging.take(task)
            yield from self._give_up(task, self._young)
            dirty = [block for block in self.by_start.values() if block.last_dirty]
        else:
            queued = (block for queue in self.queues for block in queue)
            dirty = [block for block in queued if block.dirty]
        for block in dirty:
            start = min(start, block.start + block.first_dirty * PAGE)
            end = max(end, block.start + block.last_dirty * PAGE)
            flush = True
            if self.board.kernel.keeps_young_blocks:
                block.first_dirty, block.last_dirty = 1 << 30, 0
        if not self.board.kernel.keeps_young_blocks:
            yield from self.arena.purging.take(task)
            yield from self.purge_fragments(task)
        site = SITE["_vm_unmap_aliases"]
        if not (yield from self.arena.purge(task, start, end, site)) and flush:
            yield from tracer.flush_range(task, start, end)
        self.arena.purging.release()
        yield -tracer.lag()


def _rounded(pages: int) -> int:
    return 1 << (pages - 1).bit_length()
