"""The simulated kernel as scenarios see it: tasks, frames, and the calls that tasks make."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from collectors.synthetic.arena import SimulatedArena
from collectors.synthetic.blocks import SimulatedBlocks
from collectors.synthetic.board import PAGE
from collectors.synthetic.engine import Task
from collectors.synthetic.local import Local
from collectors.synthetic.pool import SimulatedPool
from collectors.synthetic.probes import SITE
from collectors.synthetic.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from collectors.synthetic.board import Board
    from collectors.synthetic.probes import TracedEvent

_FIRST_PID: Final = 400
_STRIDE: Final = 7919
"""Frames are handed out in this step, so that neighbours in time are none in memory."""
_MAP: Final = 4
"""VM_MAP."""


class Kernel:
    """A machine whose tasks map memory.

    Parameters
    ----------
    board
        The machine.
    seed
        Of all chance.
    events
        Tasks wind down when so many were recorded.
    sink
        Called with each event.
    """

    def __init__(
        self, board: Board, seed: str, events: int, sink: Callable[[TracedEvent], None]
    ) -> None:
        self.board = board
        self.rng = random.Random(seed)
        self.events = events
        self.tracer = Tracer(board, self.rng, sink)
        self.pool = SimulatedPool(self.tracer)
        self.local = Local(self.tracer)
        self.tracer.on_switch = self.local.switched
        self.arena = SimulatedArena(self.tracer)
        self.blocks = SimulatedBlocks(self.tracer, self.arena)
        self.tasks: list[Task] = []
        self._high = _ranges(board, high=True)
        self._low = _ranges(board, high=False)
        self._handed_out = 0

    # For scenarios

    def start(
        self, comm: str, body: Callable[..., Generator[object, None, None]], *args: int
    ) -> None:
        """Let a new task do something: `body` is called with this kernel, the task, and `args`."""
        task = Task(_FIRST_PID + len(self.tasks), comm[:15])
        self.tasks.append(task)
        self.tracer.engine.start(task, body(self, task, *args))

    def more(self) -> bool:
        """Whether tasks are to go on."""
        return self.tracer.recorded < self.events

    def frames(self, count: int) -> list[int]:
        """So many frames of highmem."""
        return [self._frame(self._high) for _ in range(count)]

    def low_frames(self, count: int) -> list[int]:
        """So many frames of lowmem."""
        return [self._frame(self._low) for _ in range(count)]

    def _frame(self, ranges: list[tuple[int, int]]) -> int:
        self._handed_out += 1
        index = self._handed_out * _STRIDE % sum(end - start for start, end in ranges)
        for start, end in ranges:
            if index < end - start:
                return start + index
            index -= end - start
        raise RuntimeError("no such frame")

    # Calls; sites are functions of collectors.synthetic.probes.SITES

    def kmap(self, task: Task, pfn: int, site: str) -> Generator[object, None, int]:
        """kmap(): gives the address."""
        return self.pool.kmap(task, pfn, SITE[site])

    def kunmap(self, task: Task, pfn: int) -> Generator[object, None, None]:
        """kunmap()."""
        return self.pool.kunmap(task, pfn)

    def kmap_local(self, task: Task, pfn: int, site: str) -> Generator[object, None, int]:
        """kmap_local_page(): gives the address."""
        return self.local.map(task, pfn, SITE[site])

    def kunmap_local(self, task: Task, address: int) -> Generator[object, None, None]:
        """kunmap_local(), by any address in the page."""
        return self.local.unmap(task, address)

    def touch(self, task: Task, pfn: int, site: str, ns: int) -> Generator[object, None, None]:
        """Map a frame locally, work on it, and give it back."""
        address = yield from self.local.map(task, pfn, SITE[site])
        yield ns
        yield from self.local.unmap(task, address + 0x10)

    def vmap(self, task: Task, pages: int, site: str) -> Generator[object, None, int]:
        """vmap(): gives the address, 0 where there is no room."""
        tracer, board = self.tracer, self.board
        tracer.hit(task, "vmap", self._array(pages), pages, _MAP)
        yield -tracer.lag()
        address = yield from self.arena.alloc(
            task, (pages + 1) * PAGE, 1, board.vmalloc_start, board.vmalloc_end,
            SITE["__get_vm_area_node"], "vmap",
        )  # fmt: skip
        yield -tracer.lag()
        tracer.back(task, "vmap_ret", SITE[site], address)
        return address

    def vunmap(self, task: Task, address: int) -> Generator[object, None, None]:
        """vunmap()."""
        self.tracer.hit(task, "vunmap", address)
        yield -self.tracer.lag()
        yield from self.arena.release(task, address)

    def vmalloc(
        self, task: Task, size: int, site: str, *, align: int = 1, module: bool = False
    ) -> Generator[object, None, int]:
        """__vmalloc_node_range(): gives the address, 0 where there is no room."""
        tracer, board = self.tracer, self.board
        low, high = board.vmalloc_start, board.vmalloc_end
        if module:
            low, high, align = board.modules_start, board.modules_end, max(align, PAGE)
        tracer.hit(task, "vmalloc", size, align, low, high)
        yield -tracer.lag()
        whole = -(-size // PAGE) * PAGE + PAGE
        address = yield from self.arena.alloc(
            task, whole, align, low, high, SITE["__get_vm_area_node"], "vmalloc"
        )
        yield -tracer.lag()
        tracer.back(task, "vmalloc_ret", SITE[site], address)
        return address

    def vfree(
        self, task: Task, address: int, *, reset: bool = False
    ) -> Generator[object, None, None]:
        """vfree(); `reset`: of an area with VM_FLUSH_RESET_PERMS, which is purged at once."""
        self.tracer.hit(task, "vfree", address)
        yield -self.tracer.lag()
        yield from self.arena.release(task, address)
        if reset:
            yield from self.blocks.unmap_aliases(task)

    def vm_map_ram(self, task: Task, pages: int, site: str) -> Generator[object, None, int]:
        """vm_map_ram(): gives the address, 0 where there is no room."""
        return self.blocks.map(task, pages, self._array(pages), SITE[site])

    def vm_unmap_ram(self, task: Task, address: int, pages: int) -> Generator[object, None, None]:
        """vm_unmap_ram()."""
        return self.blocks.unmap(task, address, pages)

    def vm_unmap_aliases(self, task: Task) -> Generator[object, None, None]:
        """vm_unmap_aliases()."""
        return self.blocks.unmap_aliases(task)

    def set_memory(self, task: Task) -> Generator[object, None, None]:
        """set_memory_ro() and the like; only x86 flushes aliases for it."""
        if self.board.arch == "i386":
            yield from self.pool.flush_unused(task)
            yield from self.blocks.unmap_aliases(task)
        yield self.tracer.brief()

    def _array(self, pages: int) -> int:
        """Where an array of pages might be: a slab object in lowmem."""
        return self.board.page_offset + 0x0380_0000 + self.rng.randrange(4096) * 256 + pages % 2


def _ranges(board: Board, *, high: bool) -> list[tuple[int, int]]:
    """Frames of highmem, or of lowmem above its first 64 MiB."""
    low, top = (
        (board.lowmem_end_pfn, board.max_pfn)
        if high
        else (board.first_pfn + 0x4000, board.lowmem_end_pfn)
    )
    ranges = [(max(start // PAGE, low), min(end // PAGE, top)) for start, end in board.ram]
    return [(start, end) for start, end in ranges if start < end]
