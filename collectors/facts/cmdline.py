"""The kernel's command line: cmdline, and the copy of it in dmesg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.facts.numbers import decimal, memparse

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

SIZES: Final[dict[str, FactName]] = {
    "vmalloc": "vmalloc",
    "highmem": "highmem_opt",
    "mem": "mem_opt",
    "reservetop": "reservetop",
}
"""Parameters with a size in bytes that move the lowmem border, and the facts they become.

arch/x86/mm/pgtable_32.c: parse_vmalloc, parse_reservetop; arch/x86/mm/init_32.c: parse_highmem;
arch/x86/kernel/e820.c: parse_memopt; arch/arm/mm/mmu.c: early_vmalloc;
arch/arm/kernel/setup.c: early_mem.
"""


def parse(text: str, sheet: Sheet) -> None:
    """Write down the command line and the parameters that move addresses.

    Facts: cmdline, vmalloc, highmem_opt, mem_opt, reservetop, maxcpus, nokaslr. Of a parameter
    that occurs twice the last one counts, as in the kernel. ``mem=SIZE@START`` (ARM) and
    ``mem=nopentium`` give no fact but a note.
    """
    line = text.strip().split("\n", 1)[0].replace("\0", " ").strip()
    if not line:
        sheet.note("empty")
        return
    sheet.add("cmdline", line, line=1)
    found: dict[FactName, tuple[int, str]] = {}
    for word in line.split():
        if word == "--":  # what follows is for init
            break
        key, equals, value = word.partition("=")
        name = SIZES.get(key)
        if key == "nokaslr":
            sheet.add("nokaslr", True, line=1, detail=word)  # noqa: FBT003
        elif key in ("maxcpus", "nr_cpus") and (number := decimal(value)) is not None:
            sheet.add("cpus_opt", number, line=1, detail=word)
        elif name is not None and equals:
            size = memparse(value)
            if size is None or "@" in value:
                sheet.note(f"{word[:60]!r} is not understood and ignored")
            else:
                found[name] = (size, word)
    for name, (size, word) in found.items():
        sheet.add(name, size, line=1, detail=word)
