"""What holds of every layout, whatever the machine."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.errors import HmtraceError
from replay.machine.arches import ARCHES
from replay.machine.generations import GENERATIONS
from replay.machine.layout import direct_address, is_high, layout_of, local_address, pool_address
from replay.machine.model import Machine

MiB = 1 << 20
SIZES = st.integers(1, 4096).map(lambda n: n * MiB)
SWITCHES = ["DEBUG_KMAP_LOCAL", "DEBUG_HIGHMEM", "INTEL_TXT", "PROVIDE_OHCI1394_DMA_INIT"]


@st.composite
def machines(draw):
    arch = ARCHES[draw(st.sampled_from(sorted(ARCHES)))]
    pae = draw(st.booleans())
    pae = pae and bool(arch.pae_splits)
    splits = sorted(arch.pae_splits) if pae else sorted(arch.splits)
    bases = {"arm": [0, 0x4000_0000], "arc": [0x8000_0000], "csky": [0, 0x1000_0000]}
    base = draw(st.sampled_from(bases.get(arch.name, [0])))
    extra = draw(st.frozensets(st.sampled_from(SWITCHES)))
    debug = bool(extra & {"DEBUG_KMAP_LOCAL", "DEBUG_HIGHMEM"})
    most = 16 if arch.name == "arm" and debug else arch.max_nr_cpus
    nr_cpus = draw(st.integers(1, most))
    return Machine(
        arch=arch.name,
        pae=pae,
        split=draw(st.sampled_from(splits)),
        ram=((base, base + draw(SIZES)),),
        nr_cpus=nr_cpus,
        cpus=draw(st.integers(1, nr_cpus)),
        vmalloc=draw(st.none() | SIZES),
        highmem=draw(st.none() | SIZES),
        reservetop=draw(st.none() | st.integers(1, 64).map(lambda n: n * MiB)),
        generation=draw(st.sampled_from(sorted(GENERATIONS))),
        config=arch.default_config | extra,
        highmem_enabled=draw(st.booleans()),
        pkmap_slots=draw(st.none() | st.sampled_from([1, 64, 512, 1024, 4096])),
        page_size=draw(st.sampled_from(arch.page_sizes)),
        cache_colours=draw(st.sampled_from([1, 1, 2, 8])) if arch.name == "xtensa" else 1,
    )


@settings(max_examples=300)
@given(machines())
def test_every_layout(machine):
    try:
        layout = layout_of(machine)
    except HmtraceError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.exit_code == 2
        assert refused.hint
        return
    assert layout.regions[0].start == 0
    assert layout.regions[-1].end == 1 << (64 if machine.arch == "x86_64" else 32)
    for before, after in pairwise(layout.regions):
        assert before.end == after.start
        assert before.start < before.end
    for before, after in pairwise(layout.zones):
        assert before.end_pfn == after.start_pfn
    assert layout.user_end <= layout.page_offset < layout.high_memory
    assert layout.vmalloc_start < layout.vmalloc_end
    if machine.arch in ("i386", "arm"):
        assert layout.high_memory < layout.vmalloc_start
    assert direct_address(layout, layout.lowmem_end_pfn) <= layout.high_memory
    assert is_high(layout, layout.lowmem_end_pfn) == (layout.highmem_bytes > 0)
    assert is_high(layout, layout.lowmem_end_pfn - 1) is False
    if machine.highmem_enabled and ARCHES[machine.arch].has_highmem:
        top = layout.kmap_fix_bottom + layout.page_size * (
            layout.km_max_idx * machine.nr_cpus * layout.pkmap_colours - 1
        )
        assert layout.kmap_fix_top in (layout.kmap_fix_bottom, top)
        assert layout.fixaddr_start <= layout.kmap_fix_bottom <= top <= layout.fixaddr_top
        last = local_address(layout, machine.nr_cpus - 1, layout.km_usable_depth - 1)
        first = local_address(layout, 0, 0, layout.pkmap_colours - 1)
        assert (last >= first) if layout.kmap_upwards else (last <= first)
        assert layout.kmap_fix_bottom <= min(first, last) <= max(first, last) <= top
        assert layout.pkmap_slots == machine.pkmap_slots or machine.pkmap_slots is None
        assert pool_address(layout, layout.pkmap_slots) == layout.pkmap_end
    else:
        assert layout.highmem_bytes == 0
