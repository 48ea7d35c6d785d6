"""Tasks that walk the directories of a minix or ext2 file system: kmap() per directory page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    tree = [k.frames(k.rng.randint(1, 2 * o["pages"] - 1)) for _ in range(o["directories"])]

    def walk(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            directory = rng.choice(tree)
            for page in directory:
                yield from k.kmap(task, page, "dir_get_page")
                yield rng.randint(200, 4000)
                if rng.random() < 0.02:  # the page has to be read first
                    yield Nap(rng.randint(50_000, 400_000))
                if rng.random() < 0.05:  # rename: a second directory at the same time
                    other = rng.choice(rng.choice(tree))
                    yield from k.kmap(task, other, "minix_find_entry")
                    yield rng.randint(200, 2000)
                    yield from k.kunmap(task, other)
                yield from k.kunmap(task, page)
                yield rng.randint(100, 3000)

    for number in range(o["tasks"]):
        k.start(f"find-{number}", walk)


SCENARIO = Scenario(
    "minix-walk",
    "Directory walk on a minix-like file system",
    "kmap() per directory page: reuse of mapped pages, wraps of the pool, a flush each",
    _setup,
    (
        ScenarioOption("tasks", 3, "tasks that walk", high=400),
        ScenarioOption("directories", 60, "directories in all"),
        ScenarioOption("pages", 12, "pages of a directory, on average", high=400),
    ),
)
