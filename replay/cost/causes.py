"""What time goes to: the names of costs in outcomes, documents and reports."""

from __future__ import annotations

from typing import Final


class Cause:
    """A name of each; the work behind it is counted in :mod:`replay.cost.account`."""

    KMAP: Final = "kmap"
    EVERY_KMAP: Final = "flush at every kmap"
    """csky, mips."""
    KUNMAP: Final = "kunmap"
    WRAP: Final = "pool flush (wrap)"
    UNUSED: Final = "pool flush (kmap_flush_unused)"
    SLEEPS: Final = "kmap sleeps"
    LOCAL: Final = "kmap_local"
    LOCAL_UNMAP: Final = "kunmap_local"
    LOWMEM: Final = "kmap_local of lowmem"
    SWITCHES: Final = "kmap_local over switches"
    AREAS: Final = "vmap and vmalloc"
    PURGE: Final = "lazy purge flush"
    RANGE: Final = "other range flush"
    FULL: Final = "flush_tlb_all"
