"""Call sites: local mappings out of order and handed over, calls of interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from collectors.events import Ctx
from replay.local.stacks import LocalStacks
from replay.machine.layout import layout_of
from replay.sites.loops import APIS
from replay.sites.tally import SiteTally
from tests.replay.test_local_kernel import I386, event, table

if TYPE_CHECKING:
    from replay.machine.model import Machine
    from replay.sites.loops import Counts

FIRST, SECOND, OTHER_CPU = 0xFFFA_B000, 0xFFFA_A000, 0xFFFB_B000
"""Slots 0 and 1 of CPU 1, slot 0 of CPU 0."""


def counted(*steps: dict[str, Any], window: int, machine: Machine = I386) -> dict[str, Counts]:
    """Figures by site, of a trace that is read in windows."""
    events = table(*steps)
    layout = layout_of(machine)
    stacks, sites = LocalStacks(layout, "switch"), SiteTally(4096)
    for first in range(0, events.height, window):
        part = events[first : first + window]
        piece = stacks.feed(part, first, last=first + window >= events.height)
        open_rows = stacks.open_rows
        sites.feed(
            part, first, piece.ended, piece.hold_ns, open_rows, np.zeros(part.height, np.int32),
            piece.wrong,
        )  # fmt: skip
    counts = sites.counts
    local = APIS.index("kmap_local")
    return {
        name: type(counts)(*(column[number * len(APIS) + local] for column in counts))
        for number, name in enumerate(sites.names)
    }


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_a_mapping_that_is_not_the_newest(window: int) -> None:
    """a's is unmapped below b's; what is unmapped above it then is b's own, in its turn."""
    found = counted(
        event("map", 1, 7, FIRST, site="a"),
        event("map", 1, 7, SECOND, site="b"),
        event("unmap", 1, 7, FIRST),
        event("unmap", 1, 7, SECOND),
        event("map", 1, 7, FIRST, site="a"),
        event("unmap", 1, 7, FIRST),
        window=window,
    )
    assert (found["a"].misordered, found["b"].misordered) == (1, 0)
    assert (found["a"].handed, found["b"].handed) == (0, 0)


HANDED = (
    event("map", 1, 8, FIRST, site="b"),
    event("unmap", 1, 8, FIRST),
    event("map", 0, 7, OTHER_CPU, site="a"),
    event("unmap", 1, 8, OTHER_CPU),
)


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_a_mapping_that_another_task_unmaps(window: int) -> None:
    found = counted(*HANDED, window=window)
    assert (found["a"].handed, found["b"].handed) == (1, 0)


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_what_its_own_task_unmaps_was_not_handed_over(window: int) -> None:
    """The other's unmap was a stray one."""
    found = counted(*HANDED, event("unmap", 0, 7, OTHER_CPU), window=window)
    assert found["a"].handed == 0


def test_of_several_that_have_the_slot_none_is_blamed() -> None:
    """Tasks that lost their CPU may all hold its first slot."""
    found = counted(
        *HANDED[:3],
        event("switch", 0, 7, next_pid=9),
        event("map", 0, 9, OTHER_CPU, site="c"),
        HANDED[3],
        window=100,
    )
    assert (found["a"].handed, found["c"].handed) == (0, 0)


@pytest.mark.parametrize("window", [1, 100])
def test_calls_of_interrupts(window: int) -> None:
    """Where no flags were recorded it is not known."""
    contexts = (0, Ctx.HARDIRQ, Ctx.SOFTIRQ | Ctx.IRQS_OFF, Ctx.NMI, Ctx.IRQS_OFF, Ctx.PREEMPT_OFF)
    steps = [event("map", 1, n, None, site="a", ctx=int(ctx)) for n, ctx in enumerate(contexts)]
    steps += [event("map", 1, 9, None, site=s, ctx=int(Ctx.UNKNOWN)) for s in ("a", "b")]
    found = counted(*steps, window=window)
    assert (found["a"].calls, found["a"].flagged, found["a"].interrupted) == (7, 6, 3)
    assert (found["b"].calls, found["b"].flagged, found["b"].interrupted) == (1, 0, 0)
