"""Quartiles of durations, in memory and on disk: those of numpy, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from replay.cost import samples as sampling
from replay.cost.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(4)
KINDS: dict[str, NDArray[np.int64]] = {
    "one": np.array([7]),
    "two": np.array([7, 12]),
    "spread": RNG.integers(0, 1 << 40, 4001),
    "nearly all alike": np.where(RNG.random(5000) < 0.9, 812, RNG.integers(0, 9999, 5000)),
    "long": np.array([0, 0, 1, (1 << 62) + 1, (1 << 62) + 2]),
}


@pytest.fixture(params=["memory", "disk"])
def _where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On disk little is sorted at once: the range is cut into bins again and again."""
    if request.param == "disk":
        for name, value in {"_IN_MEMORY": 64, "_AT_ONCE": 100, "_FEW": 3, "_BINS": 16}.items():
            monkeypatch.setattr(sampling, name, value)


@pytest.mark.usefixtures("_where")
@pytest.mark.parametrize("name", KINDS)
def test_quartiles_are_exact(name: str) -> None:
    values, found = KINDS[name], Samples()
    for piece in np.array_split(values, 3):
        found.add(piece)
    assert found.size == values.size
    assert found.quartiles() == tuple(np.percentile(values, (25, 50, 75)).tolist())
    assert found.median() == np.median(values)


@pytest.mark.usefixtures("_where")
def test_what_is_beside_a_duration() -> None:
    """Negative durations are none, and what stands beside them goes with them."""
    ns, slots = RNG.integers(-50, 9000, 3000), RNG.integers(1, 512, 3000)
    found = Samples()
    found.add(ns, slots)
    kept = ns >= 0
    assert found.size == kept.sum() < 3000
    assert found.median_beside() == np.median(slots[kept])
    per_slot = np.percentile((ns[kept] - 700.5) / slots[kept], (25, 50, 75))
    assert found.quartiles_each(700.5) == tuple(per_slot.tolist())


def test_nothing_measured() -> None:
    none: Any = Samples()
    assert (none.size, none.median(), none.median_beside()) == (0, 0, 0)
    assert none.quartiles_each(3.0) == (0, 0, 0)
