"""Areas come and go so fast that lazily freed ones are purged all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    def cycle(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            pages = rng.randint(1, o["pages"])
            if rng.random() < 0.5:
                address = yield from k.vmap(task, pages, "f2fs_decompress")
                yield rng.randint(1000, 9000)
                if address:
                    yield from k.vunmap(task, address)
            else:
                address = yield from k.vmalloc(task, pages * 4096 - 100, "socket_ring_alloc")
                yield rng.randint(1000, 9000)
                if address:
                    yield from k.vfree(task, address)
            if rng.randrange(1000) < o["aliases"]:
                yield from k.vm_unmap_aliases(task)
            if rng.random() < 0.1:
                yield Nap(rng.randint(5_000, 50_000))

    for number in range(o["tasks"]):
        k.start(f"churn-{number}", cycle)


SCENARIO = Scenario(
    "purge-storm",
    "Lazy purges all the time",
    "the worker purges whenever lazy_max_pages() wait, vm_unmap_aliases() in between",
    _setup,
    (
        ScenarioOption("tasks", 4, "tasks", high=200),
        ScenarioOption("pages", 300, "pages of an area, at most", high=8000),
        ScenarioOption("aliases", 10, "vm_unmap_aliases() per thousand rounds", low=0, high=1000),
    ),
)
