"""Swapping to zram: the page and its compressed object are mapped at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    memory = k.frames(o["pages"])
    objects = k.frames(o["pages"] // 3 + 1)

    def swap(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            for _ in range(rng.randint(1, 8)):
                page = yield from k.kmap_local(task, rng.choice(memory), "zram_bvec_rw")
                yield rng.randint(2000, 9000)
                packed = yield from k.kmap_local(task, rng.choice(objects), "zs_map_object")
                yield rng.randint(500, 3000)
                yield from k.kunmap_local(task, packed)
                yield from k.kunmap_local(task, page)
                yield rng.randint(200, 2000)
            yield Nap(rng.randint(5_000, 100_000))

    for number in range(o["tasks"]):
        k.start(f"kswapd{number}" if number < 1 else f"hog-{number}", swap)


SCENARIO = Scenario(
    "zram-swap",
    "Swapping to zram",
    "pairs of local mappings nested to depth 2, compression in between",
    _setup,
    (
        ScenarioOption("tasks", 3, "tasks that swap", high=400),
        ScenarioOption("pages", 3000, "pages that come and go"),
    ),
)
