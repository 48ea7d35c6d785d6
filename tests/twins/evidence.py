"""Whose a difference is: the model's, or the workload's, which went on differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from replay.machine.layout import layout_of
from replay.trace.sanitise import narrowed
from replay.whatif.arena import forecast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from replay.machine.model import Machine
    from replay.whatif.arena import ArenaForecast, ArenaPlaces
    from tests.twins.measure import Twin

_FAR = 8
"""Requests at the start by which two captures may be apart: a module has another size."""


class Requests(NamedTuple):
    """The allocations of a capture in the order in which they were served.

    Attributes
    ----------
    asked : ndarray of int64, shape (n, 2)
        Size and alignment.
    address : ndarray of int64
        0 where it failed.
    """

    asked: NDArray[np.int64]
    address: NDArray[np.int64]


class ArenaEvidence(NamedTuple):
    """What the requests of two captures say of the figures of their arenas.

    Attributes
    ----------
    requests, requests_there
        Of the one, and of the other.
    alike
        From the start on so many ask for the same.
    compared
        Of those so many come before either capture's first failure that the other has not: up to
        there the same areas are in use. 0 where the areas at the start are another kernel's.
    placed_alike
        Of the compared so many are foretold at the very address that the other kernel gave.
    own
        Requests of the other that the model, asked for all of them and shown no address, places
        where the other kernel did.
    own_failures, own_purges
        What it makes of them.
    failures, purges
        What the other kernel did.
    """

    requests: int
    requests_there: int
    alike: int
    compared: int
    placed_alike: int
    own: int
    own_failures: int
    own_purges: int
    failures: int
    purges: int

    @property
    def is_workloads(self) -> bool:
        """Whether the differences are the workload's.

        The model makes of the other's own requests exactly what the other kernel made of them,
        and of the requests that both made alike, too; so what is left is what was asked.
        """
        return (
            self.own == self.requests_there
            and (self.own_failures, self.own_purges) == (self.failures, self.purges)
            and self.placed_alike == self.compared
            and (self.requests != self.requests_there or self.alike < self.requests)
        )


def arena_evidence(one: Twin, other: Twin, target: Machine) -> ArenaEvidence:
    """Compare the requests of two captures, and what the model makes of them.

    Parameters
    ----------
    one, other
        The captures.
    target
        The other's machine as it was asked for.
    """
    here, there = requests_of(one), requests_of(other)
    skip, skip_there, alike = _alike(here, there)
    _, foretold = _placed(one, target)
    found, own = _placed(other, other.machine)
    happened = other.server.baseline.arena
    compared = placed = 0
    if one.machine.generation == other.machine.generation:
        ends = np.flatnonzero(
            (here.address[skip:][:alike] == 0) != (there.address[skip_there:][:alike] == 0)
        )
        compared = int(ends[0]) if ends.size else alike
        ours = foretold[skip:][:compared]
        placed = int((ours == there.address[skip_there:][:compared]).sum())
    return ArenaEvidence(
        requests=here.address.size,
        requests_there=there.address.size,
        alike=alike,
        compared=compared,
        placed_alike=placed,
        own=int((own == there.address).sum()),
        own_failures=found.failures,
        own_purges=found.purges.total(),
        failures=happened.failures,
        purges=happened.lazy_purges or 0,
    )


def requests_of(one: Twin) -> Requests:
    """The allocations of a capture."""
    table = _calls(one, "area_alloc").sort("seq")
    asked = table.select(
        pl.col("size").fill_null(0).cast(pl.Int64), pl.col("align").fill_null(0).cast(pl.Int64)
    )
    address = table.get_column("vaddr").fill_null(0).cast(pl.Int64).to_numpy()
    return Requests(asked.to_numpy(), address)


def _alike(here: Requests, there: Requests) -> tuple[int, int, int]:
    """Where the two sequences begin to be alike, and for how long."""
    best = (0, 0, 0)
    for skip in range(_FAR):
        for skip_there in range(_FAR):
            one, other = here.asked[skip:], there.asked[skip_there:]
            n = min(len(one), len(other))
            apart = np.flatnonzero((one[:n] != other[:n]).any(axis=1))
            run = int(apart[0]) if apart.size else n
            if run > best[2]:
                best = (skip, skip_there, run)
    return best


def _placed(one: Twin, target: Machine) -> tuple[ArenaForecast, NDArray[np.int64]]:
    """Serve the requests of a capture, all by the model; addresses in the order of the trace."""
    places: list[ArenaPlaces] = []
    found = forecast(
        one.workload.arena(), one.machine, narrowed(layout_of(one.machine)), target,
        layout_of(target), one.capture.facts.snapshot(), places.append,
    )  # fmt: skip
    assert found is not None
    row = np.concatenate([part.row for part in places])
    address = np.concatenate([part.address for part in places])
    address = address[np.argsort(row, kind="stable")]
    return found, np.where(address < 0, 0, address)


class Calls(NamedTuple):
    """Calls of two captures: from functions that both kernels map from, and from others."""

    common: tuple[int, int]
    others: tuple[int, int]


def common_calls(one: Twin, other: Twin, op: str) -> Calls:
    """Where the calls of two captures come from."""
    here, there = _by_function(one, op), _by_function(other, op)
    shared = here.keys() & there.keys()
    sums = [sum(calls[name] for name in shared) for calls in (here, there)]
    return Calls((sums[0], sums[1]), (sum(here.values()) - sums[0], sum(there.values()) - sums[1]))


def _by_function(one: Twin, op: str) -> dict[str, int]:
    name = pl.col("site").cast(pl.String).str.extract(r"^(\w+)").alias("name")
    return dict(_calls(one, op).select(name).group_by("name").len().iter_rows())


def script_calls(one: Twin, op: str, script: tuple[str, ...]) -> int:
    """Calls of the tasks that carry out the workload."""
    return _calls(one, op).filter(pl.col("comm").cast(pl.String).is_in(script)).height


def areas_at_start(one: Twin) -> int:
    """Bytes of the arena that were in use when a capture began."""
    layout = layout_of(one.machine)
    return sum(
        area.end - area.start
        for area in one.capture.facts.snapshot().areas
        if layout.vmalloc_start <= area.start < layout.vmalloc_end
    )


def _calls(one: Twin, op: str) -> pl.DataFrame:
    return pl.DataFrame(one.capture.events.filter(pl.col("op") == op).collect())
