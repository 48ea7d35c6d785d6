"""Local mappings are given back newest first, by the task that made them.

mm/highmem.c: kunmap_local_indexed warns once where the address is not the newest slot's. On i386
and most others the newest slot's page table entry is cleared all the same, so that the mapping
which the caller still uses is gone, and the one given back stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import Moment, WrongOrder
    from replay.rules.rule import Case


class UnmapsOutOfOrder(NamedTuple):
    """Unmaps of another than the newest mapping, and at the first which of both (0: the first).

    `unmaps_all`: all unmaps of slots.
    """

    unmaps: int
    unmaps_all: int
    given: int | None
    newest: int | None


class StrayUnmaps(NamedTuple):
    """Unmaps of slots by tasks that hold none, or of another CPU's slot.

    `holder` is the mapping, of another task, that the first of them was given; None: not known.
    """

    unmaps: int
    holder: Moment | None = None


def _wrong(case: Case) -> WrongOrder | None:
    """What was wrong; None where missing calls may be the reason."""
    if evidence.is_missed(evidence.LOCAL, case) or evidence.is_contradicted(case):
        return None
    return case.outcome.local.wrong_order


def _wrong_order(case: Case) -> Iterator[Finding]:
    local, wrong = case.outcome.local, _wrong(case)
    if wrong is not None and wrong.unmaps:
        found = UnmapsOutOfOrder(wrong.unmaps, local.unmaps, wrong.given, wrong.newest)
        yield Finding("local-order", "problem", found, wrong.unmaps, wrong.first)


def _strays(case: Case) -> Iterator[Finding]:
    wrong = _wrong(case)
    if wrong is not None and wrong.strays:
        found = StrayUnmaps(wrong.strays, wrong.holder)
        yield Finding("local-stray", "problem", found, wrong.strays, wrong.first_stray)


ORDER: Final = FindingRule(
    "local-order", ("problem",),
    "kunmap_local() was given another mapping than the newest one: the kernel warns once, and "
    "takes the wrong page table entry away.",
    "give local mappings back in the reverse order in which they were made",
    _wrong_order, (evidence.LOCAL,),
)  # fmt: skip
STRAY: Final = FindingRule(
    "local-stray", ("problem",),
    "kunmap_local() was called by a task that has no local mapping, or with another CPU's: given "
    "back twice, or handed over, which is no fault for kmap() alone.",
    "give each local mapping back once, in the task that made it",
    _strays, (evidence.LOCAL,),
)  # fmt: skip
