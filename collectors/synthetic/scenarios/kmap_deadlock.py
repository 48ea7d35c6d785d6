"""Tasks that hold mappings while they ask for more, until each waits for another's: for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    nesting = o["nesting"] or 2 * k.board.pkmap_slots // o["tasks"] + 2

    def gather(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            pages = k.frames(nesting)
            for page in pages:  # all of them have to be mapped at the same time
                yield from k.kmap(task, page, "pipe_buf_gather")
                yield rng.randint(300, 2000)
                yield Nap(rng.randint(5_000, 40_000))
            for page in pages:
                yield from k.kunmap(task, page)
            yield Nap(rng.randint(10_000, 100_000))

    def bystand(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        while k.more():  # is not stuck: kmap_local_page() needs no slot of the pool
            yield from k.touch(task, k.frames(1)[0], "copy_page_to_iter", 1500)
            yield Nap(200_000)

    for number in range(o["tasks"]):
        k.start(f"gather-{number}", gather)
    k.start("bystander", bystand)


SCENARIO = Scenario(
    "kmap-deadlock",
    "Deadlock by nested kmap()",
    "each task holds some slots and needs more: at the end all of them sleep for ever",
    _setup,
    (
        ScenarioOption("tasks", 48, "tasks", low=2, high=400),
        ScenarioOption("nesting", 0, "pages that each needs at once (0: twice its share)",
               low=0, high=600),
    ),
    events=6_000,
)  # fmt: skip
