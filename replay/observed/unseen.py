"""Which calls are told nothing of but how long they took, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from replay.outcome import LongCall
    from replay.trace.losses import Loss

Unseen = Literal["lost", "idle", "task", "return", "clock", "switches", "edge"]
"""Why it is not known what was around a call: events were lost meanwhile; it is of the idle task;
of an unknown one; its return is not in the trace, or nowhere in it; the trace clock does not count
time; no context switch was traced; none before it, or none behind it."""


def unseen(call: LongCall, lost: Loss | None) -> Unseen | None:
    """Why context switches and other calls tell nothing of a call; None where they do.

    A CPU whose events were lost meanwhile may have run its task, who held its lock or who waited
    for it, so a gap of any CPU hides them. The idle task is one number for every CPU.

    Parameters
    ----------
    call
        The call; of its fields the task and the times of entry and return are looked at.
    lost
        What tracing lost.
    """
    if not call.at.pid:
        return "task" if call.at.pid is None else "idle"
    if call.end_ts is None:
        return "return"
    return "lost" if lost_within(call.at.ts, call.end_ts, lost) else None


def lost_within(begin: int, end: int, lost: Loss | None, cpu: int | None = None) -> bool:
    """Whether events between two times may be missing.

    A gap reaches from the last event of its CPU before it to the first behind it, and from or to
    any time where there is none.

    Parameters
    ----------
    begin, end
        Times of the trace clock.
    lost
        What tracing lost.
    cpu
        Only events of this CPU matter; None: of any.
    """
    return lost is not None and any(
        (cpu is None or gap.cpu is None or gap.cpu == cpu)
        and (gap.start_ts is None or gap.start_ts <= end)
        and (gap.end_ts is None or gap.end_ts >= begin)
        for gap in lost.intervals
    )
