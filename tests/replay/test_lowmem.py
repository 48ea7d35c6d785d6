"""How lowmem fared: real files, and made-up counters of what hurts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collectors.facts import read_facts, read_folder
from replay.lowmem import lowmem_of
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.rules.lowmem import LowmemStalled, lowmem_findings

if TYPE_CHECKING:
    from replay.outcome import LowmemOutcome

FIXTURES = Path(__file__).parents[2] / "fixtures"
BOARD = FIXTURES / "i386-minix-pae-smp2"
KIB, MIB = 1 << 10, 1 << 20


def lowmem(files: dict[str, bytes]) -> LowmemOutcome:
    """Of a machine's files, with others in their place."""
    facts = read_facts({path.name: path for path in BOARD.iterdir()} | files)
    snapshot = facts.snapshot()
    found = lowmem_of(snapshot, layout_of(machine_from(snapshot)[0]))
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


def test_without_zoneinfo_nothing_is_said() -> None:
    files = {p.name: p for p in BOARD.iterdir() if p.name != "zoneinfo"}
    snapshot = read_facts(files).snapshot()
    assert lowmem_of(snapshot, layout_of(machine_from(snapshot)[0])) is None
