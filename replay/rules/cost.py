"""What temporary mappings cost in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

COST_WARNING: Final = 1.0
"""Per cent of all CPU time."""
COST_PROBLEM: Final = 5.0


class MappingCost(NamedTuple):
    """Share of all CPU time, and the share that the worst causes have of it."""

    share: float
    ns: float
    causes: tuple[tuple[str, float], ...]
    low_share: float
    high_share: float


def _cost(case: Case) -> Iterator[Finding]:
    cost = case.outcome.cost
    least = COST.limit_in(case) / 100
    if cost.share_of_span is None or cost.share_of_span < least:
        return
    worst = sorted(cost.by_cause.items(), key=lambda c: -c[1].get("ns", 0))[:2]
    causes = tuple((name, of.get("share", 0.0)) for name, of in worst)
    ends = [cost.share_of_span * ns / cost.total_ns for ns in (cost.low_ns, cost.high_ns)]
    found = MappingCost(cost.share_of_span, cost.total_ns, causes, *ends)
    # What costs are assumed must not make the difference between a complaint and none.
    severity = "problem" if ends[0] >= COST_PROBLEM / 100 else "warning"
    if ends[0] < least:
        severity = "info"
    yield Finding("mapping-cost", severity, found)


COST: Final = FindingRule(
    "mapping-cost", ("problem", "warning", "info"),
    "Temporary mappings take a share of all CPU time; a problem or a warning only where the "
    "least that every operation may cost comes to that.",
    "hmtrace report names the cause and the call sites, hmtrace advise a split without them",
    _cost, (evidence.TIMES,), Limit(COST_WARNING, "% of CPU time"),
)  # fmt: skip
