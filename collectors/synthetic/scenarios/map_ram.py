"""vm_map_ram() as xfs and erofs use it: pieces of blocks, areas for large buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    def buffers(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        site = rng.choice(("xfs_buf_map", "erofs_decompress", "f2fs_decompress"))
        held: list[tuple[int, int]] = []
        while k.more():
            pages = rng.choice((1, 2, 3, 4, 4, 4, 8, 16, 24, 32, o["large"]))
            address = yield from k.vm_map_ram(task, pages, site)
            if address:
                held.append((address, pages))
            yield rng.randint(300, 6000)
            while len(held) > o["held"] or (held and rng.random() < 0.4):
                yield from k.vm_unmap_ram(task, *held.pop(rng.randrange(len(held))))
                yield rng.randint(100, 1000)
            if rng.randrange(1000) < o["aliases"]:
                yield from k.vm_unmap_aliases(task)
        while held:
            yield from k.vm_unmap_ram(task, *held.pop())

    for number in range(o["tasks"]):
        k.start(f"kworker/u{number}", buffers)


SCENARIO = Scenario(
    "map-ram",
    "A mix of vm_map_ram()",
    "pieces of per-CPU blocks that are never used twice, fragments given up by aliases",
    _setup,
    (
        ScenarioOption("tasks", 4, "tasks", high=200),
        ScenarioOption("held", 12, "pieces that each keeps, at most", high=2000),
        ScenarioOption("large", 64, "pages of the largest request", low=33, high=8000),
        ScenarioOption("aliases", 15, "vm_unmap_aliases() per thousand rounds", low=0, high=1000),
    ),
)
