"""Layouts beside what kernels of boards and PCs printed at boot (boards.toml)."""

import tomllib
from pathlib import Path

import pytest

from hmtrace.cli.machines import read_machine
from replay.machine.layout import layout_of

BOARDS = tomllib.loads(Path(__file__).with_name("boards.toml").read_text())["board"]
WORDS = {"name", "source", "machine", "said"}


def machine_of(board, folder):
    """The machine as a file tells it, so that the reader of machine files is tried as well."""
    path = folder / "board.toml"
    path.write_text("\n".join(f"{key} = {written(value)}" for key, value in board.items()))
    return read_machine(path)


def written(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return repr(value)


def printed_by(layout):
    """The same numbers from the model; the kernel prints FIXADDR_TOP as the end of powerpc's."""
    highest = layout.fixaddr_top
    fixmaps = [[layout.fixaddr_start, end] for end in (highest, highest + layout.page_size)]
    return {
        "lowmem": [layout.page_offset, layout.high_memory],
        "arena": [layout.vmalloc_start, layout.vmalloc_end],
        "pool": [layout.pkmap_base, layout.pkmap_end],
        "fixmap": fixmaps,
        "modules": [layout.modules_start, layout.modules_end],
        "zones": {zone.name: [zone.start_pfn, zone.end_pfn] for zone in layout.zones},
        "pages": {zone.name: zone.present for zone in layout.zones},
        "highmem": layout.highmem_bytes >> 10,
    }


@pytest.mark.parametrize("board", BOARDS, ids=[board["name"] for board in BOARDS])
def test_board(board, tmp_path):
    layout = layout_of(machine_of(board["machine"], tmp_path))
    if "said" in board:
        assert board["said"] in " ".join(layout.notes)
        return
    told = board.keys() - WORDS
    assert told
    have = printed_by(layout)
    for name in told & {"zones", "pages"}:
        have[name] = {zone: have[name].get(zone) for zone in board[name]}
    if "fixmap" in told and board["fixmap"] in have["fixmap"]:
        have["fixmap"] = board["fixmap"]
    assert {name: have[name] for name in told} == {name: board[name] for name in told}
    assert not any("not modelled" in note for note in layout.notes)


def test_there_are_boards_of_every_age():
    ages = {".".join(board["machine"]["release"].split(".")[:2]) for board in BOARDS}
    assert len(BOARDS) >= 30
    assert len(ages) >= 15
