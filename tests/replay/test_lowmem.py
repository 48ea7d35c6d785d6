"""How lowmem fared: real files, and made-up counters of what hurts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collectors.facts import read_facts, read_folder
from hmtrace.report.wording import words_of
from replay.lowmem import lowmem_of
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.rules.lowmem import LowmemOom, LowmemStalled, lowmem_findings
from tests.replay import ooms

if TYPE_CHECKING:
    from collectors.snapshot import Snapshot
    from replay.memory import LowmemOutcome

FIXTURES = Path(__file__).parents[2] / "fixtures"
BOARD = FIXTURES / "i386-minix-pae-smp2"
KIB, MIB = 1 << 10, 1 << 20


def told(snapshot: Snapshot) -> LowmemOutcome | None:
    machine = machine_from(snapshot)[0]
    return lowmem_of(snapshot, machine, layout_of(machine))


def lowmem(files: dict[str, bytes]) -> LowmemOutcome:
    """Of a machine's files, with others in their place."""
    facts = read_facts({path.name: path for path in BOARD.iterdir()} | files)
    snapshot = facts.snapshot()
    found = told(snapshot)
    assert found is not None
    return found


def test_zones_and_uses_add_up_to_what_the_files_say() -> None:
    facts = read_folder(BOARD).snapshot()
    found = lowmem({})
    assert [zone.name for zone in found.zones] == ["DMA", "Normal", "HighMem"]
    assert sum(z.managed for z in found.zones if z.name != "HighMem") == facts.lowmem_bytes
    present = sum(z.present for z in facts.zones if z.name != "HighMem") * 4096
    free = sum(zone.free for zone in found.zones if zone.name != "HighMem")
    assert sum(used for _, used in found.uses) + free == present
    assert dict(found.uses)["slab"] == facts.memory_uses["Slab"]
    assert dict(found.uses)["mem_map"] == 10 * MIB
    assert found.stalls is None or not any(found.stalls.values())


def test_waits_are_those_of_the_capture() -> None:
    start = b"allocstall_dma 0\nallocstall_normal 5\nallocstall_movable 7\noom_kill 1\n"
    end = b"allocstall_dma 0\nallocstall_normal 25\nallocstall_movable 9\noom_kill 2\n"
    found = lowmem({"vmstat.start": start, "vmstat.end": end})
    assert found.stalls == {"dma": 0, "normal": 20, "movable": 2}
    assert found.oom_kills == 1
    (finding,) = lowmem_findings(found)
    assert (finding.rule, finding.severity, finding.count) == ("lowmem-stalled", "problem", 20)
    assert isinstance(finding.figures, LowmemStalled)
    assert finding.figures.high_free > 100 * MIB


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (b"", b"allocstall_normal 9\n"),  # since boot: not what the capture saw
        (b"allocstall_normal 9\n", b"allocstall_normal 3\n"),  # of another run
    ],
)
def test_what_is_not_known_is_not_counted(start: bytes, end: bytes) -> None:
    found = lowmem({"vmstat.start": start, "vmstat.end": end})
    assert found.stalls is None
    assert list(lowmem_findings(found)) == []


def test_requests_that_highmem_serves_are_no_complaint() -> None:
    """Up to 4.7 there is one counter for all, which tells nothing of lowmem."""
    found = lowmem({"vmstat.start": b"allocstall 1\n", "vmstat.end": b"allocstall 500\n"})
    assert found.stalls == {"": 499}
    assert list(lowmem_findings(found)) == []


def test_lowmem_at_its_watermark() -> None:
    zones = BOARD.joinpath("zoneinfo").read_text()
    parts = zones.split("pages free")
    low = "pages free".join(
        part if n in (0, 3) else f"     12\n{part.partition(chr(10))[2]}"
        for n, part in enumerate(parts)
    )
    (finding,) = lowmem_findings(lowmem({"zoneinfo": low.encode()}))
    assert finding.rule == "lowmem-low"


def test_the_largest_free_block() -> None:
    found = lowmem({
        "buddyinfo": b"Node 0, zone      DMA      1      0      0\n"
        b"Node 0, zone   Normal      9      3      0\nNode 0, zone  HighMem      0      0     31\n"
    })  # fmt: skip
    assert found.largest_block == 8 * KIB


def test_what_takes_highmem_first_is_not_lowmems() -> None:
    """Debian's i386 has HIGHPTE and no VMAP_STACK; ARM's stacks are vmalloc()'s."""
    pc, board = lowmem({}), told(read_folder(FIXTURES / "arm-61-1g-minix").snapshot())
    assert board is not None
    assert {"vmalloc", "page tables"} == dict(pc.beyond).keys()
    assert "kernel stacks" in dict(pc.uses)
    assert {"vmalloc", "page tables", "kernel stacks"} == dict(board.beyond).keys()
    assert "kernel stacks" not in dict(board.uses)


def test_zones_at_the_end() -> None:
    end = BOARD.joinpath("zoneinfo").read_text().replace("pages free     209353", "pages free 512")
    found = lowmem({"zoneinfo.end": end.encode()})
    normal = next(zone for zone in found.zones if zone.name == "Normal")
    assert (normal.free_end, normal.free) == (2 * MIB, 209353 * 4 * KIB)
    assert found.is_low is False  # DMA is not
    assert "end" not in found.unknown
    assert "end" in lowmem({}).unknown


def test_free_pages_of_cma_are_nobodys() -> None:
    """A Raspberry Pi of 4 GiB: what is free in lowmem may all be CMA's."""
    zones = BOARD.joinpath("zoneinfo").read_text()
    found = lowmem({"zoneinfo": zones.replace("nr_free_cma  0", "nr_free_cma  209000").encode()})
    normal = next(zone for zone in found.zones if zone.name == "Normal")
    assert normal.usable == (209353 - 209000) * 4 * KIB


def test_waits_tell_the_pages_that_were_looked_at() -> None:
    start = b"allocstall_normal 5\npgscan_direct 100\npgscan_direct_throttle 9\n"
    end = b"allocstall_normal 25\npgscan_direct 4100\npgscan_direct_throttle 10\n"
    assert lowmem({"vmstat.start": start, "vmstat.end": end}).scanned == 4000
    assert lowmem({}).scanned is None


def test_free_memory_in_pieces() -> None:
    found = lowmem({"buddyinfo": b"Node 0, zone   Normal      8      4      0      2      0\n"})
    assert found.largest_block == 32 * KIB
    assert found.in_pieces == 0.5
    assert lowmem({}).in_pieces is None


@pytest.mark.parametrize(
    ("log", "task", "low", "high"),
    [  # free in lowmem without CMA's and in highmem, as the reports have them, in KiB
        (ooms.LAPTOP_49, "updatedb", 4116 + 42404, 120916 - 28168),
        (ooms.WORKSTATION_2624, "Xorg", 3536 + 3732, 113132 - 3916),
        (ooms.PI_4, "smbd", 519112 - 513592, None),
        (ooms.FRAGMENTED, "kworker/0:1", 61440, 233472 - 556),
    ],
)
def test_out_of_memory_with_highmem_free(log: str, task: str, low: int, high: int | None) -> None:
    found = lowmem({"dmesg.end": log.encode()})
    (oom,) = found.ooms
    assert (oom.task, oom.of_lowmem, oom.meanwhile) == (task, True, True)
    assert oom.low_free - oom.low_cma == low * KIB
    assert oom.high_free == (None if high is None else high * KIB)
    assert oom.is_used_up is not (log == ooms.FRAGMENTED)
    assert oom.is_in_pieces is (log == ooms.FRAGMENTED)
    (finding,) = lowmem_findings(found)
    assert (finding.rule, finding.severity) == ("lowmem-oom", "problem")
    assert isinstance(finding.figures, LowmemOom)
    assert words_of(finding.figures).message.startswith("lowmem was ")


def test_a_kill_with_lowmem_free_is_none_of_lowmem() -> None:
    found = lowmem({"dmesg.end": ooms.LAPTOP_57.encode()})
    assert [oom.is_short_of_lowmem for oom in found.ooms] == [False]
    assert list(lowmem_findings(found)) == []


def test_a_report_of_before_the_capture_is_named_so() -> None:
    both = lowmem({
        "dmesg": ooms.LAPTOP_49.encode(),
        "dmesg.end": (ooms.LAPTOP_49 + ooms.WORKSTATION_2624).encode(),
    })  # fmt: skip
    assert [oom.meanwhile for oom in both.ooms] == [False, True]
    assert both.ooms[0].killed == "firefox.real"
    before = lowmem({"dmesg": ooms.LAPTOP_49.encode(), "dmesg.end": b"", "dmesg.gz": b""})
    assert [oom.meanwhile for oom in before.ooms] == [False]


def test_without_zoneinfo_meminfo_says_how_much_is_free() -> None:
    files = {p.name: p for p in BOARD.iterdir() if p.name != "zoneinfo"}
    found = told(read_facts(files).snapshot())
    assert found is not None
    assert [(z.name, z.free >> 10) for z in found.zones] == [
        ("lowmem", 852772),
        ("HighMem", 130412),
    ]
    assert "watermarks" in found.unknown
    assert list(lowmem_findings(found)) == []


def test_without_any_file_nothing_is_said() -> None:
    files = {p.name: p for p in BOARD.iterdir() if p.name not in ("zoneinfo", "meminfo")}
    assert told(read_facts(files).snapshot()) is None
