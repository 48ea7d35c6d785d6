"""The figures that two runs are compared by, and what each of them rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.cost.causes import Cause
from replay.rules.evidence import ARENA, FLUSHES, LOCAL, POOL, SWITCHES
from replay.rules.recorded import LOWMEM, PURGES

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNT: Final = "count"
"""Adds up over a run: it is compared per unit of work."""
LEVEL: Final = "level"
"""The most, least or last of a run: compared as it is."""
TIME: Final = "time"
"""Nanoseconds of the trace's clock."""


class KnownFigure(NamedTuple):
    """A figure of a run.

    Attributes
    ----------
    value
        None: not known.
    sense
        ``least``, ``most``, ``about``: what it holds as; None: as it stands.
    why
        Why it is not known, or holds in that sense only; empty: it does.
    """

    value: float | None
    sense: str | None = None
    why: str = ""


class ComparedFigure(NamedTuple):
    """A figure.

    Attributes
    ----------
    paths
        Where a document has it; several are added up.
    kind
        :data:`COUNT`, :data:`LEVEL` or :data:`TIME`.
    need
        Evidence without which nothing counted does not mean that there was nothing.
    of_pages
        It is not known where the trace has no pages.
    is_modelled
        The model makes it of calls: where some are missing it may be more or less.
    bound
        As of :class:`replay.whatif.figures.Figure`.
    of_arena
        As there.
    causes
        What it costs is by these causes (:mod:`replay.cost.account`).
    bunch
        Where a document has how many of it there are, for one event that may or may not happen:
        the figure over this; None: it is counted one by one.
    largest
        Where a document has the most of it that one event brings: of uneven bunches the largest
        tells how far a sum may be off by chance.
    follows
        It follows from another one of this name, mostly.
    once_per
        Where the pool is flushed by its wraps alone: it comes once for as many of the figure of
        this name as the pool has slots, not by chance.
    row
        Its name in :data:`replay.whatif.figures.FIGURES`; empty: a sweep's rows do not have it.
    """

    paths: tuple[tuple[str, str], ...]
    kind: str = COUNT
    need: str = ""
    of_pages: bool = False
    is_modelled: bool = False
    bound: str = ""
    of_arena: bool = False
    causes: tuple[str, ...] = ()
    bunch: tuple[tuple[str, str], ...] | None = None
    largest: tuple[str, str] | None = None
    follows: str = ""
    once_per: str = ""
    row: str = ""


def _of(*names: str) -> tuple[tuple[str, str], ...]:
    pairs = (name.split(".") for name in names)
    return tuple((part, key) for part, key in pairs)


COMPARED: Final[Mapping[str, ComparedFigure]] = {
    "kmap": ComparedFigure(
        _of("pool.maps"), need=POOL, bound="up", row="kmap",
        causes=(Cause.KMAP, Cause.KUNMAP, Cause.EVERY_KMAP),
    ),
    "new_mappings": ComparedFigure(
        _of("pool.new_mappings"), need=POOL, of_pages=True, is_modelled=True, bound="up",
        row="new_mappings",
    ),
    "pool_flushes": ComparedFigure(
        _of("pool.flushes"), need=POOL, of_pages=True, is_modelled=True, bound="up",
        causes=(Cause.WRAP, Cause.UNUSED), row="pool_flushes",
        once_per="new_mappings",
    ),
    "waits": ComparedFigure(
        _of("pool.waits"), need=POOL, of_pages=True, is_modelled=True, bound="up",
        causes=(Cause.SLEEPS,), row="waits",
    ),
    "local": ComparedFigure(
        _of("local.maps"), need=LOCAL, bound="up", causes=(Cause.LOCAL, Cause.LOCAL_UNMAP),
        row="local",
    ),
    "local_lowmem": ComparedFigure(
        _of("local.lowmem"), need=LOWMEM, bound="down", causes=(Cause.LOWMEM,),
        row="local_lowmem",
    ),
    "local_saved": ComparedFigure(
        _of("local.mappings_saved"), need=SWITCHES, bound="up",
        causes=(Cause.SWITCHES,), bunch=_of("local.saved_on_switch"),
        row="local_saved",
    ),
    "requests": ComparedFigure(
        _of("arena.allocs", "arena.failures"), need=ARENA, causes=(Cause.AREAS,),
    ),
    "failures": ComparedFigure(_of("arena.failures"), need=ARENA, of_arena=True, row="failures"),
    "purges": ComparedFigure(
        _of("arena.lazy_purges"), need=PURGES, of_arena=True, causes=(Cause.PURGE,),
        row="purges",
    ),
    "tlb_full": ComparedFigure(
        _of("tlb.full"), need=FLUSHES, is_modelled=True, bound="up", of_arena=True,
        causes=(Cause.FULL,), row="tlb_full",
        once_per="new_mappings",
    ),
    "tlb_ranged": ComparedFigure(
        _of("tlb.range"), need=FLUSHES, is_modelled=True, bound="up", of_arena=True,
        causes=(Cause.RANGE,), row="tlb_ranged",
        once_per="new_mappings",
    ),
    "flushed_pages": ComparedFigure(
        _of("tlb.range_pages"), need=FLUSHES, is_modelled=True, bound="up", of_arena=True,
        bunch=_of("tlb.range"), largest=("tlb", "range_pages_max"), follows="tlb_ranged",
    ),
    "ipis": ComparedFigure(
        _of("tlb.ipis"), need=FLUSHES, is_modelled=True, bound="up", of_arena=True,
        bunch=_of("tlb.full", "tlb.range"), row="ipis",
        once_per="new_mappings",
    ),
    "tlb_single": ComparedFigure(
        _of("tlb.single"), need=LOCAL, is_modelled=True, bound="up", bunch=_of("local.maps"),
        follows="local", row="tlb_single",
    ),
    "pool_used": ComparedFigure(
        _of("pool.max_used"), LEVEL, POOL, of_pages=True, is_modelled=True, bound="up",
        row="pool_used",
    ),
    "still_used": ComparedFigure(
        _of("pool.still_used"), LEVEL, POOL, of_pages=True, is_modelled=True, bound="about",
    ),
    "asleep": ComparedFigure(
        _of("pool.asleep"), LEVEL, POOL, is_modelled=True, bound="up", row="asleep"
    ),
    "local_depth": ComparedFigure(
        _of("local.max_depth"), LEVEL, LOCAL, is_modelled=True, bound="up", row="local_depth"
    ),
    "arena_live": ComparedFigure(
        _of("arena.peak_live"), LEVEL, ARENA, is_modelled=True, of_arena=True, row="arena_live"
    ),
    "largest_hole": ComparedFigure(
        _of("arena.largest_hole_min"), LEVEL, ARENA, is_modelled=True, of_arena=True,
        row="largest_hole",
    ),
    "wait_ns": ComparedFigure(
        _of("pool.wait_ns"), TIME, POOL, of_pages=True, is_modelled=True, bound="up",
        row="wait_ns",
    ),
    "longest_wait_ns": ComparedFigure(
        _of("pool.longest_wait_ns"), TIME, POOL, of_pages=True, is_modelled=True, bound="about"
    ),
    "longest_hold_ns": ComparedFigure(
        _of("local.longest_hold_ns"), TIME, LOCAL, is_modelled=True, bound="about"
    ),
}  # fmt: skip
"""By name: calls and flushes first, extremes behind them, times last."""

OF_RANGES: Final = (Cause.PURGE, Cause.RANGE)
"""Causes that cost by the pages that they invalidate: bunches as uneven as ``flushed_pages``."""
OF_SITES: Final[Mapping[str, tuple[str, ...]]] = {
    "kmap": (Cause.KMAP, Cause.EVERY_KMAP, Cause.KUNMAP, Cause.WRAP, Cause.SLEEPS),
    "kmap_local": (Cause.LOCAL, Cause.LOCAL_UNMAP, Cause.LOWMEM, Cause.SWITCHES),
    "vmap": (Cause.AREAS, Cause.PURGE),
    "vm_map_ram": (Cause.AREAS, Cause.PURGE),
    "vmalloc": (Cause.AREAS, Cause.PURGE),
}
"""Causes whose cost is shared out to the call sites of an operation."""
