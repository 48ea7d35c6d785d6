"""What `sweep` is given: axes, conditions, goals."""

from __future__ import annotations

import random

import pytest

from collectors.errors import HmtraceError
from hmtrace.cli.axes import parse_axes
from hmtrace.cli.finding import parse_goal
from hmtrace.cli.where import parse_where
from replay.whatif.search import search

MIB = 1 << 20


def test_values_of_every_kind() -> None:
    axes = parse_axes([
        "split=3G,VMSPLIT_2G", "ram=512M..2G*2", "pae=yes,no", "pkmap=64..256*2", "cpus=1..4+1",
        "--vmalloc=128M..256M+64M", "machine=pc-2g", "kernel=4.19,6.1", "nr_cpus=8",
    ])  # fmt: skip
    assert [axis.name for axis in axes] == [
        "split", "ram", "pae", "pkmap", "cpus", "vmalloc", "machine", "kernel", "nr-cpus",
    ]  # fmt: skip
    by = {axis.name: axis for axis in axes}
    assert by["split"].values == ("3g", "2g")
    assert by["ram"].words == ("512M", "1G", "2G")
    assert by["ram"].values == (512 * MIB, 1024 * MIB, 2048 * MIB)
    assert by["pae"].values == (True, False)
    assert by["cpus"].values == (1, 2, 3, 4)
    assert by["vmalloc"].words == ("128M", "192M", "256M")
    assert by["nr-cpus"].option == "nr_cpus"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("splitt=3g", "did you mean 'split'"),
        ("split", "has no values"),
        ("ram=", "has no values"),
        ("ram=lots", "no size"),
        ("pae=perhaps", "neither yes nor no"),
        ("cpus=0", "no number"),
        ("cpus=1,two", "no number"),
        ("ram=4G..1G*2", "ends before it begins"),
        ("pkmap=64..1024*1", "never ends"),
        ("ram=1M..64G+4K", "more than 4096"),
        ("ram=1G..2G,4G", "range without steps"),
    ],
)
def test_what_is_no_axis(text: str, word: str) -> None:
    with pytest.raises(HmtraceError) as error:
        parse_axes([text])
    assert error.value.exit_code == 2
    assert word in f"{error.value} {error.value.hint}"


def test_an_axis_that_is_there_twice() -> None:
    with pytest.raises(HmtraceError, match="twice"):
        parse_axes(["ram=1G", "ram=2G"])


def test_conditions() -> None:
    few, many = parse_where(["waits <= 10", "largest_hole>=1M"])
    figures = {"waits": 10, "largest_hole": MIB}
    assert few.is_met(figures)
    assert many.is_met(figures)
    assert not few.is_met({"waits": 11})
    assert not few.is_met({"waits": None})


@pytest.mark.parametrize("text", ["waits", "waits=", "=0", "waits=many", "waits~3", "sleeps=0"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(HmtraceError) as error:
        parse_where([text])
    assert error.value.exit_code == 2
    assert error.value.hint


def test_goals() -> None:
    assert parse_goal("min:pkmap", []).values[-1] == 4096
    [axis] = parse_axes(["vmalloc=120M..160M"])
    goal = parse_goal("max:vmalloc", [axis])
    assert not goal.is_least
    assert (goal.values[0], goal.values[1], goal.values[-1]) == (120 * MIB, 121 * MIB, 160 * MIB)
    [axis] = parse_axes(["ram=2G,512M"])
    assert list(parse_goal("min:ram", [axis]).values) == [512 * MIB, 2048 * MIB]


@pytest.mark.parametrize("text", ["vmalloc", "least:vmalloc", "min:split", "min:nr-cpus", "min:vm"])
def test_what_is_no_goal(text: str) -> None:
    with pytest.raises(HmtraceError) as error:
        parse_goal(text, [])
    assert error.value.exit_code == 2


def test_search_finds_the_border_wherever_it_is() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        number = chance.randint(1, 60)
        border, least = chance.randint(0, number), chance.random() < 0.5
        held: list[bool | None] = [(value >= border) is least for value in range(number)]
        for missing in chance.sample(range(number), chance.randint(0, number)):
            held[missing] = None
        found = search(range(number), held.__getitem__, least=least)
        good = [value for value, holds in enumerate(held) if holds]
        bad = [value for value, holds in enumerate(held) if holds is False]
        best, worst = (min, max) if least else (max, min)
        assert found.value == (best(good) if good else None)
        assert found.beside == (worst(bad) if bad else None)
        assert found.is_monotone
        assert all(tried.holds is held[tried.value] for tried in found.tried)


def test_search_says_where_there_is_no_one_border() -> None:
    found = search(range(9), lambda value: value in (2, 3, 7, 8))
    assert found.value == 7
    assert found.beside == 6
    assert not found.is_monotone
    assert search(range(1000), lambda _: False).value is None
