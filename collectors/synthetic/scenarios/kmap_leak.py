"""A call site that forgets kunmap() now and then: slots are lost one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    pages = k.frames(o["pages"])
    leaked = 0

    def good(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        while k.more():
            page = k.rng.choice(pages)
            yield from k.kmap(task, page, "dir_get_page")
            yield k.rng.randint(300, 4000)
            yield from k.kunmap(task, page)
            yield Nap(k.rng.randint(1_000, 30_000))

    def bad(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        nonlocal leaked
        while k.more():
            page = k.frames(1)[0]
            yield from k.kmap(task, page, "kunmap_missing")
            yield k.rng.randint(300, 4000)
            if k.rng.randrange(o["every"]) or leaked >= o["most"]:
                yield from k.kunmap(task, page)
            else:  # an error path returns without it
                leaked += 1
            yield Nap(k.rng.randint(1_000, 30_000))

    for number in range(o["tasks"]):
        k.start(f"find-{number}", good)
    k.start("leaky", bad)


SCENARIO = Scenario(
    "kmap-leak",
    "A leak of kmap() slots",
    "one call site forgets kunmap(): slots stay in use until the end, by pages of their own",
    _setup,
    (
        ScenarioOption("tasks", 3, "tasks that do it right", low=0, high=400),
        ScenarioOption("pages", 700, "pages of these"),
        ScenarioOption("every", 8, "one call in so many forgets"),
        ScenarioOption("most", 300, "slots that get lost, at most"),
    ),
)
