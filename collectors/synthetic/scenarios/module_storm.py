"""Modules are loaded and removed all the time: areas, kmap_flush_unused(), purges at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.engine import Nap
from collectors.synthetic.scenario import Scenario, ScenarioOption

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from collectors.synthetic.engine import Task
    from collectors.synthetic.kernel import Kernel

_PAGE = 4096
_CHANGES = 8
"""set_memory_*() calls per part of a module: 16 per module were seen on 6.1."""


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    loaded: list[int] = []
    files = k.frames(64)

    def modprobe(k: Kernel, task: Task, /) -> Generator[object, None, None]:
        rng = k.rng
        while k.more():
            if loaded and (len(loaded) >= o["loaded"] or rng.random() < 0.45):
                module = loaded.pop(rng.randrange(len(loaded)))
                yield from k.vfree(task, module, reset=True)
                yield Nap(rng.randint(10_000, 300_000))
                continue
            buffer = yield from k.vmalloc(task, rng.randint(2, o["pages"]) * _PAGE, "load_module")
            for page in rng.sample(files, 3):
                yield from k.kmap(task, page, "minix_find_entry")
                yield 900
                yield from k.kunmap(task, page)
            core = yield from k.vmalloc(
                task, rng.randint(1, o["pages"]) * _PAGE - 300, "module_alloc", module=True
            )
            init = yield from k.vmalloc(
                task, rng.randint(1, 6) * _PAGE, "module_alloc", module=True
            )
            for _ in range(2 * _CHANGES):
                yield from k.set_memory(task)
                yield rng.randint(500, 20_000)
            if init:
                yield from k.vfree(task, init, reset=True)
            if buffer:
                yield from k.vfree(task, buffer)
            if core:
                loaded.append(core)
        while loaded:
            yield from k.vfree(task, loaded.pop(), reset=True)

    for _ in range(o["tasks"]):
        k.start("modprobe", modprobe)


SCENARIO = Scenario(
    "module-storm",
    "Modules loaded and removed all the time",
    "areas with guard pages, kmap_flush_unused() 16 times a module, a purge for every one",
    _setup,
    (
        ScenarioOption("tasks", 2, "modprobe at the same time", high=64),
        ScenarioOption("loaded", 25, "modules loaded at once, at most", high=500),
        ScenarioOption("pages", 40, "pages of a module, at most", low=2, high=500),
    ),
    events=12_000,
)
