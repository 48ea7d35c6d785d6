"""The simulated tracer: stamps events, counts them, and hands them to the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from collectors.synthetic.engine import Engine
from collectors.synthetic.probes import NUMBER, PROBES, SWITCH, TracedEvent
from collectors.synthetic.truth import Truth

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from collectors.synthetic.board import Board
    from collectors.synthetic.engine import Task

START: Final = 12_000_000_000
"""Clock at the start of a trace, ns: a machine needs some seconds to boot."""

_OP: Final = {
    NUMBER["kmap_high_ret"]: ("kmap", 0),
    NUMBER["kmap_local_page_ret"]: ("kmap_local", 0),
    NUMBER["vmap_ret"]: ("vmap", 0),
    NUMBER["vm_map_ram_ret"]: ("vm_map_ram", 0),
    NUMBER["vmalloc_ret"]: ("vmalloc", 0),
    NUMBER["alloc_vmap_area_ret"]: ("area_alloc", 1),
}
"""Operation whose address a return probe tells, and the place of it."""


class Tracer:
    """What all parts of the simulated kernel share.

    Parameters
    ----------
    board
        The machine.
    rng
        Source of every chance.
    sink
        Called with each event.

    Attributes
    ----------
    engine, truth
        CPUs and clock; what happened.
    recorded
        Events so far.
    """

    def __init__(
        self, board: Board, rng: random.Random, sink: Callable[[TracedEvent], None]
    ) -> None:
        self.board = board
        self.rng = rng
        self.engine = Engine(board.cpus, START, self)
        self.truth = Truth()
        self.recorded = 0
        self.on_switch: Callable[[int, Task | None, Task | None], None] = lambda *_: None
        self._sink = sink
        self._last = START
        self._counts = [0] * (SWITCH + 1)

    # Times, ns: within a call before and after its lock, under the lock, and inside short calls

    def lag(self) -> int:
        """From a probe to the lock, or from the lock to the return probe."""
        return 80 + int(self.rng.random() * 500)

    def hold(self) -> int:
        """Under a lock."""
        return 40 + int(self.rng.random() * 80)

    def brief(self) -> int:
        """Between the probes of calls that take no lock."""
        return 90 + int(self.rng.random() * 200)

    # Events

    def hit(self, task: Task, probe: str, *values: int) -> None:
        """An entry probe fires."""
        self._record(task.cpu, task, NUMBER[probe], values, 0)

    def back(self, task: Task, probe: str, site: int, *values: int) -> None:
        """A return probe fires."""
        number = NUMBER[probe]
        self._record(task.cpu, task, number, values, site)
        if number in _OP:
            op, place = _OP[number]
            self.truth.returned(op, values[place])

    def switched(self, cpu: int, prev: Task | None, state: str, following: Task | None) -> None:
        """Record sched_switch, and what local mappings have to do with it."""
        idle = (f"swapper/{cpu}", 0)
        old = idle if prev is None else (prev.comm, prev.pid)
        new = idle if following is None else (following.comm, following.pid)
        self._record(cpu, prev, SWITCH, (*old, state, *new), 0)
        self.on_switch(cpu, prev, following)

    def flush_range(self, task: Task, start: int, end: int) -> Generator[object, None, None]:
        """flush_tlb_kernel_range(): i386 flushes all above 33 pages, ARM page by page."""
        self.hit(task, "flush_tlb_kernel_range", start, end)
        pages = (end - start) // 4096
        full = self.board.arch == "i386" and pages > 33
        yield -(900 * self.board.cpus if full else 300 + min(40 * pages, 400_000))
        self.truth.flush_ranges += 1

    def flush_all(self, task: Task) -> Generator[object, None, None]:
        """flush_tlb_all()."""
        self.hit(task, "flush_tlb_all")
        self.truth.flush_all += 1
        yield -900 * self.board.cpus

    def finish(self) -> Truth:
        """Count of events by name, into the truth."""
        names = [*(probe.name for probe in PROBES), "sched_switch"]
        self.truth.events = {n: c for n, c in zip(names, self._counts, strict=True) if c}
        return self.truth

    def _record(
        self, cpu: int, task: Task | None, probe: int,
        values: tuple[Any, ...], site: int,
    ) -> None:  # fmt: skip
        now = self.engine.now
        self._last = now = now if now > self._last else self._last + 1
        self._counts[probe] += 1
        self.recorded += 1
        if task is None:
            self._sink(TracedEvent(now, cpu, 0, "<idle>", probe, values, site, pinned=False))
        else:
            self._sink(TracedEvent(now, cpu, task.pid, task.comm, probe, values, site, task.pinned))
