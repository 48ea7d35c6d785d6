"""A whole machine: file system, page cache, swap, modules, buffers at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.synthetic.scenario import Scenario, ScenarioOption
from collectors.synthetic.scenarios import (
    fork_exec,
    map_ram,
    minix_walk,
    module_storm,
    page_cache,
    purge_storm,
    zram_swap,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.synthetic.kernel import Kernel

_PARTS = (
    minix_walk.SCENARIO, page_cache.SCENARIO, zram_swap.SCENARIO, fork_exec.SCENARIO,
    map_ram.SCENARIO, purge_storm.SCENARIO, module_storm.SCENARIO,
)  # fmt: skip


def _setup(k: Kernel, o: Mapping[str, int]) -> None:
    for part in _PARTS:
        part.setup(k, part.values({"tasks": o["tasks"]}))


SCENARIO = Scenario(
    "mixed",
    "Everything at once",
    "directory walks, page cache, swap, forks, vm_map_ram(), purges and modules",
    _setup,
    (ScenarioOption("tasks", 2, "tasks of each kind", high=64),),
    events=50_000,
)
