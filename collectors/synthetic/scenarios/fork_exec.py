"""Processes come and go on a kernel with HIGHPTE: page tables are mapped to be walked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel

_CACHED = 2
"""Thread stacks that each CPU keeps for the next fork (kernel/fork.c: NR_CACHED_STACKS)."""


class _Stacks:
    """Thread stacks, where the kernel takes them from the arena (VMAP_STACK)."""

    def __init__(self, k: Kernel) -> None:
        self.cached: list[list[int]] = [[] for _ in range(k.board.cpus)]

    def take(self, k: Kernel, task: Task) -> Generator[object, None, int]:
        """A stack: 8 KiB, aligned to twice its size; 0 where it is of lowmem."""
        align = k.board.stack_align
        if not align:
            return 0
        if self.cached[task.cpu]:
            return self.cached[task.cpu].pop()
        return (yield from k.vmalloc(task, 0x2000, "kernel_clone", align=align))

    def give(self, k: Kernel, task: Task, stack: int) -> Generator[object, None, None]:
        """Keep it for the next one, or free it."""
        if stack and len(self.cached[task.cpu]) < _CACHED:
            self.cached[task.cpu].append(stack)
        elif stack:
            yield from k.vfree(task, stack)


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    stacks = _Stacks(k)

    def copy_tables(
        k: Kernel, task: Task, old: list[int], new: list[int]
    ) -> Generator[object, None, None]:
        for source, copy in zip(old, new, strict=True):
            target = yield from k.kmap_local(task, copy, "copy_page_range")
            origin = yield from k.kmap_local(task, source, "copy_page_range")
            yield k.rng.randint(300, 6000)
            yield from k.kunmap_local(task, origin + 4 * k.rng.randrange(1024))
            yield from k.kunmap_local(task, target + 4 * k.rng.randrange(1024))

    def shell(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        own = k.frames(o["tables"])
        while k.more():
            children = []
            for _ in range(rng.randint(1, o["burst"])):
                stack = yield from stacks.take(k, task)
                tables = k.frames(o["tables"])
                yield from copy_tables(k, task, own, tables)
                children.append((stack, tables))
            for stack, tables in children:
                yield from k.touch(task, k.frames(1)[0], "copy_strings", 900)
                for _ in range(rng.randint(2, 20)):  # page faults of the new program
                    yield from k.touch(task, rng.choice(tables), "handle_mm_fault", 400)
                    if rng.random() < 0.3:
                        yield from k.touch(task, k.frames(1)[0], "wp_page_copy", 800)
                    yield rng.randint(300, 5000)
                for table in tables:
                    yield from k.touch(task, table, "unmap_page_range", 500)
                yield from stacks.give(k, task, stack)
            if rng.random() < 0.3:
                yield Nap(rng.randint(20_000, 200_000))

    for number in range(o["tasks"]):
        k.start(("make", "sh", "configure")[number % 3], shell)


SCENARIO = Scenario(
    "fork-exec",
    "fork and exec with page tables in highmem",
    "pairs of local mappings for page tables; on ARM thread stacks from the arena, aligned",
    _setup,
    (
        ScenarioOption("tasks", 4, "shells that start programs", high=400),
        ScenarioOption("tables", 6, "page tables of a process", high=512),
        ScenarioOption("burst", 6, "processes started at once, at most", high=100),
    ),
)
