"""An old driver that gives local mappings back in the wrong order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    pages = k.frames(1000)

    def copy(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            depth = rng.randint(1, o["depth"])
            held = []
            for page in rng.sample(pages, depth):
                held.append((yield from k.kmap_local(task, page, "old_driver_copy")))
                yield rng.randint(200, 2000)
            if depth > 1 and rng.randrange(100) < o["wrong"]:
                first = rng.randrange(depth - 1)  # not the newest
                held.append(held.pop(first))
            for address in reversed(held):
                yield from k.kunmap_local(task, address)
            yield rng.randint(500, 4000)

    for number in range(o["tasks"]):
        k.start(f"copy-{number}", copy)


SCENARIO = Scenario(
    "local-order",
    "Local mappings given back in the wrong order",
    "kunmap_local() of another than the newest mapping: the kernel warns, once",
    _setup,
    (
        ScenarioOption("tasks", 3, "tasks", high=400),
        ScenarioOption("depth", 6, "mappings held at once, at most", high=15),
        ScenarioOption("wrong", 10, "per cent of the rounds that are wrong", low=0, high=100),
    ),
)
