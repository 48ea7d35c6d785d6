"""Reads and writes through a page cache in highmem: kmap_local_page() per copied page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    low = o["pages"] * o["lowmem"] // 100
    cache = k.frames(o["pages"] - low) + k.low_frames(low)

    def copy(k: Kernel, task: Task, /, writes: int) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            for _ in range(rng.randint(1, 16)):
                site = "copy_page_from_iter_atomic" if writes else "copy_page_to_iter"
                address = yield from k.kmap_local(task, rng.choice(cache), site)
                yield rng.randint(600, 3000)
                if rng.random() < 0.004:  # the user's page is not there: sleeps in the fault
                    yield Nap(rng.randint(20_000, 200_000))
                yield from k.kunmap_local(task, address + rng.randrange(4096))
                yield rng.randint(100, 1500)
            if rng.random() < 0.2:
                yield from k.touch(task, rng.choice(cache), "block_read_full_folio", 2000)
            if rng.random() < 0.05:
                yield Nap(rng.randint(10_000, 300_000))

    for number in range(o["tasks"]):
        k.start("dd" if number % 2 else "cat", copy, number % 2)


SCENARIO = Scenario(
    "page-cache",
    "Read and write through the page cache",
    "kmap_local_page() per copied page, of highmem and lowmem, some held over a sleep",
    _setup,
    (
        ScenarioOption("tasks", 4, "tasks that copy", high=400),
        ScenarioOption("pages", 4000, "pages in the cache"),
        ScenarioOption("lowmem", 20, "per cent of them in lowmem", low=0, high=99),
    ),
)
