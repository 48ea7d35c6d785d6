"""The vmap arena: areas taken at the lowest fitting address, freed lazily, purged together.

mm/vmalloc.c of 6.1 to 6.12: alloc_vmap_area, free_vmap_area_noflush, __purge_vmap_area_lazy,
drain_vmap_area_work.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.synthetic.board import PAGE
from collectors.synthetic.engine import BLOCK, Mutex, SpinLock, Task
from collectors.synthetic.freetree import FreeTree
from collectors.synthetic.probes import SITE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from collectors.synthetic.tracer import Tracer

NOWHERE: Final = 0xFFFF_FFFF
"""ULONG_MAX: the start of an empty range."""
_BUSY: Final = 0xFFFF_FFF0
"""ERR_PTR(-EBUSY)."""
_WORKER: Final = SITE["drain_vmap_area_work"]


class BusyArea(NamedTuple):
    """An area in use: where it ends, and how /proc/vmallocinfo shows it."""

    end: int
    kind: str
    caller: str


class SimulatedArena:
    """Areas in use, free and waiting for a purge.

    Attributes
    ----------
    free
        Free blocks of the whole address space.
    busy
        Areas in use by their start.
    lazy
        Areas that wait for a purge, ascending; those that touch are one where the kernel does so.
    lazy_pages
        Their pages.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.board = tracer.board
        self.truth = tracer.truth.arena
        self.free = FreeTree()
        self.free.give_back(1, NOWHERE)
        self.busy: dict[int, BusyArea] = {}
        self.lazy: list[tuple[int, int]] = []
        self.lazy_pages = 0
        self.purging = Mutex(tracer.engine)
        self.fragments: Callable[[Task], Generator[object, None, None]] | None = None
        self._free_lock = SpinLock(tracer.engine)
        self._lazy_lock = SpinLock(tracer.engine)
        self._worker = Task(41, "kworker/0:2")
        self._worker_waits = False
        self._used = 0
        self._boot()

    def _boot(self) -> None:
        """What is there before the trace: per-CPU chunk, devices, the first modules."""
        board, rng = self.board, self.tracer.rng
        # pcpu_get_vm_areas() goes from the top down
        top = board.vmalloc_end
        self._occupy(top - 66 * PAGE * board.cpus, top, "vmalloc", "pcpu_get_vm_areas+0x0/0x740")
        holes = []
        for number in range(70):
            size = rng.choice((2, 2, 2, 3, 5, 9, 17, 33)) * PAGE
            align = 1 << (size - PAGE - 1).bit_length() if number % 3 == 0 else 1
            start = self.free.find(size, align, board.vmalloc_start, board.vmalloc_end)
            what = ("ioremap", "acpi_os_map_iomem+0x215/0x240") if align > 1 else (
                "vmalloc", "gen_pool_add_owner+0x2a/0xb0")  # fmt: skip
            self._occupy(start, start + size, *what)
            if number % 4 == 1:
                holes.append(start)
        for start in holes:
            self.free.give_back(start, self.busy.pop(start).end)
        for start, area in self.busy.items():
            self._use(start, area.end - start)

    def _occupy(self, start: int, end: int, kind: str, caller: str) -> None:
        self.free.take(start, end)
        self.busy[start] = BusyArea(end, kind, caller)

    def start_worker(self) -> None:
        """Let the worker that purges in the background wait for work."""
        self.tracer.engine.start(self._worker, self._drain())

    # Allocate

    def alloc(
        self, task: Task, size: int, align: int, low: int, high: int, site: int, kind: str
    ) -> Generator[object, None, int]:
        """alloc_vmap_area().

        Parameters
        ----------
        task
            Who asks.
        size, align
            Bytes, guard page included.
        low, high
            Range that is allowed.
        site
            Where it is called from.
        kind
            As /proc/vmallocinfo would show the area.

        Returns
        -------
        int
            Address; 0 where there is no room, even after a purge.
        """
        tracer, truth = self.tracer, self.truth
        tracer.hit(task, "alloc_vmap_area", size, align, low, high)
        yield -tracer.lag()
        for attempt in (1, 2):
            yield from self._free_lock.take(task)
            start = self.free.find(size, align, low, high)
            if start >= 0:
                self.free.take(start, start + size)
                self._use(start, size)
            yield -tracer.hold()
            self._free_lock.release()
            if start >= 0:
                break
            if attempt == 1:
                truth.overflows += 1
                yield from self._purge_everything(task)
        yield -tracer.lag()
        if start < 0:
            truth.failures += 1
            tracer.back(task, "alloc_vmap_area_ret", site, _BUSY, 0, 0)
            return 0
        truth.allocs += 1
        self.busy[start] = BusyArea(start + size, kind, "")
        tracer.back(task, "alloc_vmap_area_ret", site, self._object(start), start, start + size)
        return start

    def _use(self, start: int, size: int) -> None:
        """Count bytes in use or waiting; ARM's modules have a range of their own."""
        if start >= self.board.vmalloc_start:
            self._used += size
            self.truth.peak_used = max(self.truth.peak_used, self._used)

    def _object(self, start: int) -> int:
        """Where an area's struct vmap_area might be: anywhere in lowmem."""
        return self.board.page_offset + 0x0200_0000 + (start >> 12) % 0x8_0000 * 32

    # Free

    def release(self, task: Task, start: int) -> Generator[object, None, None]:
        """free_vmap_area_noflush(): the area waits for a purge."""
        tracer = self.tracer
        area = self.busy.pop(start)
        tracer.hit(task, "free_vmap_area_noflush", self._object(start), start, area.end)
        yield -tracer.lag()
        yield from self._lazy_lock.take(task)
        self._make_lazy(start, area.end)
        self.truth.frees += 1
        self.truth.peak_lazy = max(self.truth.peak_lazy, self.lazy_pages)
        yield -tracer.hold()
        self._lazy_lock.release()
        if self.lazy_pages > self.board.lazy_max and self._worker_waits:
            self._worker_waits = False
            tracer.engine.wake(self._worker)

    def _make_lazy(self, start: int, end: int) -> None:
        self.lazy_pages += (end - start) // PAGE
        at = bisect.bisect(self.lazy, (start, end))
        if not self.board.kernel.merges_lazy:
            self.lazy.insert(at, (start, end))
            return
        if at < len(self.lazy) and self.lazy[at][0] == end:
            end = self.lazy.pop(at)[1]
        if at and self.lazy[at - 1][1] == start:
            self.lazy[at - 1] = (self.lazy[at - 1][0], end)
        else:
            self.lazy.insert(at, (start, end))

    # Purge

    def purge(self, task: Task, start: int, end: int, site: int) -> Generator[object, None, bool]:
        """__purge_vmap_area_lazy(): one TLB flush for the hull of all areas that wait.

        The caller holds `purging`.

        Returns
        -------
        bool
            Whether there was anything to purge.
        """
        tracer = self.tracer
        tracer.hit(task, "purge_vmap_area_lazy", start, end)
        self.truth.purges += 1
        yield -tracer.lag()
        yield from self._lazy_lock.take(task)
        areas, self.lazy = self.lazy, []
        yield -tracer.hold()
        self._lazy_lock.release()
        if areas:
            self.truth.hulls += 1
            yield from tracer.flush_range(task, min(start, areas[0][0]), max(end, areas[-1][1]))
            yield from self._free_lock.take(task)
            for area in areas if self.board.kernel.merges_lazy else reversed(areas):
                self.free.give_back(*area)
                self.lazy_pages -= (area[1] - area[0]) // PAGE
                self._use(area[0], area[0] - area[1])
                yield -tracer.hold()
                # cond_resched_lock(): others get a part of it
                if self._free_lock.queue and not self.board.kernel.gives_back_at_once:
                    self._free_lock.release()
                    yield from self._free_lock.take(task)
            self._free_lock.release()
        yield -tracer.lag()
        tracer.back(task, "purge_vmap_area_lazy_ret", site, int(bool(areas)))
        return bool(areas)

    def _purge_everything(self, task: Task) -> Generator[object, None, None]:
        """purge_vmap_area_lazy(): when an allocation found no room."""
        yield from self.purging.take(task)
        if self.fragments is not None:
            yield from self.fragments(task)
        yield from self.purge(task, NOWHERE, 0, SITE["alloc_vmap_area"])
        self.purging.release()

    def _drain(self) -> Generator[object, None, None]:
        """Body of the worker: purges until few enough pages wait."""
        while True:
            self._worker_waits = True
            yield BLOCK
            self.truth.drains += 1
            while self.lazy_pages > self.board.lazy_max:
                yield from self.purging.take(self._worker)
                yield from self.purge(self._worker, NOWHERE, 0, _WORKER)
                self.purging.release()
                yield self.tracer.brief()
                if self.board.kernel.drains_once:
                    break
