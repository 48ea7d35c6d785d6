"""The scenarios, one module each: what the tasks do, and with which numbers."""

from __future__ import annotations

from typing import Final

from collectors.synthetic.scenarios import (
    fork_exec,
    kmap_deadlock,
    kmap_leak,
    local_order,
    map_ram,
    minix_walk,
    mixed,
    module_storm,
    page_cache,
    pool_full,
    purge_storm,
    vmap_fragment,
    zram_swap,
)

SCENARIOS: Final = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        minix_walk,
        page_cache,
        zram_swap,
        fork_exec,
        module_storm,
        pool_full,
        kmap_deadlock,
        kmap_leak,
        local_order,
        vmap_fragment,
        purge_storm,
        map_ram,
        mixed,
    )
}
"""Every scenario by its name; adding one is a module and a line here."""
