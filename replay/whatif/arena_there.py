"""The arena of another machine: the capture's own figures where it is the same, or a forecast."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from replay.outcome import ArenaOutcome, ModulesOutcome
from replay.whatif.arena import forecast, same_arena
from replay.whatif.caveats import forecast_caveats, model_caveats
from replay.whatif.purges import without_times

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.snapshot import Snapshot
    from replay.arena.tally import ArenaTally
    from replay.machine.layout import Layout
    from replay.machine.model import Machine
    from replay.outcome import PurgeOutcome
    from replay.whatif.arena import ArenaForecast
    from replay.whatif.workload import Workload


class ArenaThere(NamedTuple):
    """The arena there.

    Attributes
    ----------
    outcome, tally
        Its figures and its work.
    caveats
        What limits them.
    purges
        By what makes them run, without their IPIs.
    """

    outcome: ArenaOutcome
    tally: ArenaTally
    caveats: tuple[str, ...]
    purges: tuple[PurgeOutcome, ...]


def arena_there(
    workload: Workload,
    figures: ArenaOutcome,
    here: tuple[Machine, Layout],
    there: tuple[Machine, Layout],
    values: Snapshot,
    own: Callable[[], ArenaForecast | None],
) -> ArenaThere:
    """The captured arena where the other machine's is the same, else the model's forecast.

    Parameters
    ----------
    workload
        The workload.
    figures
        The captured machine's arena.
    here, there
        The captured machine and the other one, with their address maps.
    values
        Facts of the capture.
    own
        The model's forecast of the captured machine itself.
    """
    tally, layout = workload.figures.work, there[1]
    size = layout.vmalloc_end - layout.vmalloc_start
    purges = without_times(workload.figures.purges)
    captured = ArenaThere(replace(figures, size=size), tally, (), purges)
    if same_arena(here[0], there[0], here[1], layout):
        return captured
    found = forecast(workload.arena(), *here, *there, values, triggers=workload.triggers())
    if found is None and not tally.allocs:
        return captured
    if found is None:
        return captured._replace(
            caveats=(
                "the arena's addresses are those of the capture, for /proc/vmallocinfo does not "
                "tell what was in use: failures and purges under the other machine's arena are "
                "not predicted",
            )
        )
    beside, told = _beside_itself(own(), figures) if tally.allocs else (0, [])
    outcome = ArenaOutcome(
        size=size,
        allocs=found.allocs - found.failures,
        failures=found.failures,
        peak_used=found.peak_used,
        peak_live=found.peak_live,
        largest_hole_min=found.largest_hole_min,
        lazy_purges=found.purges.total(),
        holders=figures.holders,
        ambiguous=found.ambiguous,
        untold=figures.untold,
        derived=figures.derived,
        null_calls=figures.null_calls,
        smallest_failed=found.smallest_failed,
        largest_request=figures.largest_request,
        modules=_modules_there(figures, found, layout),
        apart=_apart(figures, found) + beside,
    )
    changed = replace(tally, purges=found.purges, frees=tally.frees - found.lost_frees)
    return ArenaThere(outcome, changed, (*forecast_caveats(found), *told), found.by_trigger)


def _beside_itself(own: ArenaForecast | None, figures: ArenaOutcome) -> tuple[int, list[str]]:
    """How far the model is from the trace on the captured machine itself, and that in words."""
    if own is None or figures.lazy_purges is None:
        return 0, []
    failures, purges = own.failures - figures.failures, own.purges.total() - figures.lazy_purges
    return abs(failures) + abs(purges), model_caveats(own, figures)


def _apart(figures: ArenaOutcome, found: ArenaForecast) -> int:
    """Allocations that fail on one of both machines alone."""
    on_both = max(figures.failures - found.borrowed, 0)
    return found.borrowed + max(found.failures - on_both, 0)


def _modules_there(
    figures: ArenaOutcome, found: ArenaForecast, layout: Layout
) -> ModulesOutcome | None:
    """The modules' own area, of which the model foretells failures only."""
    here = figures.modules
    if here is None:
        return None
    calls = here.allocs + here.failures
    return ModulesOutcome(
        size=layout.modules_end - layout.modules_start,
        allocs=calls - found.failures_of_modules,
        failures=found.failures_of_modules,
        holders=here.holders,
        smallest_failed=here.smallest_failed,
    )
