"""How lowmem fared: the numbers that every report shows, as those of :mod:`replay.outcome`."""

from __future__ import annotations

from collectors.records import dataclass


@dataclass(frozen=True)
class ZoneOutcome:
    """A zone when the capture began, in bytes.

    `min`, `low` and `high` are its watermarks: below `low` kswapd is woken and the next lower zone
    tried, up to `high` it reclaims, below `min` the requests themselves do; 0: not known.
    `reserve` is what is kept besides from requests that could have had highmem. `cma` of `free` is
    for CMA, which no request of the kernel itself gets. `free_end` was free, without CMA's, when
    the capture ended; None: not known.
    """

    name: str
    managed: int
    free: int
    low: int
    reserve: int
    min: int = 0
    high: int = 0
    cma: int = 0
    free_end: int | None = None

    @property
    def usable(self) -> int:
        """Free bytes that a request of the kernel itself can have."""
        return self.free - self.cma


@dataclass(frozen=True)
class OomOutcome:
    """A request that found no memory, by the kernel's log; bytes.

    Attributes
    ----------
    at
        Time since boot in ns; None: not told.
    task, killed
        Who asked, and who was killed for it; empty: nobody, or not told.
    is_oom
        A process had to go; else the request failed.
    order
        Of the block that was asked for.
    of_lowmem
        Highmem could not have served it; None: not told.
    low_free, low_cma, low_kept
        Free in lowmem, how much of it is CMA's, and what the zones keep from such a request.
    high_free
        Free in highmem above its low watermark; None: not told.
    largest
        The largest free block of lowmem; None: not told.
    is_used_up, is_in_pieces
        No zone of lowmem had anything above what it keeps; none had so large a block.
    meanwhile
        It is not in the log of before the capture.
    """

    at: int | None
    task: str
    killed: str
    is_oom: bool
    order: int
    of_lowmem: bool | None
    low_free: int
    low_cma: int
    low_kept: int
    high_free: int | None
    largest: int | None
    is_used_up: bool
    is_in_pieces: bool
    meanwhile: bool

    @property
    def is_short_of_lowmem(self) -> bool:
        """Lowmem was what it lacked."""
        return self.of_lowmem is not False and (self.is_used_up or self.is_in_pieces)


@dataclass(frozen=True)
class LowmemOutcome:
    """How lowmem fared; bytes, at the start of the capture.

    Attributes
    ----------
    zones
        The lowest first, highmem last; of a machine without zoneinfo ``lowmem`` and ``HighMem``,
        whose watermarks are not known.
    uses
        What lowmem was used for, the largest first: ``mem_map`` and ``kernel`` never reach the
        allocator, ``pages`` are page cache and memory of processes, ``others`` is what is in use
        and not named.
    beyond
        What the kernel takes from highmem while that has room, the largest first: on a kernel
        without HIGHMEM it is lowmem's.
    stalls
        Waits for memory in the page allocator while the capture ran, by zone of the request; of
        kernels up to 4.7 all zones together, without a name. None: not known.
    oom_kills
        Processes that were killed meanwhile; None: not known.
    scanned
        Pages that these waits looked at to find some to reclaim; None: not known.
    largest_block
        The largest free block of lowmem; None: not known.
    in_pieces
        Share of lowmem's free memory that lies in blocks of less than 32 KiB, which the allocator
        does not give up on (include/linux/mmzone.h: PAGE_ALLOC_COSTLY_ORDER); None: not known.
    ooms
        Requests that found no memory, the last of the log.
    unknown
        Codes of what no file tells.
    """

    zones: tuple[ZoneOutcome, ...]
    uses: tuple[tuple[str, int], ...] = ()
    beyond: tuple[tuple[str, int], ...] = ()
    stalls: dict[str, int] | None = None
    scanned: int | None = None
    oom_kills: int | None = None
    largest_block: int | None = None
    in_pieces: float | None = None
    ooms: tuple[OomOutcome, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def stalls_of_lowmem(self) -> int:
        """Waits of requests that highmem cannot serve."""
        return sum((self.stalls or {}).get(zone, 0) for zone in ("dma", "dma32", "normal"))

    @property
    def is_low(self) -> bool:
        """Whether no zone of lowmem had more than its low watermark, at either end."""
        low = [zone for zone in self.zones if zone.name != "HighMem" and zone.low]
        begins = all(zone.usable <= zone.low for zone in low)
        ends = all(zone.free_end is not None and zone.free_end <= zone.low for zone in low)
        return bool(low) and (begins or ends)

    @property
    def is_short(self) -> bool:
        """Whether anything tells that lowmem was too small."""
        ooms = any(oom.is_short_of_lowmem for oom in self.ooms)
        return bool(self.stalls_of_lowmem or ooms or self.is_low)
