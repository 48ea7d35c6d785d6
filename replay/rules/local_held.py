"""Local mappings that are held long, and over context switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.outcome import Moment
    from replay.rules.rule import Case

SWITCHED_PER_MAP: Final = 0.01
MS: Final = 1_000_000
LONG_HOLD_MS: Final = 50.0
"""Time that a local mapping was held which no time slice explains."""


class HeldOverSwitch(NamedTuple):
    """Context switches with local mappings held; `per_map`: mappings taken out, per one made."""

    switches: int
    mappings: int
    per_map: float
    maps: int


def _held_over_switch(case: Case) -> Iterator[Finding]:
    """kernel/sched/core.c: prepare_task_switch takes the mappings out, finish_task_switch back."""
    local = case.outcome.local
    if not local.saved_on_switch or evidence.is_contradicted(case):
        return
    per_map = local.mappings_saved / local.maps if local.maps else 0.0
    found = HeldOverSwitch(local.saved_on_switch, local.mappings_saved, per_map, local.maps)
    severity = "warning" if per_map >= SWITCHED_PER_MAP else "info"
    first = local.first_switch
    yield Finding("local-over-switch", severity, found, local.saved_on_switch, first)


class LongHold(NamedTuple):
    """The local mapping that was held longest, and whether it was one of kmap_atomic()."""

    hold_ns: int
    by: Moment | None
    per_cpu: bool


def _long_hold(case: Case) -> Iterator[Finding]:
    """A task that holds a local mapping cannot migrate, and pays for it at each switch."""
    local = case.outcome.local
    if local.longest_hold_ns is None or local.longest_hold_ns < LONG.limit_in(case) * MS:
        return
    if evidence.is_contradicted(case):
        return
    found = LongHold(local.longest_hold_ns, local.longest_hold, case.outcome.layout.kmap_per_cpu)
    yield Finding("local-held-long", "warning", found, 1, local.longest_hold)


SWITCH: Final = FindingRule(
    "local-over-switch", ("warning", "info"),
    "Tasks lost their CPU while they held local mappings, which were taken down and put back.",
    "do not sleep, copy from or to user space, or take mutexes between map and unmap",
    _held_over_switch, (evidence.LOCAL, evidence.SWITCHES),
)  # fmt: skip
LONG: Final = FindingRule(
    "local-held-long", ("warning",),
    "A local mapping was held so long that its task was preempted or slept with it; it could not "
    "migrate meanwhile.",
    "map, copy and unmap at once",
    _long_hold, (evidence.LOCAL, evidence.TIMES), Limit(LONG_HOLD_MS, "ms"),
)  # fmt: skip
