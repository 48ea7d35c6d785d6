"""Architectures other than i386 and ARM: numbers worked out by hand from the kernel's headers.

Where a booted kernel has printed its layout, that is the judge.
"""

from dataclasses import replace

import pytest

from collectors.errors import HmtraceError
from collectors.facts import read_facts
from collectors.snapshot import Snapshot
from hmtrace.cli.machines import default_machine, target_machine
from replay.machine.arches import ARCHES
from replay.machine.arches.x86_64 import fix_kmap_begin
from replay.machine.from_facts import machine_from
from replay.machine.generations import generation_for
from replay.machine.layout import is_high, layout_of, local_address
from replay.machine.model import Machine
from replay.machine.options import with_options

MiB = 1 << 20
GiB = 1 << 30


def laid_out(arch, **changes):
    base = {
        "arch": arch,
        "split": ARCHES[arch].default_split,
        "page_size": ARCHES[arch].page_sizes[0],
        "nr_cpus": ARCHES[arch].default_nr_cpus,
        "page_struct": ARCHES[arch].default_page_struct,
        "ram": ((0, GiB),),
    }
    return layout_of(Machine(**{**base, **changes}))


@pytest.mark.parametrize(
    ("nr_cpus", "ram", "wide", "fixmap", "pool", "arena"),
    [
        # boot log of an e500 in QEMU, corenet32 (NR_CPUS 24), 256 MiB: "0xffa5f000..0xfffff000 :
        # fixmap", "0xff800000..0xffa00000 : highmem PTEs", "0xd1000000..0xff800000 : vmalloc"
        (24, 256 * MiB, True, 0xFFA5F000, (0xFF800000, 0xFFA00000), (0xD1000000, 0xFF800000)),
        # boot log of a PowerMac with one CPU, 1 GiB: "0xffbcf000..0xfffff000 : fixmap",
        # "0xff400000..0xff800000 : highmem PTEs", vmalloc from 0xf1000000, 262144K highmem
        (1, GiB, False, 0xFFBCF000, (0xFF400000, 0xFF800000), (0xF1000000, 0xFF400000)),
        # boot log of a PowerMac with 512 MiB: "0xffbbf000..0xfffff000 : fixmap",
        # "0xff400000..0xff800000 : highmem PTEs", vmalloc from 0xe1000000
        (2, 512 * MiB, False, 0xFFBBF000, (0xFF400000, 0xFF800000), (0xE1000000, 0xFF400000)),
    ],
)
def test_powerpc_as_booted_kernels_print_it(nr_cpus, ram, wide, fixmap, pool, arena):
    layout = laid_out("powerpc32", nr_cpus=nr_cpus, ram=((0, ram),), pae=wide)
    assert layout.fixaddr_start == fixmap
    assert (layout.pkmap_base, layout.pkmap_end) == pool
    assert (layout.vmalloc_start, layout.vmalloc_end) == arena
    assert layout.highmem_bytes == max(0, ram - 768 * MiB)


@pytest.mark.parametrize(
    ("release", "nr_cpus", "fixmap", "slots"),
    # boot logs of 3.12 (UP), 3.2 (NR_CPUS 4), and of 5.x with early ioremap()
    [("3.12.0", 1, 0xFFFCF000, 16), ("3.2.0", 4, 0xFFF9F000, 16), ("5.6.0", 1, 0xFFBCF000, 16)],
)
def test_powerpc_before_and_after_early_ioremap(release, nr_cpus, fixmap, slots):
    ram = ((0, 1152 * MiB),)
    generation = generation_for(release)
    layout = laid_out("powerpc32", nr_cpus=nr_cpus, ram=ram, generation=generation)
    assert (layout.fixaddr_start, layout.km_max_idx) == (fixmap, slots)
    assert layout.pkmap_base == (0xFF400000 if fixmap == 0xFFBCF000 else 0xFF800000)


def test_powerpc_with_a_page_offset_of_its_own():
    told = Snapshot(
        arch="powerpc32", page_offset=0xA000_0000, lowmem_limit=GiB, ram=((0, 2 * GiB),)
    )
    machine, assumed = machine_from(told)
    layout = layout_of(machine)
    assert (layout.page_offset, layout.high_memory) == (0xA000_0000, 0xE000_0000)
    assert not any("split" in words for words in assumed)
    usual = machine_from(Snapshot(arch="powerpc32", page_offset=0xC000_0000))[0]
    assert (usual.split, usual.page_offset) == ("3g", None)
    assert (
        layout_of(with_options(replace(machine, lowmem_limit=None), split="2g")).page_offset
        == 2 * GiB
    )


def test_powerpc_pages_of_16k_have_512_slots():
    # one entry for 0-7: early debugging takes 128 KiB / 16 KiB = 8; 4 CPUs * 16; boot maps 16 * 16
    layout = laid_out("powerpc32", page_size=16 << 10)
    page = 16 << 10
    assert layout.pkmap_slots == 512
    assert layout.kmap_fix_top == (1 << 32) - page - 8 * page
    assert layout.fixaddr_start == (1 << 32) - page - (8 + 64 + 256) * page
    assert layout.pkmap_base == layout.fixaddr_start - 513 * page


def test_powerpc_with_more_lowmem():
    layout = laid_out("powerpc32", split="2g", ram=((0, 2 * GiB),))
    assert layout.lowmem_bytes == 0xF000_0000 - 0x8000_0000
    with pytest.raises(HmtraceError, match="reach above 0xf0000000"):
        laid_out("powerpc32", lowmem_limit=GiB)


def test_arc_hsdk():
    layout = laid_out("arc", ram=((2 * GiB, 3 * GiB), (4 * GiB, 5 * GiB)), pae=True)
    # page directory entries of 2 MiB with 8 KiB pages
    assert (layout.pkmap_base, layout.pkmap_slots) == (0x7FE00000, 256)
    # FIXMAP_BASE = 2 GiB - 4 MiB; 64 slots, the first at its top
    assert local_address(layout, 0, 0) == 0x7FC00000 + 63 * 8192
    assert local_address(layout, 3, 15) == 0x7FC00000
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0x70000000, 0x7F800000)
    assert (layout.lowmem_bytes, layout.highmem_bytes) == (GiB, GiB)
    assert layout.user_end == 0x60000000
    assert layout.mem_map_bytes == 2 * (GiB >> 13) * 36  # the hole between the banks is given back


def test_arc_without_pae_has_its_highmem_below_lowmem():
    layout = laid_out("arc", ram=((0, 512 * MiB), (2 * GiB, 3 * GiB)))
    assert [zone.name for zone in layout.zones] == ["HighMem", "Normal"]
    assert is_high(layout, 0)
    assert is_high(layout, (512 * MiB >> 13) - 1)
    assert not is_high(layout, 2 * GiB >> 13)
    assert layout.highmem_bytes == 512 * MiB


def test_arc_page_sizes():
    ram = ((2 * GiB, 3 * GiB),)
    assert laid_out("arc", ram=ram, page_size=4096).pkmap_slots == 1024
    assert laid_out("arc", ram=ram, page_size=16384).pkmap_slots == 128
    with pytest.raises(HmtraceError, match="do not fit"):
        laid_out("arc", ram=ram, nr_cpus=64)
    with pytest.raises(HmtraceError, match="where the direct mapping starts"):
        laid_out("arc", ram=((0, GiB),))
    with pytest.raises(HmtraceError, match="1 GiB directly"):
        laid_out("arc", ram=((2 * GiB, 4 * GiB - 4096),))


def test_csky():
    layout = laid_out("csky", ram=((0, 2 * GiB),))
    assert (layout.pkmap_base, layout.pkmap_slots) == (0xFF800000, 1024)
    assert local_address(layout, 1, 0) == 0xFFFFC000 - 16 * 4096
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xC0008000, 0xFF7FE000)
    assert (layout.lowmem_bytes, layout.highmem_bytes) == (GiB, GiB)
    assert layout.kmap_flush_each
    # between one and two segments of 512 MiB only one is lowmem
    assert laid_out("csky", ram=((0, 768 * MiB),)).lowmem_bytes == 512 * MiB
    assert laid_out("csky", ram=((0, 512 * MiB),)).highmem_bytes == 0
    layout = laid_out("csky", split="2.5g", ram=((0x1000_0000, 0x5000_0000),))
    assert layout.phys_offset == 0
    assert layout.lowmem_end_pfn == 0x4000_0000 >> 12
    tcm = laid_out("csky", config=frozenset({"CSKY", "HAVE_TCM"}))
    assert local_address(tcm, 0, 0) == 0xFFFFC000 - 33 * 4096


def test_microblaze():
    layout = laid_out("microblaze", ram=((0x8000_0000, 0xC000_0000),))
    # slots 1 to 16 below 0xfffff000, the pool one page table further down
    assert local_address(layout, 0, 0) == 0xFFFFE000
    assert layout.fixaddr_start == 0xFFFEE000
    assert (layout.pkmap_base, layout.pkmap_slots) == (0xFF800000, 1024)
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xF0000000, 0xFF800000)
    assert (layout.lowmem_bytes, layout.highmem_bytes) == (768 * MiB, 256 * MiB)
    assert not layout.range_flush


def test_microblaze_elsewhere():
    """CONFIG_KERNEL_START, as Analog Devices' boards have it."""
    layout = laid_out("microblaze", page_offset=0x8000_0000, ram=((0x8000_0000, 0xFFFF_F000),))
    assert (layout.page_offset, layout.user_end) == (0x8000_0000, 0x8000_0000)
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xB0000000, 0xFF800000)


def test_mips_mt7621():
    layout = laid_out("mips32", ram=((0, 0x1C00_0000), (0x2000_0000, 0x2400_0000)))
    # 17 pages of cache maps, 4 CPUs * 16 slots: FIXADDR_START = 0xfffe0000 - 81 * 4096
    assert layout.fixaddr_start == 0xFFF8F000
    assert local_address(layout, 0, 0) == 0xFFFE0000 - 17 * 4096
    assert (layout.pkmap_base, layout.pkmap_slots) == (0xFF800000, 1024)
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xC0000000, 0xFF7FE000)
    assert layout.lowmem_end_pfn == 0x20000  # the hole below it counts as lowmem
    assert layout.highmem_bytes == 64 * MiB
    assert layout.kmap_flush_each


def test_mips_zone_of_isa_dma():
    """A Malta board: CONFIG_ZONE_DMA keeps the first 16 MiB apart, as /proc/zoneinfo says."""
    ram = ((0, 0x1000_0000), (0x9000_0000, 0xC000_0000))
    board = laid_out("mips32", ram=ram, config=frozenset({"MIPS", "HIGHMEM", "ZONE_DMA"}))
    zones = [(zone.name, zone.start_pfn, zone.end_pfn) for zone in board.zones]
    assert zones == [("DMA", 0, 4096), ("Normal", 4096, 131072), ("HighMem", 131072, 786432)]
    indy = laid_out("mips32", ram=ram, config=frozenset({"MIPS", "ZONE_DMA", "SGI_IP22"}))
    assert [zone.name for zone in indy.zones] == ["Normal", "HighMem"]


def test_mips_with_a_hole_below_the_border_between_5_4_and_6_7():
    """0f5cc249ff73: whose border depends on the stable release, unless a file tells it."""
    ram = ((0, 0x1000_0000), (0x9000_0000, 0xC000_0000))
    doubtful = laid_out("mips32", ram=ram, generation="6.1")
    assert "may end at 0x10000000 already" in doubtful.notes[0]
    assert not laid_out("mips32", ram=ram, generation="6.12").notes
    zones = (("Normal", 0, 0x20000), ("HighMem", 0x20000, 0xC0000))
    told = Snapshot(
        arch="mips32", release="6.1.0", ram=ram, zone_ranges=zones, lowmem_end_pfn=0x20000
    )
    machine, assumed = machine_from(told)
    assert not layout_of(machine).notes
    assert not any("may end" in words for words in assumed)
    untold = machine_from(replace(told, zone_ranges=(), lowmem_end_pfn=None))[1]
    assert any("may end" in words for words in untold)


def test_a_mips_range_is_flushed_whole_above_what_its_tlb_has():
    """cpuinfo's tlb_entries: half of a plain TLB, an eighth with an FTLB; an entry is two pages."""
    cpuinfo = b"system type\t\t: MIPS Malta\ncpu model\t\t: MIPS 24Kc V0.0\ntlb_entries\t\t: 16\n"
    snapshot = read_facts({"cpuinfo": cpuinfo}).snapshot()
    assert snapshot.tlb_entries == 16
    machine, _ = machine_from(replace(snapshot, arch="mips32"))
    assert layout_of(machine).flush_ceiling_pages == 16
    for entries, pages in ((None, 32), (32, 32), (64, 64), (576, 144)):
        assert laid_out("mips32", tlb_entries=entries).flush_ceiling_pages == pages
    assert "tlb_entries means nothing on arm" in laid_out("arm", tlb_entries=16).notes


def test_mips_variants():
    wide = laid_out("mips32", pae=True, ram=((0, 6 * GiB),))
    assert (wide.pkmap_slots, wide.pkmap_base) == (512, 0xFFC00000)
    assert wide.highmem_bytes == 6 * GiB - 512 * MiB
    broadcom = laid_out("mips32", config=frozenset({"MIPS", "BMIPS_GENERIC"}))
    assert local_address(broadcom, 0, 0) == 0xFF000000 - 17 * 4096
    pages = laid_out("mips32", page_size=16 << 10)
    # FIXADDR_START = 0xfffe0000 - 81 * 16 KiB = 0xffe9c000; the pool is 16 MiB, on its own size
    assert (pages.pkmap_base, pages.pkmap_end) == (0xFE000000, 0xFF000000)
    aliases = laid_out("mips32", cache_colours=2)
    assert aliases.highmem_bytes == 0
    assert "aliases" in aliases.notes[0]


def test_sparc():
    layout = laid_out("sparc32", ram=((0x4000_0000, 0x8000_0000),))
    assert (layout.pkmap_base, layout.pkmap_end) == (0xFC500000, 0xFC900000)
    assert local_address(layout, 0, 0) == 0xFCFFE000
    assert layout.kmap_fix_bottom == 0xFCFFF000 - 512 * 4096
    assert (layout.vmalloc_start, layout.vmalloc_end) == (0xFE600000, 0xFFC00000)
    assert (layout.lowmem_bytes, layout.highmem_bytes) == (192 * MiB, 832 * MiB)
    assert layout.local_flush_all
    assert layout.flush_ceiling_pages == 0
    banks = ((0, 64 * MiB), (128 * MiB, 160 * MiB), (256 * MiB, 320 * MiB))
    assert laid_out("sparc32", ram=banks).lowmem_end_pfn == 160 * MiB >> 12


def test_more_lowmem_than_the_architecture_has_is_hypothetical():
    sparc = laid_out("sparc32", ram=((GiB, 2 * GiB),), lowmem_limit=512 * MiB)
    assert (sparc.page_offset, sparc.high_memory) == (0xDC00_0000, 0xFC00_0000)
    assert (sparc.lowmem_bytes, sparc.highmem_bytes) == (512 * MiB, 512 * MiB)
    assert "hypothetical" in sparc.notes[0]
    mips = laid_out("mips32", ram=((0, 2 * GiB),), lowmem_limit=GiB)
    assert (mips.page_offset, mips.lowmem_bytes) == (0x8000_0000, GiB)
    assert "hypothetical" in mips.notes[0]
    assert (
        laid_out("mips32", ram=((0, 4 * GiB),), lowmem_limit=1536 * MiB).page_offset == 0x6000_0000
    )
    for name in ("sparc32", "mips32"):
        with pytest.raises(HmtraceError, match="no addresses for user space"):
            laid_out(name, ram=((0, 4 * GiB),), lowmem_limit=4 * GiB)
    plain = laid_out("i386", lowmem_limit=GiB)
    assert plain.notes == ("lowmem_limit means nothing on i386",)


def test_leon_with_more_than_4_gib():
    layout = laid_out("sparc32", ram=((0, 16 * GiB),))
    assert layout.highmem_bytes == 16 * GiB - 192 * MiB
    assert "hypothetical" in layout.notes[0]


def test_options_that_are_not_modelled_are_said():
    for name in ("powerpc32", "xtensa"):
        config = ARCHES[name].default_config | {"KASAN", "SPARSEMEM"}
        notes = " ".join(laid_out(name, config=config).notes)
        assert "CONFIG_KASAN is not modelled" in notes
        assert "CONFIG_SPARSEMEM is not modelled" in notes


def test_xtensa():
    layout = laid_out("xtensa", ram=((0, 0x3800_0000),))
    # FIXADDR_END = 0xcffff000; 16 pages rounded down to 4 MiB; the pool below, likewise
    assert local_address(layout, 0, 0) == 0xCFC0F000
    assert (layout.pkmap_base, layout.pkmap_end) == (0xCF400000, 0xCF800000)
    assert layout.vmalloc_start == 0xC0000000
    assert (layout.lowmem_bytes, layout.highmem_bytes) == (128 * MiB, 768 * MiB)
    assert laid_out("xtensa", split="512m").page_offset == 0xA0000000


def test_xtensa_colours():
    layout = laid_out("xtensa", cache_colours=4, nr_cpus=2)
    assert (layout.pkmap_slots, layout.pkmap_colours) == (4096, 4)
    assert layout.pkmap_end - layout.pkmap_base == 16 * MiB
    # 2 CPUs * 16 * 4 pages; arch/xtensa/mm/highmem.c: kmap_idx turns colours around
    top = 0xCFC00000 + 127 * 4096
    assert layout.kmap_fix_top == top
    assert local_address(layout, 0, 0, colour=3) == top
    assert local_address(layout, 0, 0, colour=0) == top - 3 * 4096
    assert local_address(layout, 1, 0, colour=3) == top - 64 * 4096
    for colour in range(4):  # an address has the colour of its page
        assert local_address(layout, 1, 5, colour) >> 12 & 3 == colour
    assert layout.kmap_fix_bottom == 0xCFC00000
    with pytest.raises(HmtraceError, match="does not fit"):
        laid_out("xtensa", cache_colours=32)


def test_x86_64_force_map():
    layout = laid_out("x86_64")
    assert fix_kmap_begin(ARCHES["x86_64"].default_config) == 512 + 3 + 128
    # with guards: the first mapping is in slot 1
    assert local_address(layout, 0, 0) == 0xFFFFFFFFFF7FF000 - (643 + 1) * 4096
    assert local_address(layout, 1, 0) == 0xFFFFFFFFFF7FF000 - (643 + 33 + 1) * 4096
    assert layout.kmap_force_map
    assert layout.pkmap_slots == 0
    assert layout.highmem_bytes == 0
    assert layout.km_usable_depth == 16


def test_debug_kmap_local_doubles_the_stack_everywhere():
    for name, arch in ARCHES.items():
        ram = arch.ram_for(GiB, (), False)  # noqa: FBT003
        plain = laid_out(name, ram=ram, nr_cpus=1, config=arch.default_config)
        debug = arch.default_config | {"DEBUG_KMAP_LOCAL"}
        guarded = laid_out(name, ram=ram, nr_cpus=1, config=debug)
        assert (guarded.km_max_idx, guarded.km_step) == (33, 2)
        if name != "x86_64":
            assert (plain.km_max_idx, plain.km_step) == (16, 1)
            moved = plain.kmap_fix_top - local_address(plain, 0, 0)
            assert moved == 0
            top = guarded.kmap_fix_top
            assert local_address(guarded, 0, 0) == top - guarded.page_size


@pytest.mark.parametrize("name", sorted(ARCHES))
def test_impossible_combinations_have_a_hint(name):
    machine = default_machine(name, None)
    wrong = [{"split": "5g"}, {"page_size": "512K"}, {"ram": "4M"}, {"cpus": 100_000}]
    if not ARCHES[name].arena_option:
        wrong.append({"vmalloc": "256M"})
    if not ARCHES[name].pae_name:
        wrong.append({"pae": True})
    for options in wrong:
        with pytest.raises(HmtraceError) as caught:
            target_machine(machine, None, **options)
        assert caught.value.exit_code == 2
        assert caught.value.hint or "page_size" in options
