"""How many CPUs were online when TLBs were flushed: only those are interrupted.

kernel/smp.c: on_each_cpu() and smp_call_function_many() take their receivers from
cpu_online_mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class OnlineCpus:
    """Counts, flush by flush, the CPUs that were online.

    Parameters
    ----------
    changes
        (ns of the trace clock, CPU, online), in the order in which they happened.
    span
        First and last time of the trace: what changed before is known by `cpus`.
    cpus
        CPUs online, numbered from 0; one that comes before it goes was none of them at the start.

    Attributes
    ----------
    flushes, summed
        Flushes counted so far, and the CPUs online at each, summed.

    Examples
    --------
    >>> online = OnlineCpus([(10, 1, False), (20, 1, True)], (0, 30), cpus=2)
    >>> online.add(np.array([5, 15, 25]))
    >>> online.flushes, online.summed
    (3, 5)
    >>> online = OnlineCpus([(10, 1, True)], (0, 30), cpus=2)
    >>> online.add(np.array([5, 15]))
    >>> online.summed
    3
    """

    def __init__(
        self, changes: Sequence[tuple[int, int, bool]], span: tuple[int, int], cpus: int
    ) -> None:
        inside = [change for change in changes if span[0] <= change[0] <= span[1]]
        first = {cpu: online for _, cpu, online in reversed(inside)}
        on = set(range(cpus)) - {cpu for cpu, online in first.items() if online}
        times, counts = [np.iinfo(np.int64).min], [max(len(on), 1)]
        for ns, cpu, online in inside:
            (on.add if online else on.discard)(cpu)
            times.append(max(ns, times[-1]))
            counts.append(max(len(on), 1))
        self._times = np.array(times, np.int64)
        self._counts = np.array(counts, np.int64)
        self.flushes = self.summed = 0

    @property
    def changed(self) -> bool:
        """Whether any CPU went or came during the trace."""
        return self._times.size > 1

    def add(self, times: NDArray[np.int64]) -> None:
        """Count flushes.

        Parameters
        ----------
        times : ndarray of int64
            When they happened, ns of the trace clock, in any order.
        """
        at = np.searchsorted(self._times, times, side="right") - 1
        self.flushes += times.size
        self.summed += int(self._counts[at].sum())


def mean_online(*parts: OnlineCpus | None) -> float | None:
    """CPUs online at a flush, on average; None without flushes, or where no CPU went or came."""
    known = [part for part in parts if part is not None]
    flushes = sum(part.flushes for part in known)
    return sum(part.summed for part in known) / flushes if flushes else None
