"""Small areas that stay break the arena into holes until a large request fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    failures = 0

    def small(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        held: list[int] = []
        while k.more():
            # a long and a short one in turn; the short-lived leave holes between the others
            for keep in (True, False):
                address = yield from k.vmap(task, rng.randint(4, o["pages"]), "dma_frame_vmap")
                if address and keep:
                    held.append(address)
                elif address:
                    yield rng.randint(500, 8000)
                    yield from k.vunmap(task, address)
            while len(held) > o["held"] // o["tasks"] or (held and rng.random() < 0.1):
                yield from k.vunmap(task, held.pop(rng.randrange(len(held))))
            yield rng.randint(500, 5000)
        for address in held:
            yield from k.vunmap(task, address)

    def large(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        nonlocal failures
        rng = k.rng
        held: list[int] = []
        while k.more() and failures < o["failures"]:
            pages = rng.randint(o["large"] // 2, o["large"])
            address = yield from k.vmap(task, pages, "udmabuf_vmap")
            if address:
                held.append(address)
            else:
                failures += 1
                for old in held[: len(held) // 2]:
                    yield from k.vunmap(task, old)
                del held[: len(held) // 2]
            yield Nap(rng.randint(5_000, 300_000))
        for address in held:
            yield from k.vunmap(task, address)

    for number in range(o["tasks"]):
        k.start(f"camera-{number}", small)
    k.start("udmabuf", large)


SCENARIO = Scenario(
    "vmap-fragment",
    "The arena fragments until requests fail",
    "long-lived small areas between short-lived ones; a large vmap() purges, then fails",
    _setup,
    (
        ScenarioOption("tasks", 2, "tasks with small areas", high=64),
        ScenarioOption("pages", 40, "pages of a small area, at most", low=4, high=2000),
        ScenarioOption("held", 600, "small areas that live long", high=20_000),
        ScenarioOption("large", 3000, "pages of a large one, at most", low=2, high=100_000),
        ScenarioOption("failures", 40, "failures after which the large task gives up"),
    ),
)
