"""Page tables in highmem or not, and highmem= as a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from collectors import open_capture
from collectors.errors import HmtraceError
from collectors.snapshot import Snapshot
from hmtrace.cli.axes import parse_axes
from hmtrace.cli.machines import default_machine, target_machine
from replay.machine.from_facts import machine_from
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.machine.options import UNSET, has_highpte, with_options
from replay.whatif.page_tables import WALKERS, page_tables_of
from replay.whatif.run import what_if
from replay.whatif.sweep import is_alike
from replay.whatif.workload import distil
from tests.replay.test_conversion import ALL, I386, LAYOUT, event, events_of, on_slot
from tests.replay.test_whatif import FIXTURES

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def calls_of(*sites: str) -> list[dict[str, object]]:
    """A local mapping at each site, each within those before."""
    made = [
        event("kmap_local", 7, n, vaddr=on_slot(LAYOUT, 0, n), site=f"{site}+0x{n:x}0")
        for n, site in enumerate(sites)
    ]
    ends = [event("kunmap_local", 7, vaddr=on_slot(LAYOUT, 0, n)) for n in range(len(sites))]
    return [*made, event("switch", 7), *reversed(ends)]


def test_only_mappings_of_page_tables_go_away() -> None:
    events = events_of(calls_of("copy_page_range", "copy_user_highpage.constprop.0", "memcpy_page"))
    low = with_options(I386, highpte=False)
    here, there = what_if(events, I386, low)
    assert (here.local.maps, here.local.lowmem, here.local.max_depth) == (3, 0, 3)
    assert (there.local.maps, there.local.lowmem, there.local.max_depth) == (2, 0, 2)
    assert (there.local.unmaps, there.local.mappings_saved) == (2, 2)
    assert there.tlb.single == 2 + 2
    assert [site.site for site in there.sites] == [
        "copy_user_highpage.constprop.0+0x10",
        "memcpy_page+0x20",
    ]
    caveat = next(c for c in there.caveats if c.startswith("page tables are lowmem"))
    assert "saw 1 pages of highmem" in caveat
    assert "1 local mappings of them go away" in caveat
    assert "copy_page_range()" in caveat


def test_where_one_function_maps_page_tables_the_walkers_map_something_else() -> None:
    """Kernels since 6.5: a page that handle_mm_fault() maps itself is no page table."""
    events = events_of(calls_of("__pte_offset_map", "handle_mm_fault"))
    tables = page_tables_of(distil(events, I386))
    assert (tables.calls, tables.pages, tables.is_certain) == (1, 1, True)
    there = what_if(events, I386, with_options(I386, highpte=False))[1]
    assert (there.local.maps, there.local.lowmem) == (1, 0)


def test_page_tables_below_a_converted_mapping_go_away_too() -> None:
    calls = calls_of("copy_page_range", "memcpy_page")
    calls[2:2] = [event("kmap", 7, 9), event("kunmap", 7, 9)]
    events = events_of(calls)
    both = what_if(events, I386, with_options(I386, convert=ALL))[1]
    low = what_if(events, I386, with_options(I386, highpte=False, convert=ALL))[1]
    assert (both.local.max_depth, both.local.maps) == (3, 3)
    assert (low.local.max_depth, low.local.maps) == (2, 2)


def test_a_kernel_with_highpte_maps_what_the_trace_does_not_show() -> None:
    events = events_of(calls_of("memcpy_page"))
    low = with_options(I386, highpte=False)
    there = what_if(events, low, I386)[1]
    assert there.local.maps == 1
    assert any(
        "local mappings, their flushes and costs are lower bounds" in c for c in there.caveats
    )
    assert not any("HIGHPTE" in c for c in what_if(events, I386, I386)[1].caveats)


@pytest.mark.parametrize(
    ("name", "calls", "is_certain"),
    [
        ("i386-minix-pae-smp2", 6345, False),
        ("arm-61-1g-minix", 1665, False),
        ("i386-510-twin-vmalloc128", None, False),
    ],
)
def test_real_captures(name: str, calls: int | None, is_certain: bool) -> None:  # noqa: FBT001
    capture = open_capture(FIXTURES / name)
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    target = with_options(machine, highpte=False)
    here, there = what_if(capture.events, machine, target, values=values)
    walked = sum(
        site.count for site in here.sites
        if site.op == "kmap_local" and site.site.split("+")[0].split(".")[0] in WALKERS
    )  # fmt: skip
    gone = here.local.maps - there.local.maps
    # of walked tables those that lay in lowmem took no slot before either
    assert gone + here.local.lowmem - there.local.lowmem == walked
    assert calls in (None, gone)
    assert gone > 0
    assert there.pool.maps == here.pool.maps
    assert page_tables_of(distil(capture.events, machine, values=values)).is_certain == is_certain


def test_who_has_highpte() -> None:
    arm = default_machine("arm", None)
    mips = default_machine("mips32", None)
    assert [has_highpte(m) for m in (I386, arm, mips)] == [True, True, False]
    assert not has_highpte(with_options(I386, highmem=False))
    assert not has_highpte(with_options(I386, release="7.2"))
    assert has_highpte(with_options(arm, release="7.2"))
    with pytest.raises(HmtraceError, match="mips32 has no HIGHPTE"):
        with_options(mips, highpte=True)
    with pytest.raises(HmtraceError, match="without HIGHMEM"):
        with_options(I386, highmem=False, highpte=True)
    with pytest.raises(HmtraceError, match="without HIGHMEM"):
        with_options(with_options(I386, highmem=False), highpte=True)


def pc(ram: int, *, pae: bool, mem: int | None = None) -> Machine:
    """A PC as QEMU lays it out, with Debian's kernel."""
    tail = 0x20_000
    ranges = ((0x1000, 0x9_FC00), (MIB, ram * MIB - tail))
    return Machine(arch="i386", pae=pae, ram=ranges, nr_cpus=32, mem=mem)


@pytest.mark.parametrize(
    ("machine", "vmalloc", "size", "low", "high"),
    [  # observed at the boot of 6.1.176 under QEMU, MiB
        (pc(2048, pae=True), None, "512M", 879, 512),
        (pc(512, pae=True), None, "128M", 383, 128),
        (pc(2048, pae=True, mem=1500 * MIB), "192M", "256M", 807, 256),
    ],
)
def test_highmem_of_booted_kernels(
    machine: Machine, vmalloc: str | None, size: str, low: int, high: int
) -> None:
    there = layout_of(target_machine(machine, None, highmem_size=size, vmalloc=vmalloc))
    page = there.page_size
    assert there.lowmem_end_pfn * page // MIB == low
    assert (there.max_pfn - there.lowmem_end_pfn) * page // MIB == high


@pytest.mark.parametrize(
    ("machine", "size", "why"),
    [  # the kernel says so and goes on without it: 511/0 and 875/1171 MiB were observed
        (pc(512, pae=False), "480M", "less than 64 MiB of lowmem"),
        (pc(2048, pae=False), "2G", "larger than the RAM above lowmem"),
        (pc(512, pae=False), "512M", "as large as all RAM"),
        (with_options(pc(512, pae=False), highmem=False), "64M", "built without HIGHMEM"),
    ],
)
def test_a_size_that_the_kernel_ignores_is_refused(machine: Machine, size: str, why: str) -> None:
    with pytest.raises(HmtraceError, match=why) as raised:
        target_machine(machine, None, highmem_size=size)
    assert raised.value.exit_code == 2


def test_highmem_of_a_command_line_can_be_left_out() -> None:
    captured, _ = machine_from(
        Snapshot(arch="i386", pae=True, highmem_opt=128 * MIB, ram=pc(512, pae=True).ram)
    )
    assert layout_of(captured).highmem_bytes == 128 * MIB
    assert not layout_of(target_machine(captured, None, highmem_size="none")).highmem_bytes
    assert with_options(captured, highmem_size=UNSET).highmem is None
    kept = with_options(captured, ram=1 << 29, cpus=1)
    assert layout_of(kept).highmem_bytes == 128 * MIB


def test_other_architectures_have_no_such_option() -> None:
    with pytest.raises(HmtraceError, match="no option of arm"):
        target_machine(default_machine("arm", None), None, highmem_size="64M")
    arm, _ = machine_from(Snapshot(arch="arm", highmem_opt=64 * MIB))
    assert arm.highmem is None


def test_a_machine_is_another_where_its_page_tables_or_calls_are() -> None:
    assert is_alike(I386, with_options(I386, highmem_size=UNSET))
    assert not is_alike(I386, with_options(I386, highpte=False))
    assert not is_alike(I386, with_options(I386, convert=ALL))


def test_a_machine_file_may_convert(tmp_path: Path) -> None:
    file = tmp_path / "converted.toml"
    file.write_text('converted = ["kmap=kmap_local@f"]\n')
    assert target_machine(I386, file) == with_options(I386, convert=["kmap=kmap_local@f"])
    for wrong in ('["kmap=vmap"]', '"kmap=kmap_local"', "[1]"):
        file.write_text(f"converted = {wrong}\n")
        with pytest.raises(HmtraceError) as raised:
            target_machine(I386, file)
        assert raised.value.exit_code == 2


def test_as_axes_of_a_sweep() -> None:
    asked = ["highmem-size=none,64M..256M*2", "highpte=yes,no", "convert=none,kmap=kmap_local@f"]
    size, table, convert = parse_axes(asked)
    assert convert.values == ((), ("kmap=kmap_local@f",))
    assert size.words == ("none", "64M", "128M", "256M")
    assert size.values == ("none", 64 * MIB, 128 * MIB, 256 * MIB)
    assert table.values == (True, False)
    with pytest.raises(HmtraceError, match="never ends"):
        parse_axes(["highmem-size=0..256M*2"])
    with pytest.raises(HmtraceError, match="begin and end with a size"):
        parse_axes(["highmem-size=none..256M*2"])
    machine = target_machine(pc(2048, pae=True), None, highmem_size=size.values[1])
    assert machine.highmem == 64 * MIB
