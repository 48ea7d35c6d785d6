"""Somebody holds all slots of the pool, and many tasks sleep until one is given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    slots = k.board.pkmap_slots
    shared = k.frames(o["pages"])

    def hold(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            held = k.frames(slots - o["left"])
            for page in held:
                yield from k.kmap(task, page, "sendfile_pages")
                yield rng.randint(100, 800)
            rng.shuffle(held)
            for page in held:  # slowly given back: the sleepers get one slot after the other
                if rng.random() < 0.3:
                    yield Nap(rng.randint(2_000, 60_000))
                yield from k.kunmap(task, page)
            yield Nap(1_000_000)

    def want(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            page = rng.choice(shared)
            yield from k.kmap(task, page, "dir_get_page")
            yield rng.randint(500, 20_000)
            if rng.random() < 0.5:
                yield Nap(rng.randint(10_000, 200_000))
            yield from k.kunmap(task, page)
            yield rng.randint(500, 5000)

    k.start("hog", hold)
    for number in range(o["tasks"]):
        k.start(f"waiter-{number}", want)


SCENARIO = Scenario(
    "pool-full",
    "Many tasks asleep on a full pool",
    "every kunmap() to zero wakes all sleepers, one gets the slot, each attempt flushes",
    _setup,
    (
        ScenarioOption("tasks", 12, "tasks that want a slot", high=400),
        ScenarioOption("left", 2, "slots that the hog leaves", low=0, high=400),
        ScenarioOption("pages", 200, "pages that they want"),
    ),
    events=30_000,
)
