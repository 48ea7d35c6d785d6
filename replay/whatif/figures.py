"""The figures of an outcome by name: what machines are compared, ranked and searched by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from replay.outcome import Outcome


class Figure(NamedTuple):
    """A figure.

    Attributes
    ----------
    value
        The figure of an outcome; None where it is not known. Bytes, nanoseconds or a count.
    bound
        How it goes with the pages that are highmem, of which the trace may not tell all: ``up``,
        then it is the same bound as their number (:attr:`replay.outcome.Outcome.bound`), ``down``,
        then it is the other one, ``about``, neither; empty: not at all.
    more_is_better
        Else less is.
    of_arena
        The arena has a part in it.
    is_whole
        A number of bytes, nanoseconds or things; else a mean or a share.
    """

    value: Callable[[Outcome], float | None]
    bound: str = ""
    more_is_better: bool = False
    is_whole: bool = True
    of_arena: bool = False


def _change(outcome: Outcome, end: int) -> int:
    """What it costs more than the captured machine: at least, likely, and at most."""
    change = outcome.cost.change_ns
    return 0 if change is None else round(change[end])


def _unused(outcome: Outcome) -> int:
    """RAM that a kernel without HIGHMEM leaves alone."""
    layout = outcome.layout
    if outcome.machine.highmem_enabled:
        return 0
    return max(outcome.machine.ram_bytes - layout.lowmem_bytes - layout.highmem_bytes, 0)


FIGURES: Final[dict[str, Figure]] = {
    "lowmem": Figure(lambda o: o.layout.lowmem_bytes, more_is_better=True),
    "highmem": Figure(lambda o: o.layout.highmem_bytes),
    "unused": Figure(_unused),
    "user": Figure(lambda o: o.layout.user_end, more_is_better=True),
    "kmap": Figure(lambda o: o.pool.maps, bound="up"),
    "new_mappings": Figure(lambda o: o.pool.new_mappings, bound="up"),
    "wraps": Figure(lambda o: o.pool.wraps, bound="up"),
    "pool_flushes": Figure(lambda o: o.pool.flushes, bound="up"),
    "pool_used": Figure(lambda o: o.pool.max_used, bound="up"),
    "scan": Figure(lambda o: o.pool.scan_mean or None, bound="about", is_whole=False),
    "waits": Figure(lambda o: o.pool.waits, bound="up"),
    "wait_ns": Figure(lambda o: o.pool.wait_ns, bound="up"),
    "asleep": Figure(lambda o: o.pool.asleep, bound="up"),
    "lock_hold_ns": Figure(lambda o: o.cost.lock_hold_ns, bound="about", is_whole=False),
    "lock_share": Figure(lambda o: o.cost.lock_share, bound="up", is_whole=False),
    "local": Figure(lambda o: o.local.maps, bound="up"),
    "local_lowmem": Figure(lambda o: o.local.lowmem, bound="down"),
    "local_depth": Figure(lambda o: o.local.max_depth, bound="up"),
    "local_saved": Figure(lambda o: o.local.mappings_saved, bound="up"),
    "local_wrong": Figure(lambda o: o.unfit),
    "vmalloc": Figure(lambda o: o.arena.size, more_is_better=True),
    "failures": Figure(lambda o: o.arena.failures, of_arena=True),
    "purges": Figure(lambda o: o.arena.lazy_purges, of_arena=True),
    "arena_apart": Figure(lambda o: o.arena.apart),
    "arena_live": Figure(lambda o: o.arena.peak_live, of_arena=True),
    "largest_hole": Figure(lambda o: o.arena.largest_hole_min, more_is_better=True, of_arena=True),
    "tlb_full": Figure(lambda o: o.tlb.full, bound="up", of_arena=True),
    "tlb_ranged": Figure(lambda o: o.tlb.range, bound="up", of_arena=True),
    "tlb_single": Figure(lambda o: o.tlb.single, bound="up"),
    "ipis": Figure(lambda o: o.tlb.ipis, bound="up", of_arena=True),
    "cost_ns": Figure(lambda o: o.cost.total_ns, bound="up", of_arena=True),
    "cost_low_ns": Figure(lambda o: o.cost.low_ns, bound="up", of_arena=True),
    "cost_high_ns": Figure(lambda o: o.cost.high_ns, bound="up", of_arena=True),
    "cost_change_low_ns": Figure(lambda o: _change(o, 0), bound="up", of_arena=True),
    "cost_change_ns": Figure(lambda o: _change(o, 1), bound="up", of_arena=True),
    "cost_change_high_ns": Figure(lambda o: _change(o, 2), bound="up", of_arena=True),
    "cost_share": Figure(lambda o: o.cost.share_of_span, bound="up", is_whole=False, of_arena=True),
}


def figures_of(outcome: Outcome) -> dict[str, float | None]:
    """All figures of an outcome, by name."""
    return {name: figure.value(outcome) for name, figure in FIGURES.items()}


_OTHER: Final = {"least": "most", "most": "least"}


def sense_of(
    name: str, value: float | None, bound: str | None, apart: float | None = 0
) -> str | None:
    """In which sense a figure of an outcome holds.

    Parameters
    ----------
    name, value
        The figure.
    bound
        As of :class:`replay.outcome.Outcome`.
    apart
        As of :class:`replay.outcome.ArenaOutcome`.

    Returns
    -------
    str or None
        ``least``, ``most``, ``about``, or None as it stands; at most nothing is nothing.

    Examples
    --------
    >>> sense_of("kmap", 3, "least"), sense_of("local_lowmem", 3, "least")
    ('least', 'most')
    >>> sense_of("kmap", 0, "most")
    >>> sense_of("kmap", 3, "about"), sense_of("purges", 3, "about")
    ('about', None)
    >>> sense_of("purges", 3, None, apart=1), sense_of("kmap", 3, None, apart=1)
    ('about', None)
    """
    figure = FIGURES[name]
    return sense_by(figure.bound, value, bound, apart if figure.of_arena else 0)


def sense_by(
    way: str, value: float | None, bound: str | None, apart: float | None = 0
) -> str | None:
    """In which sense a figure holds that goes this `way` (:attr:`Figure.bound`); else as above."""
    if value is None:
        return None
    if apart:
        return "about"
    if not way or bound is None:
        return None
    if "about" in (way, bound):
        return "about"
    sense = bound if way == "up" else _OTHER[bound]
    return None if sense == "most" and not value else sense
