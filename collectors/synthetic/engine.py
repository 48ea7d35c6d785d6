"""Time, CPUs, tasks and locks of the simulated kernel.

A task is a generator. What it yields says what it does next:

* a positive number: works so many nanoseconds and can be preempted behind them;
* a negative one: the same with preemption off;
* a :class:`Nap`: sleeps so long;
* :data:`BLOCK`: sleeps until :meth:`Engine.wake`;
* :data:`SPIN`: waits on its CPU until :meth:`Engine.resume`.

Between two yields nothing else happens anywhere, so what stands there is atomic.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True)
class Nap:
    """Sleep of so many nanoseconds."""

    ns: int


class _Word:
    """A word of the language between tasks and engine."""


BLOCK: Final = _Word()
SPIN: Final = _Word()

SLICE: Final = 3_000_000
"""Nanoseconds after which a task gives way to a waiting one (CFS's granularity, about)."""
SWITCH: Final = 1_500
"""Nanoseconds of a context switch."""
HANDOVER: Final = 60
"""Nanoseconds until a spinning CPU sees that it has the lock."""


def _nothing() -> Generator[object, None, None]:
    """What a task does before it is started."""
    yield from ()


class Task:
    """A task.

    Attributes
    ----------
    pid, comm
        Number and name.
    program
        What it does.
    cpu
        Where it runs, or ran last.
    pinned
        It may not leave its CPU.
    stack
        Local mappings that it holds: (address, page frame).
    """

    __slots__ = ("can_preempt", "comm", "cpu", "pid", "pinned", "program", "since", "stack")

    def __init__(self, pid: int, comm: str) -> None:
        self.pid = pid
        self.comm = comm
        self.program = _nothing()
        self.cpu = 0
        self.pinned = False
        self.can_preempt = False
        self.since = 0
        self.stack: list[tuple[int, int]] = []


class Listener(Protocol):
    """Who is told of context switches."""

    def switched(self, cpu: int, prev: Task | None, state: str, following: Task | None) -> None:
        """A CPU goes from one task (None: idle) to another."""


class Engine:
    """The CPUs and their clock.

    Parameters
    ----------
    cpus
        How many.
    start
        Clock at the beginning, ns.
    """

    def __init__(self, cpus: int, start: int, listener: Listener) -> None:
        self.now = start
        self.current: list[Task | None] = [None] * cpus
        self.ready: deque[Task] = deque()
        self._agenda: list[tuple[int, int, Task, bool]] = []  # time, tie, task, a nap's end
        self._tie = 0
        self._listener = listener
        self._next_cpu = 0

    def start(self, task: Task, program: Generator[object, None, None]) -> None:
        """Let a new task run; tasks are spread over the CPUs."""
        task.program = program
        task.cpu = self._next_cpu
        self._next_cpu = (self._next_cpu + 1) % len(self.current)
        self.wake(task)

    def run(self) -> None:
        """Let everybody work until nobody can go on."""
        agenda = self._agenda
        while agenda:
            self.now, _, task, napped = heapq.heappop(agenda)
            if napped:
                self.wake(task)
            else:
                self._go_on(task)

    def wake(self, task: Task) -> None:
        """Make a sleeping task runnable; an idle CPU takes it at once."""
        for cpu in (task.cpu, *range(len(self.current))):
            if self.current[cpu] is None and (cpu == task.cpu or not task.pinned):
                self._switch(cpu, None, "R", task)
                return
        self.ready.append(task)

    def resume(self, task: Task) -> None:
        """End the spinning of a task."""
        self._after(HANDOVER, task)

    def _after(self, ns: int, task: Task, *, napped: bool = False) -> None:
        self._tie += 1
        heapq.heappush(self._agenda, (self.now + ns, self._tie, task, napped))

    def _go_on(self, task: Task) -> None:
        if task.can_preempt and self.ready and self.now - task.since >= SLICE:
            following = self._waiting_for(task.cpu)
            if following is not None:
                self.ready.append(task)
                task.can_preempt = False
                self._switch(task.cpu, task, "R", following)
                return
        try:
            wish = next(task.program)
        except StopIteration:
            self._stop(task, "X")
            return
        if type(wish) is int:
            task.can_preempt = wish > 0
            self._after(abs(wish), task)
        elif wish is BLOCK:
            self._stop(task, "D")
        elif isinstance(wish, Nap):
            self._after(wish.ns, task, napped=True)
            self._stop(task, "S")

    def _stop(self, task: Task, state: str) -> None:
        self._switch(task.cpu, task, state, self._waiting_for(task.cpu))

    def _waiting_for(self, cpu: int) -> Task | None:
        """First runnable task that may run on a CPU."""
        for index, task in enumerate(self.ready):
            if task.cpu == cpu or not task.pinned:
                del self.ready[index]
                return task
        return None

    def _switch(self, cpu: int, prev: Task | None, state: str, following: Task | None) -> None:
        self.current[cpu] = following
        if following is not None:
            following.cpu = cpu
            following.since = self.now
            self._after(SWITCH, following)
        self._listener.switched(cpu, prev, state, following)


class SpinLock:
    """A fair lock on which CPUs spin; who holds it has preemption off."""

    __slots__ = ("_engine", "owner", "queue")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.owner: Task | None = None
        self.queue: deque[Task] = deque()

    def take(self, task: Task) -> Generator[object, None, None]:
        """Take the lock."""
        if self.owner is None:
            self.owner = task
            return
        self.queue.append(task)
        yield SPIN

    def release(self) -> None:
        """Give it to the next."""
        self.owner = None
        if self.queue:
            self.owner = self.queue.popleft()
            self._engine.resume(self.owner)


class Mutex:
    """A lock on which tasks sleep."""

    __slots__ = ("_engine", "_owner", "_queue")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._owner: Task | None = None
        self._queue: deque[Task] = deque()

    def take(self, task: Task) -> Generator[object, None, None]:
        """Take the lock, asleep until it is free."""
        if self._owner is None:
            self._owner = task
            return
        self._queue.append(task)
        yield BLOCK

    def release(self) -> None:
        """Give it to the next."""
        self._owner = None
        if self._queue:
            self._owner = self._queue.popleft()
            self._engine.wake(self._owner)
