"""Call chains of perf.data: as stack traces, and as perf script resolves them."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from collectors import open_capture, perf_data
from collectors.errors import HmtraceError
from collectors.input.source import Source
from collectors.perf_data import capture
from collectors.probes import KIND_STACK
from collectors.text import perf_script
from tests.writers import perfdata as w
from tests.writers.perfdata import AttrSpec, FileSpec, SampleSpec, SideSpec

if TYPE_CHECKING:
    from pathlib import Path

PERF = shutil.which("perf")
KERNEL, USER, GUEST = ((1 << 64) - n for n in (128, 512, 2048))
TEXT = 0xC1000000
NAMES = (
    "_text",
    "kmap_high",
    "minix_find_entry",
    "minix_lookup",
    "vfs_read",
    "do_syscall",
    "_etext",
)
FUNCTIONS = {name: TEXT + 0x1000 * n for n, name in enumerate(NAMES)}
KALLSYMS = "".join(f"{at:08x} T {name}\n" for name, at in FUNCTIONS.items())
SECOND = 10**9


def at(name: str, offset: int) -> int:
    return FUNCTIONS[name] + offset


def spec_of(chains: list[tuple[int, ...]], **options: Any) -> FileSpec:
    """A kmap_high with each of the chains, a microsecond apart, on alternating CPUs."""
    word, order = options.get("word", 4), options.get("order", "little")
    event = w.probe_events(word)["kmap_high"]
    attrs = [AttrSpec(event, w.USUAL | w.CALLCHAIN, ids=(10, 11))]
    items: list[w.Item] = [
        SideSpec("mmap", 0, 0, 0, "[kernel.kallsyms]_text", TEXT, FUNCTIONS["_etext"] - TEXT),
        SideSpec("comm", 0, 0, 5, "init"),
    ]
    for n, chain in enumerate(chains):
        payload = event.payload(order, 5, [FUNCTIONS["kmap_high"], 0xF6000000 + 40 * n], preempt=1)
        items.append(SampleSpec(SECOND + 1000 * n, n % 2, 5, payload, chain=chain, id=10 + n % 2))
    return FileSpec(attrs, items, kallsyms=KALLSYMS, **options)


def stacks(reading: Any) -> list[tuple[int, str]]:
    """Stack traces and their times; each must follow its event."""
    raw = reading.raw
    found = np.flatnonzero(raw.rows["kind"] == KIND_STACK)
    for column in ("ts", "cpu", "pid", "comm"):
        assert (raw.rows[column][found] == raw.rows[column][found - 1]).all()
    assert not (raw.rows["kind"][found - 1] == KIND_STACK).any()
    assert (raw.rows["present"][found] == 1).all()
    return [(int(r["ts"]) - SECOND, raw.stacks[r["values"][0]]) for r in raw.rows[found]]


DIRECTORY = (KERNEL, at("kmap_high", 1), at("minix_find_entry", 0x45), at("minix_lookup", 0x10))
CHAINS: list[tuple[int, ...]] = [
    DIRECTORY,
    (*DIRECTORY, USER, 0x08048123, 0x08049000),
    (*DIRECTORY, USER, 0x08055555),
    (USER, 0x08048123),
    (),
    (KERNEL,),
    (USER, 0x08048123, *DIRECTORY),
    (KERNEL, at("kmap_high", 1), at("vfs_read", 0x20)),
    (KERNEL, at("kmap_high", 1), TEXT - 0x100000),
    DIRECTORY[1:],
    (GUEST, TEXT, KERNEL, at("kmap_high", 2)),
    # what user space had in the frame pointer's place; perf drops the chain, seen with Linux 6.18
    (*DIRECTORY, USER, 0x08048123, (1 << 64) - 1, 0x1179CF80),
]
SHOWN = "kmap_high+0x1<-minix_find_entry+0x45<-minix_lookup+0x10"
EXPECTED = [
    (0, SHOWN),
    (1000, SHOWN),
    (2000, SHOWN),
    (6000, SHOWN),
    (7000, "kmap_high+0x1<-vfs_read+0x20"),
    (8000, "kmap_high+0x1<-0xc0f00000"),
    (10000, "kmap_high+0x2"),
    (11000, SHOWN),
]
FORMS: list[dict[str, Any]] = [
    {},
    {"order": "big"},
    {"word": 8},
    {"form": w.PIPE},
    {"compress": 200},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_kernel_part_becomes_a_stack_trace(form: dict[str, Any]) -> None:
    data = w.write(spec_of(CHAINS, **form))
    reading = perf_data.read(Source.from_bytes(data, "perf.data"))
    assert stacks(reading) == EXPECTED
    assert len(reading.raw.rows) == len(CHAINS) + len(EXPECTED)
    assert sorted(set(reading.raw.stacks[1:])) == sorted({text for _, text in EXPECTED})


def test_the_table_has_the_stack_and_the_site(tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    path.write_bytes(w.write(spec_of(CHAINS)))
    events = open_capture(path).events.collect()
    shown = dict(EXPECTED)
    assert events["stack"].to_list() == [shown.get(1000 * n) for n in range(len(CHAINS))]
    assert events["site"].to_list()[:4] == ["minix_find_entry+0x45"] * 3 + [None]


def test_symbols_come_from_the_folder(tmp_path: Path) -> None:
    spec = spec_of([DIRECTORY])
    spec.kallsyms = ""
    (tmp_path / "perf.data").write_bytes(w.write(spec))
    bare = open_capture(tmp_path / "perf.data").events.collect()
    assert bare["stack"].to_list() == ["0xc1001001<-0xc1002045<-0xc1003010"]
    (tmp_path / "kallsyms").write_text(KALLSYMS)
    assert open_capture(tmp_path).events.collect()["stack"].to_list() == [SHOWN]


def test_pieces_sorting_and_many_chains_change_nothing() -> None:
    draw = random.Random(4)
    depth = [draw.randrange(1, 9) for _ in range(4000)]
    chains = [(KERNEL, *(TEXT + draw.randrange(0x6000) for _ in range(n))) for n in depth]
    chains += draw.sample(chains, 500)
    spec = spec_of(chains)
    # by CPU, as perf record writes them: far from the order of time
    spec.items = spec.items[:2] + spec.items[2::2] + spec.items[3::2]
    source = Source.from_bytes(w.write(spec), "perf.data")
    whole = perf_data.read(source)
    names = {at: name for name, at in FUNCTIONS.items()}

    def shown(ip: int) -> str:
        return f"{names[ip & ~0xFFF]}+{ip & 0xFFF:#x}"

    wanted = [(1000 * n, "<-".join(map(shown, chain[1:]))) for n, chain in enumerate(chains)]
    assert stacks(whole) == wanted
    for out_of_order in (False, True):
        source.out_of_order = out_of_order
        again = capture.stream(source, room=1 << 14, piece=100).whole()
        assert stacks(again) == wanted


def test_a_chain_beyond_its_record_is_refused() -> None:
    spec = spec_of([DIRECTORY])
    data = w.write(spec)
    length = (len(DIRECTORY)).to_bytes(8, "little") + KERNEL.to_bytes(8, "little")
    for number in (1 << 12, 1 << 61, (1 << 64) - 1):
        broken = data.replace(length, number.to_bytes(8, "little") + length[8:])
        with pytest.raises(HmtraceError, match="too short"):
            perf_data.read(Source.from_bytes(broken, "perf.data"))


@pytest.mark.skipif(PERF is None, reason="perf is not installed")
def test_perf_script_shows_the_same_stacks(tmp_path: Path) -> None:
    path, symbols = tmp_path / "perf.data", tmp_path / "kallsyms"
    # Chains as kernels write them: perf shows what lies outside of the kernel, or has no context,
    # as unknown functions of somewhere.
    path.write_bytes(w.write(spec_of([*CHAINS[:6], CHAINS[7]])))
    symbols.write_text(KALLSYMS)
    command = [str(PERF), "script", "-f", "-i", str(path), "--ns", "--kallsyms", str(symbols)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=300)
    theirs = perf_script.read(Source.from_bytes(done.stdout, "text"))
    ours = perf_data.read(Source.from_bytes(path.read_bytes(), "perf.data"))
    assert stacks(ours) == stacks(theirs)
    assert len(stacks(ours)) == 4
