"""What `info` says that a capture lacks for an exact replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.capture import Lost
from collectors.facts import read_facts
from collectors.snapshot import Area, Probe, Recording, Snapshot
from hmtrace.cli import app
from hmtrace.report.contents import Contents, fact_in_words
from hmtrace.report.lacking import lacks, lacks_document

FIXTURES = Path(__file__).parents[2] / "fixtures"
KMAP = ("kmap_high", "kunmap_high", "flush_all_zero_pkmaps")
ARENA = ("alloc_vmap_area", "free_vmap_area_noflush", "__purge_vmap_area_lazy")
AREAS = (Area(0xF7800000, 0xF7803000, "vmalloc", "f", 2, None),)
CONFIG = {"HIGHMEM": "y"}
RECORDING = Recording("0.1.0", True, "time", (), (), ())  # noqa: FBT003


def probes(*symbols: str, returns: tuple[str, ...] = ()) -> tuple[Probe, ...]:
    pairs = [(s, False) for s in symbols] + [(s, True) for s in returns]
    return tuple(Probe(back, "hm", f"{s}{back}", s, (), None) for s, back in pairs)


def asked(snapshot: Snapshot, **ops: int) -> list[str]:
    found = lacks(Contents({"switch": 1, **ops}, {}), snapshot, Lost(()))
    assert all(lack.remedy for lack in found)
    return [row["what"] for row in lacks_document(found)]


@pytest.mark.parametrize(
    ("snapshot", "ops", "expected"),
    [
        (Snapshot(config=CONFIG), {}, []),
        (Snapshot(), {}, ["the kernel's configuration"]),
        (Snapshot(config=CONFIG), {"area_alloc": 1}, ["the areas in use at the start"]),
        (Snapshot(config=CONFIG, areas=AREAS), {"area_alloc": 1}, []),
        (
            Snapshot(config=CONFIG, areas=AREAS, recording=RECORDING._replace(agreed=False)),
            {"area_alloc": 1},
            ["areas came and went while they were read"],
        ),
        (
            Snapshot(config=CONFIG, recording=RECORDING._replace(stopped="full")),
            {},
            ["the disk was full: the end is missing"],
        ),
        (
            Snapshot(
                config=CONFIG,
                probes=probes("kunmap_high", "vfree", returns=("alloc_vmap_area",)),
                probe_misses={"kunmap_highFalse": 3, "vfreeFalse": 1, "alloc_vmap_areaTrue": 2},
            ),
            {},
            ["probes passed over 3 calls"],
        ),
        (
            Snapshot(config=CONFIG, overrun={0: 4, 1: 0}, dropped={0: 1, 2: 3000}),
            {},
            ["3005 events were lost, by the kernel's count: CPU 0 5, CPU 2 3000"],
        ),
        (
            Snapshot(config=CONFIG, pool_state=(0, ())),
            {"kmap": 1, "switch": 0},
            ["who slept in kmap()"],
        ),
    ],
)
def test_what_is_lacking(snapshot: Snapshot, ops: dict[str, int], expected: list[str]) -> None:
    assert asked(snapshot, **ops) == expected


def test_how_to_lose_fewer_events() -> None:
    small = RECORDING._replace(buffer_kb=512)
    for recording, remedy in (
        (None, "larger buffers, or hmtrace recorder with --minimal"),
        (small, "--buffer of more than 512 KiB, --minimal, or less load"),
    ):
        told = Snapshot(config=CONFIG, overrun={0: 1}, recording=recording)
        (lack,) = lacks_document(lacks(Contents({"switch": 1}, {}), told, Lost(())))
        assert lack["remedy"] == remedy


def test_functions_that_matter_and_were_not_probed() -> None:
    state = {"config": CONFIG, "areas": AREAS, "pool_state": (0, ())}
    some = probes("kmap_high", *ARENA, returns=("alloc_vmap_area",))
    assert asked(Snapshot(probes=some, **state), kmap=1, area_alloc=1) == [
        "not probed: the return of kmap_high, kunmap_high, flush_all_zero_pkmaps"
    ]
    kernel = RECORDING._replace(missing=("flush_all_zero_pkmaps",))
    some = probes(*KMAP[:2], returns=("kmap_high",))
    assert asked(Snapshot(probes=some, recording=kernel, **state), kmap=1) == []
    assert asked(Snapshot(probes=some, **state), area_alloc=1) == [
        f"not probed: {', '.join(ARENA)}"
    ]


def test_notes_of_the_recorder() -> None:
    text = (
        b"recorder 0.1.0\nrefused p:hmrecord/a b\nrefused r:hmrecord/c d\nmissing kmap_high_get x\n"
        b"snapshot agreed=no readings=10\nstopped size\nbuffer_kb 512\n"
        b"before_cs 10\nrecorded_cs 14\nafter_cs 9\n"
    )
    assert read_facts({"recorder": text}).snapshot().recording == Recording(
        "0.1.0",
        agreed=False,
        stopped="size",
        missing=("kmap_high_get", "x"),
        refused=("p:hmrecord/a b", "r:hmrecord/c d"),
        times_cs=(10, 14, 9),
        buffer_kb=512,
    )
    assert read_facts({"recorder": b"a film\n"}).snapshot().recording is None


def test_info_tells_what_recording_cost() -> None:
    measured = RECORDING._replace(times_cs=(100, 140, 100))
    words = "by hmtrace recorder 0.1.0"
    assert fact_in_words("recording", RECORDING) == words
    assert fact_in_words("recording", measured) == f"{words}, which made its command +40% longer"


def test_info_says_it() -> None:
    folder = str(FIXTURES / "i386-lost-overrun-pae-smp2")
    told = CliRunner().invoke(app, ["info", folder]).stdout
    what = "77468 events were lost, by the kernel's count: CPU 0 47327, CPU 1 30141"
    assert f"- {what}:" in told
    document = json.loads(CliRunner().invoke(app, ["info", "--format", "json", folder]).stdout)
    assert document["lacks"][0]["what"] == what
