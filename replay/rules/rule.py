"""What a rule is: a name, what it says, what to do about it, and a function that finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from collectors.snapshot import Snapshot
    from replay.outcome import Finding, Outcome
    from replay.trace.losses import Loss

SEVERITIES: Final = ("problem", "warning", "info")
"""Worst first."""
NO_LIMITS: Final[Mapping[str, float]] = {}


class Case(NamedTuple):
    """What the rules look at.

    Attributes
    ----------
    outcome
        Figures of a replay; its own `findings` are ignored.
    snapshot
        Facts of the machine (:mod:`collectors.facts`).
    lost
        What tracing lost; None: not known here.
    captured
        For a what-if the outcome on the captured machine, else `outcome` itself.
    limits
        Limits other than the usual ones, by the rule's name, in the rule's own unit.
    """

    outcome: Outcome
    snapshot: Snapshot
    lost: Loss | None
    captured: Outcome
    limits: Mapping[str, float] = NO_LIMITS

    @property
    def is_whatif(self) -> bool:
        """Whether the outcome is another machine's."""
        return self.captured is not self.outcome

    def per_second(self, number: int) -> float | None:
        """Rate over the capture; None for a counter clock or an empty span."""
        if not self.has_times or self.outcome.span_ns <= 0:
            return None
        return number / self.outcome.span_ns * 1e9

    @property
    def is_ram_told(self) -> bool:
        """Whether any file tells how much RAM there is; from a guess nothing follows."""
        told = self.snapshot
        sizes = (told.ram, told.zones, told.zone_ranges, told.ram_bytes)
        return any(sizes) or told.mem_total is not None

    @property
    def has_times(self) -> bool:
        """Whether the trace clock counts time."""
        return self.outcome.cost.share_of_span is not None


class Limit(NamedTuple):
    """A number from which on a rule finds something.

    Attributes
    ----------
    usual
        In `unit`; None: the rule's own, of the machine.
    unit
        In words.
    """

    usual: float | None
    unit: str


@dataclass(frozen=True)
class FindingRule:
    """A rule.

    Attributes
    ----------
    name
        Code of its findings.
    severities
        Those that its findings can have, worst first.
    meaning
        What it says where it finds something, and why that matters.
    remedy
        What to do.
    find
        Finds it.
    needs
        Evidence without which nothing found does not mean that there is nothing
        (:mod:`replay.rules.evidence`).
    limit
        The number that ``--rule NAME=VALUE`` sets; None: it has none.
    is_advice
        It is no complaint: nothing to fail for.
    """

    name: str
    severities: tuple[str, ...]
    meaning: str
    remedy: str
    find: Callable[[Case], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    limit: Limit | None = None
    is_advice: bool = False

    def limit_in(self, case: Case) -> float:
        """Its limit, the usual one or another; of one without a usual limit 0 stands for that."""
        usual = 0.0 if self.limit is None or self.limit.usual is None else self.limit.usual
        return case.limits.get(self.name, usual)
