"""A replay of a few made-up events: what its loops are compiled for before a trace is read.

At a first run the loops of a replay are compiled by processes of their own while the trace is
read (:mod:`hmtrace.cli.compiling`). They need no list of loops and of the kinds of their arguments:
they replay the events below, in plain Python, as the command will replay the trace, and so know
them. Then each takes the largest loop that no other has begun with. What makes the table of events
goes before all of these: it is the second largest, and who reads the trace waits for it next.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import polars as pl

    from collectors.snapshot import Snapshot
    from replay.machine.layout import Layout

COMMANDS: Final = ("report", "validate", "replay")
"""Commands that replay."""
LEAST_FIRST: Final = "--least-first"
PAGE: Final = 4096
_GC_THRESHOLD: Final = 200_000
"""New objects between two searches for cycles: with Python's 700 they are a twentieth of the time
that numba takes."""


def rehearse(command: str) -> None:
    """Replay the made-up events as a command would, for the sake of its loops.

    Parameters
    ----------
    command
        One of :data:`COMMANDS`.
    """
    from dataclasses import replace

    from replay.machine.layout import layout_of
    from replay.machine.model import Machine

    machine = Machine(arch="i386", pae=True, ram=((0, 2 << 30),))
    events = made_up(layout_of(machine))
    facts = known(layout_of(machine))
    if command == "report":
        from replay.walk import replay

        replay(events, machine, values=facts)
    elif command == "validate":
        from replay.validate.run import validate

        validate(events, machine, values=facts)
    else:
        from replay.whatif.run import what_if

        other = replace(machine, pkmap_slots=256, vmalloc=64 << 20)
        what_if(events, machine, other, values=facts)


def pair() -> None:
    """Make a table of raw events, for the sake of the loop that does so for every kind of trace."""
    import numpy as np

    from collectors.raw import RAW_DTYPE, RawEvents
    from collectors.table.tabulate import Tabulator

    table = Tabulator()
    rows = np.zeros(2, RAW_DTYPE).view(np.recarray)  # Python reads fields as numba does
    rows.pid = 100
    for _ in (*table.add(RawEvents(rows)), *table.finish()):
        pass


def made_up(layout: Layout) -> pl.DataFrame:
    """Event table with a call of every kind that a loop serves."""
    import polars as pl

    from collectors.events import SCHEMA

    slot, local = layout.pkmap_base + PAGE, layout.kmap_fix_top
    start, end = layout.vmalloc_start, layout.vmalloc_end
    area = {"start": start, "end": end, "size": 2 * PAGE, "align": 1}
    block = {"vaddr": start + (4 << 20), "pages": 4}
    page = {"page": 0xF700_0000, "pfn": layout.lowmem_end_pfn + 1}
    calls: list[dict[str, Any]] = [
        {"op": "kmap", "vaddr": slot, "site": "made_up+0x1", **page},
        {"op": "kunmap", "vaddr": slot, **page},
        {"op": "pool_flush"},
        {"op": "kmap_local", "vaddr": local, **page},
        {"op": "kunmap_local", "vaddr": local},
        {"op": "area_alloc", "vaddr": start, **area},
        {"op": "vmap", "vaddr": start, "pages": 1},
        {"op": "vunmap", "vaddr": start},
        {"op": "area_free", "vaddr": start, "end": start + 2 * PAGE, "nr_lazy": 2},
        {"op": "area_alloc", "vaddr": start + 2 * PAGE, **area},
        {"op": "vm_map_ram", **block},
        {"op": "vm_unmap_ram", **block},
        {"op": "area_purge", "start": start, "end": start + 2 * PAGE, "pages": 1, "purged": 1},
        {"op": "flush_range", "start": start, "end": start + 2 * PAGE},
    ]
    rows = [
        {"seq": 2 * i, "ts": 2 * i, "end_seq": 2 * i + 1, "end_ts": 2 * i + 1, "end_cpu": 0}
        | {"cpu": 0, "pid": 100, "ctx": 0, "entry_traced": True, "caller": 0xC010_0000 + i}
        | call
        for i, call in enumerate(calls)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def known(layout: Layout) -> Snapshot:
    """What the recorder would have kept of such a machine."""
    from collectors.snapshot import Area, Probe, Snapshot

    at = layout.vmalloc_start + (8 << 20)
    areas = tuple(
        Area(at + 4 * i * PAGE, at + (4 * i + 2) * PAGE, kind, "made_up", 1, None)
        for i, kind in enumerate(("vmalloc", "vmap", "unpurged", "vmalloc"))
    )
    purge = Probe(
        is_return=False,
        group="hm",
        event="purge",
        symbol="__purge_vmap_area_lazy",
        arguments=(),
        maxactive=None,
    )
    return Snapshot(areas=areas, probes=(purge,))


def main() -> None:
    """Rehearse the commands that are named, until that is done or who asked for it is gone.

    With :data:`LEAST_FIRST` before them, begin at the other end: who runs while others rest must
    not hold the largest loop, which would be waited for.
    """
    from collectors import compiling
    from collectors.compiled import compile_noted, noting

    gc.set_threshold(_GC_THRESHOLD)
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    compiling.waits = False
    least_first = LEAST_FIRST in sys.argv
    if not least_first:
        with noting() as noted:
            pair()
        compile_noted(noted)  # at once: it is needed as soon as the trace's reader is compiled
    with noting() as noted:
        for command in sys.argv[1 + least_first :]:
            rehearse(command)
    compile_noted(noted, least_first=least_first)


def _leave_with_the_parent() -> None:
    """Its end of the pipe is closed when it ends, however it does."""
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
