"""Elementary operations that work is counted in, so that times over a range of costs are exact.

A time is a sum of operations, each so many times what one costs: it is linear in the figures of
:class:`replay.machine.costs.Costs`, but for the refill of a TLB, which is a product of three of
them. That product is one operation here, so over any range of figures the extremes of a time, and
of the difference of two times, are at corners: each operation costs its least or its most.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from replay.machine.costs import FIGURE_NAMES, Spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.costs import Costs

REFILL: Final = "refill"
"""What a full flush costs a CPU afterwards (:func:`replay.cost.formulas.refill_ns`)."""
OF_REFILL: Final = ("tlb_entries", "tlb_live", "walk")
"""The figures whose product it is; no other operation depends on them."""
UNITS: Final = (REFILL, *(name for name in FIGURE_NAMES if name not in OF_REFILL))
"""The operations: those of the figures, and the refill."""


@lru_cache(maxsize=1)
def _alone() -> dict[str, NDArray[np.float64]]:
    """Of each figure its value under costs by which one operation takes 1 ns, all others nothing.

    Shape (number of operations, 1).
    """
    made_of = {name: (name,) for name in UNITS} | {REFILL: OF_REFILL}
    return {
        name: np.array([[float(name in made_of[unit])] for unit in UNITS]) for name in FIGURE_NAMES
    }


def stacked(costs: Costs) -> Any:
    """The costs, and below them those under which one operation takes 1 ns and all others nothing.

    What a formula over the first comes to is a time; over the others, the number of operations.

    Returns
    -------
    namespace
        Every figure of `costs` as an array of shape (1 + number of :data:`UNITS`, 1), so that the
        formulas (:mod:`replay.cost.formulas`) work all of them out at once.
    """
    return SimpleNamespace(
        **{
            name: np.concatenate([[[getattr(costs, name)]], rows])
            for name, rows in _alone().items()
        }
    )


def spread_of(costs: Costs, unit: str) -> Spread:
    """What an operation costs, in ns, with its range.

    Examples
    --------
    >>> from replay.machine.costs import Costs
    >>> costs = Costs.default().with_values({"walk": [10, 100, 200], "tlb_entries": 64})
    >>> spread_of(costs.with_values({"tlb_live": 0.5}), "refill")
    Spread(low=320.0, likely=3200.0, high=6400.0)
    """
    if unit != REFILL:
        return costs.spread(unit)
    figures = [costs.spread(name) for name in OF_REFILL]
    return Spread(*(prod(ends) for ends in zip(*figures, strict=True)))
