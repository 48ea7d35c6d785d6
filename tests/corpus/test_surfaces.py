"""What is no trace: machine files, descriptions, archives, caches and command lines.

A few inputs of each reader that the fuzzer takes no further than that reader; ``make fuzz`` draws
as many as there is time for.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import direct, light
from tests.fuzz.case import CUT, Case
from tests.fuzz.readers import READERS, Reader
from tests.fuzz.trial import run

if TYPE_CHECKING:
    from pathlib import Path

DIRECT = [reader for reader in READERS if reader.ways[0] in {*direct.WAYS, *light.WAYS}]


@pytest.mark.parametrize("reader", DIRECT, ids=lambda reader: reader.name)
def test_seeds_and_some_inputs(reader: Reader, tmp_path: Path) -> None:
    rng = random.Random(7)
    seeds = list(reader.seeds())
    cases = [case.with_way(reader.ways[0]) for case in seeds[:8]]
    cases += [reader.draw(rng, seeds) for _ in range(25)]
    for number, case in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdict = run(case, None if light.in_memory(case) else folder)
        assert verdict.trouble == "", verdict.ended


@pytest.mark.parametrize(
    "reader", [reader for reader in READERS if CUT in reader.ways], ids=lambda reader: reader.name
)
def test_an_end_that_is_missing_is_told(reader: Reader, tmp_path: Path) -> None:
    for number, case in enumerate(list(reader.seeds())[:6]):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdict = run(case.with_way(CUT), folder)
        assert verdict.trouble == "", verdict.ended


def test_every_way_has_a_reader() -> None:
    ways = {way for reader in DIRECT for way in reader.ways}
    assert ways >= {*direct.WAYS, *light.WAYS}


def test_a_purge_alone_beside_the_areas_of_the_start(tmp_path: Path) -> None:
    trace = (
        "# entries-in-buffer/entries-written: 100/9999   #P:8\n"
        "            task-3       [001] d.h..    11.001010: __purge_vmap_area_lazy: "
        "(__purge_vmap_area_lazy+0x0/0x90) start=0xc0000000 end=0xf8000000\n"
    )
    areas = "0xf7800000-0xf7803000   12288 acpi_os_map_iomem+0x1ea/0x210 ioremap\n"
    files = {"trace": trace.encode(), "vmallocinfo.start": areas.encode()}
    verdict = run(Case("events", files, way="replay-fixed"), tmp_path)
    assert verdict.trouble == "", verdict.ended
