"""Dataclasses of collectors.records do what Python's own do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections import Counter

import pytest

from collectors.records import dataclass, field


@dataclass(frozen=True)
class Area:
    """Where something lies."""

    start: int
    end: int = 7
    notes: tuple[str, ...] = field(default=())


@dataclass
class Tally:
    """What was counted."""

    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    total: int = 0

    def __post_init__(self) -> None:
        self.total = self.kinds.total()


def test_values_are_taken_by_position_by_name_and_by_default() -> None:
    area = Area(1, notes=("low",))
    assert (area.start, area.end, area.notes) == (1, 7, ("low",))
    assert repr(area) == "Area(start=1, end=7, notes=('low',))"
    assert [one.name for one in dataclasses.fields(area)] == ["start", "end", "notes"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        ((1, 2, (), 4), {}),
        ((1,), {"start": 2}),
        ((1,), {"begin": 2}),
        ((), {"end": 2, "begin": 1}),
        ((1, 2, ()), {"begin": 2}),
        ((1, 2), {"note": ()}),
    ],
    ids=[
        "missing",
        "too many",
        "twice",
        "unknown",
        "unknown and missing",
        "unknown, all given",
        "unknown, one has a default",
    ],
)
def test_wrong_values_are_refused(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Area"):
        Area(*values, **named)  # type: ignore[arg-type]


def test_defaults_that_change_are_made_for_each() -> None:
    one, other = Tally("a"), Tally("b", Counter("xxy"))
    one.kinds["z"] += 1
    assert (one.total, other.total) == (0, 3)
    assert Tally("c").kinds == Counter()


def test_those_of_the_same_class_and_values_are_equal() -> None:
    @dataclass(frozen=True)
    class Other:
        start: int
        end: int
        notes: tuple[str, ...]

    assert Area(1, 2) == Area(1, 2)
    assert hash(Area(1, 2)) == hash(Area(1, 2))
    assert Area(1, 2) != Area(1, 3)
    assert Area(1, 2) != Other(1, 2, ())
    assert Tally("a") == Tally("a")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Tally("a"))


def test_frozen_ones_stay_as_they_are() -> None:
    area = Area(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="start"):
        area.start = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="start"):
        del area.start  # type: ignore[misc]
    assert area.start == 1


def test_pythons_own_functions_take_them() -> None:
    area = Area(1, 2, ("low",))
    assert dataclasses.replace(area, end=9) == Area(1, 9, ("low",))
    assert dataclasses.asdict(area) == {"start": 1, "end": 2, "notes": ("low",)}
    assert pickle.loads(pickle.dumps(area)) == copy.copy(area) == area


def test_methods_of_its_own_stay() -> None:
    @dataclass(frozen=True)
    class Loud:
        word: str

        def __repr__(self) -> str:
            return self.word.upper()

    assert repr(Loud("now")) == "NOW"
