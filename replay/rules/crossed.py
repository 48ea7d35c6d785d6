"""Mappings that are given back by somebody else, or on another CPU.

The address of kmap() is the same on every CPU, so whoever knows the page may give it back, wherever
(mm/highmem.c: kunmap_high): that is no fault. A local mapping is its task's and its CPU's: of such
:mod:`replay.rules.local_order` tells. Here it is told which calls of kmap() could not become local.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case


class KmapCrossed(NamedTuple):
    """kunmap() calls by another task than the one that mapped, and of a task's own elsewhere.

    `unmaps`: all of them.
    """

    other_task: int
    other_cpu: int
    unmaps: int


def _crossed(case: Case) -> Iterator[Finding]:
    crossed = case.outcome.pool.crossed
    if crossed is None or not crossed.other_task or evidence.is_missed(evidence.POOL, case):
        return
    found = KmapCrossed(crossed.other_task, crossed.other_cpu, case.outcome.pool.unmaps)
    yield Finding("kmap-crossed", "info", found, crossed.other_task, crossed.first)


CROSSED: Final = FindingRule(
    "kmap-crossed", ("info",),
    "A task gave back what another one had mapped with kmap(): that may be, but such a call site "
    "cannot use kmap_local_page().",
    "nothing; before a conversion to kmap_local_page() map and unmap in one task",
    _crossed, (evidence.POOL,),
)  # fmt: skip
