"""Which rules find something in an outcome, and which cannot know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import (
    arena,
    cost,
    crossed,
    deadlock,
    full_flushes,
    held,
    kmap_use,
    local_depth,
    local_held,
    local_order,
    log,
    lowmem,
    machine,
    modules,
    pool_flushes,
    purges,
    sleepers,
    slow,
    splits,
    trace,
)
from replay.rules.evidence import missing
from replay.rules.rule import NO_LIMITS, SEVERITIES, Case, FindingRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from collectors.snapshot import Snapshot
    from replay.outcome import Outcome
    from replay.rules.evidence import Missing
    from replay.trace.losses import Loss


def findings(
    outcome: Outcome,
    snapshot: Snapshot,
    lost: Loss | None = None,
    captured: Outcome | None = None,
) -> tuple[Finding, ...]:
    """Everything that a kernel engineer should know about an outcome.

    Parameters
    ----------
    outcome
        Figures of a replay; its own `findings` are ignored.
    snapshot
        Facts of the machine (:mod:`collectors.facts`), name to value.
    lost
        What tracing lost; None: not known here.
    captured
        For a what-if the outcome on the captured machine: what holds of the trace follows from it,
        and calls that are all gone on the other were traced.

    Returns
    -------
    tuple of Finding
        Worst severity first. Never empty: that there is nothing to complain about is said too.
    """
    case = Case(outcome, snapshot, lost, captured or outcome)
    found = [finding for rule in RULES for finding in rule.find(case)]
    if all(f.severity == "info" and f.rule != "mapping-cost" for f in found):
        found.insert(0, _fine(outcome))
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


class Looked(NamedTuple):
    """What a rule found.

    Attributes
    ----------
    rule
        The rule.
    findings
        What it found.
    missing
        Evidence that it lacks: without a finding it is not known whether there is anything.
    """

    rule: FindingRule
    findings: tuple[Finding, ...]
    missing: tuple[Missing, ...]

    @property
    def is_unknown(self) -> bool:
        """Whether it found nothing, and cannot tell that there is nothing."""
        return not self.findings and bool(self.missing)


def look(
    outcome: Outcome,
    snapshot: Snapshot,
    lost: Loss | None,
    rules: Iterable[FindingRule],
    limits: Mapping[str, float] = NO_LIMITS,
) -> tuple[Looked, ...]:
    """Look for what some rules find in a capture.

    Parameters
    ----------
    outcome, snapshot, lost
        As of :func:`findings`; the outcome on the captured machine.
    rules
        Those of :data:`RULES` that are to be looked at.
    limits
        As of :class:`replay.rules.rule.Case`.
    """
    case = Case(outcome, snapshot, lost, outcome, limits)
    return tuple(
        Looked(rule, tuple(rule.find(case)), tuple(missing(rule.needs, case))) for rule in rules
    )


class NothingTraced(NamedTuple):
    """No mapping call in the whole trace."""


def _nothing_traced(case: Case) -> Iterator[Finding]:
    outcome = case.captured
    pool, local, area = outcome.pool, outcome.local, outcome.arena
    calls = pool.maps + pool.unmaps + pool.passes + local.maps + local.lowmem + local.reused
    calls += local.unmaps + area.allocs + area.failures
    if not calls + (area.lazy_purges or 0) + (area.purge_runs or 0):
        yield Finding("nothing-traced", "warning", NothingTraced())


class Fine(NamedTuple):
    """Nothing to complain about, with what there was of it.

    Attributes
    ----------
    share
        Of all CPU time.
    used
        Most slots of the pool in use, and all.
    depth
        Of local mappings, and how deep they can be.
    allocs
        In the arena, of which none failed, as far as the trace tells.
    """

    share: float | None
    used: tuple[int, int] | None
    depth: tuple[int, int] | None
    allocs: int


def _fine(outcome: Outcome) -> Finding:
    pool, local = outcome.pool, outcome.local
    found = Fine(
        outcome.cost.share_of_span,
        (pool.max_used, pool.slots) if pool.maps and pool.slots else None,
        (local.max_depth, local.limit) if local.limit and local.maps else None,
        outcome.arena.allocs - outcome.arena.untold,
    )
    return Finding("fine", "info", found)


NOTHING: Final = FindingRule(
    "nothing-traced", ("warning",),
    "The trace holds no mapping call at all.",
    "hmtrace info lists what was traced, docs/capture.md what to enable",
    _nothing_traced,
)  # fmt: skip
RULES: Final[tuple[FindingRule, ...]] = (
    NOTHING,
    deadlock.DEADLOCK,
    sleepers.EXHAUSTED,
    deadlock.NESTED,
    held.HELD,
    *kmap_use.RULES,
    crossed.CROSSED,
    held.LONG,
    local_order.ORDER,
    local_order.STRAY,
    slow.SLOW,
    local_held.LONG,
    arena.EXHAUSTED,
    modules.EXHAUSTED,
    arena.PIECES,
    arena.TIGHT,
    modules.NEARLY,
    arena.NULL,
    arena.UNTOLD,
    local_depth.DEPTH,
    cost.COST,
    sleepers.NEAR,
    pool_flushes.STORM,
    purges.HULL,
    purges.STORM,
    full_flushes.FULL,
    pool_flushes.UNUSED,
    local_held.SWITCH,
    *trace.RULES,
    *log.RULES,
    *machine.RULES,
    *lowmem.RULES,
    splits.SPLIT,
)
"""Every rule; among findings of one severity this order stays."""
