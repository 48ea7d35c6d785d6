"""The machines of synthetic traces, beside the layout that the model derives from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from collectors.errors import HmtraceError
from collectors.facts import read_folder
from collectors.synthetic.board import GIB, MIB, make_board
from replay.machine.from_facts import machine_from
from replay.machine.layout import check, layout_of
from tests.collectors.synthetic_captures import simulate

if TYPE_CHECKING:
    from pathlib import Path

BOARDS: tuple[dict[str, Any], ...] = (
    {"arch": "i386"},
    {"arch": "i386", "pae": False},
    {"arch": "i386", "pae": False, "split": "2g_opt", "ram": 3 * GIB},
    {"arch": "i386", "split": "2g", "ram": 8 * GIB, "cpus": 16},
    {"arch": "i386", "ram": 2 * GIB, "cpus": 1},
    {"arch": "i386", "split": "1g", "ram": 4 * GIB},
    {"arch": "arm", "pae": False},
    {"arch": "arm", "pae": False, "split": "3g_opt", "ram": 2 * GIB, "cpus": 4},
    {"arch": "arm", "pae": True, "split": "2g", "ram": 4 * GIB, "cpus": 8},
    {"arch": "arm", "pae": False, "split": "1g", "ram": 3 * GIB},
)


@pytest.mark.parametrize("wanted", BOARDS, ids=str)
def test_addresses_are_those_that_the_model_derives(tmp_path: Path, wanted: dict[str, Any]) -> None:
    board = make_board(**wanted)
    simulate(tmp_path, "minix-walk", board, events=50)
    facts = read_folder(tmp_path)
    values = facts.snapshot()
    machine, assumed = machine_from(values)
    assert (assumed, facts.contradictions, facts.notes) == ((), (), ())
    layout = layout_of(machine)
    for name in (
        "page_offset", "high_memory", "vmalloc_start", "vmalloc_end", "modules_start",
        "modules_end", "pkmap_base", "pkmap_slots", "lowmem_end_pfn", "max_pfn", "nr_cpus",
    ):  # fmt: skip
        assert getattr(layout, name) == getattr(board, name), name
    assert layout.kmap_fix_top == board.fix_kmap
    assert layout.lazy_max_pages == board.lazy_max
    assert layout.vmap_block_pages == board.block_pages
    assert layout.km_max_idx == board.local_depth
    assert layout.mem_map_bytes >= (board.max_pfn - board.first_pfn) * board.page_struct
    assert values.mem_map == board.mem_map
    checks = check(layout, values)
    assert len(checks) >= 8
    assert all(one.ok for one in checks), checks


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"ram": 512 * MIB}, "no highmem"),
        ({"arch": "arm", "pae": False, "ram": 512 * MIB}, "no highmem"),
        ({"arch": "mips"}, "no synthetic machine"),
        ({"split": "3g_opt"}, "without PAE"),
        ({"split": "5g"}, "no split"),
        ({"cpus": 0}, "0 CPUs"),
        ({"kernel": "2.4"}, "cannot be simulated"),
        ({"arch": "arm", "cpus": 9}, "9 CPUs"),
        ({"pae": False, "ram": 8 * GIB}, "more than i386 can address"),
        ({"arch": "arm", "pae": False, "ram": 4 * GIB}, "above 4 GiB"),
    ],
)
def test_impossible_machines(wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(HmtraceError, match=words) as caught:
        make_board(**wanted)
    assert caught.value.exit_code == 2
    assert caught.value.hint
