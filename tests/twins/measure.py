"""Foretells of one capture what the other's machine makes of it, and compares."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors import open_capture
from hmtrace.cli.machines import target_machine
from replay.machine.from_facts import machine_from
from replay.whatif.run import Server
from replay.whatif.workload import distil
from tests.twins.evidence import areas_at_start, arena_evidence, common_calls, script_calls

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from collectors.capture import Capture
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.whatif.workload import Workload
    from tests.twins.evidence import ArenaEvidence
    from tests.twins.pairs import Pair, Recorded

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"


def find(folder: Path, name: str) -> Path | None:
    """The folder of a capture, or of that made for its twin; None where it is not kept."""
    return next((at for at in (folder / "twins" / name, folder / name) if at.is_dir()), None)


class Figure(NamedTuple):
    """A figure of an outcome.

    Attributes
    ----------
    words
        For the table.
    value
        Of an outcome.
    within
        Part by which it may be off; 0: it has to be the same.
    sense
        How it goes with the pages that are highmem, as in :mod:`replay.whatif.figures`.
    of_arena
        What decides it are the requests to the arena.
    calls
        What decides it are these calls: ``kmap`` or ``kmap_local``.
    """

    words: str
    value: Callable[[Outcome], float | None]
    within: float
    sense: str = ""
    of_arena: bool = False
    calls: str = ""


FIGURES: Final = {
    "lowmem_end": Figure(
        "lowmem ends at", lambda o: o.layout.lowmem_end_pfn * o.layout.page_size, 0
    ),
    "arena_from": Figure("arena from", lambda o: o.layout.vmalloc_start, 0),
    "arena_to": Figure("arena to", lambda o: o.layout.vmalloc_end, 0),
    "pool_at": Figure("pool at", lambda o: o.layout.pkmap_base, 0),
    "slots": Figure("slots of the pool", lambda o: o.pool.slots, 0),
    "kmap": Figure("kmap()", lambda o: o.pool.maps, 0.01, "up", calls="kmap"),
    "kunmap": Figure("kunmap()", lambda o: o.pool.unmaps, 0.01, "up", calls="kmap"),
    "local": Figure(
        "kmap_local(), all", lambda o: o.local.maps + o.local.lowmem, 0.01, calls="kmap_local"
    ),
    "requests": Figure("vmap() and vmalloc()", lambda o: o.arena.allocs + o.arena.failures, 0.01),
    "new_mappings": Figure("new mappings", lambda o: o.pool.new_mappings, 0.05, "up", calls="kmap"),
    "flushes": Figure("pool flushes", lambda o: o.pool.flushes, 0.05, "up", calls="kmap"),
    "waits": Figure("waits", lambda o: o.pool.waits, 0.05, "up", calls="kmap"),
    "used": Figure("slots in use, most", lambda o: o.pool.max_used, 0.05, "up", calls="kmap"),
    "local_high": Figure(
        "local mappings of highmem", lambda o: o.local.maps, 0.05, "up", calls="kmap_local"
    ),
    "failures": Figure("failures", lambda o: o.arena.failures, 0.05, of_arena=True),
    "purges": Figure("purges", lambda o: o.arena.lazy_purges, 0.05, of_arena=True),
    "live": Figure("arena in use, most", lambda o: o.arena.peak_live, 0.05, of_arena=True),
    "hole": Figure("largest hole, least", lambda o: o.arena.largest_hole_min, 0.05, of_arena=True),
}
BORDERS: Final = ("lowmem_end", "arena_from", "arena_to", "pool_at", "slots")


class Twin(NamedTuple):
    """A capture, ready to be asked."""

    name: str
    capture: Capture
    machine: Machine
    workload: Workload
    server: Server


class Row(NamedTuple):
    """A figure, foretold and as it happened; `verdict` is one of :data:`VERDICTS`."""

    figure: str
    foretold: float | None
    happened: float | None
    verdict: str


VERDICTS: Final = {
    "exact": "the same",
    "within": "within what is aimed at: 1 % of calls, 5 % of what comes of them",
    "bound": "it was said to be a bound, and is one",
    "requests": "the workload asked the arena for something else there: of what was asked there "
    "the model makes exactly what that kernel made, and what both asked alike it places alike",
    "tasks": "other tasks than the script's called meanwhile: the script's own calls are within",
    "kernel": "the other kernel's own code maps: calls from functions that both kernels map from "
    "are within, or most are from others",
    "boot": "the other kernel had other areas in use when the capture began: what came to them is "
    "within",
    "overlap": "tasks on several CPUs overlap otherwise each time",
    "off": "not explained",
}


class Foretold(NamedTuple):
    """One direction of a pair.

    Attributes
    ----------
    name, one, other, options
        What was foretold of what; `other` is "" where it was written down only.
    rows
        The figures.
    arena
        Whose the differences of the arena are; None where no request was compared.
    """

    name: str
    one: str
    other: str
    options: dict[str, Any]
    rows: tuple[Row, ...]
    arena: ArenaEvidence | None = None

    def row(self, figure: str) -> Row:
        """The row of a figure."""
        return next(row for row in self.rows if row.figure == figure)


@cache
def twin(folder: Path) -> Twin:
    """A capture with its workload."""
    capture = open_capture(folder)
    values = capture.facts.snapshot()
    machine = machine_from(values, capture.facts.sources())[0]
    workload = distil(capture.events, machine, values=values, lost=capture.lost)
    server = Server(
        workload, machine, values=values, lost=capture.lost,
        clock_is_ns=capture.clock_is_ns, span_ns=capture.span_ns,
    )  # fmt: skip
    return Twin(folder.name, capture, machine, workload, server)


def both_ways(pair: Pair, folder: Path = FIXTURES) -> tuple[Foretold, Foretold]:
    """What each twin foretells of the other."""
    one, other = (twin(find(folder, name) or folder / name) for name in (pair.one, pair.other))
    return _foretold(pair, one, other, pair.there), _foretold(pair, other, one, pair.back)


def recorded(pair: Recorded, folder: Path = FIXTURES) -> Foretold:
    """What a twin foretells of one that is not kept."""
    one = twin(find(folder, pair.one) or folder / pair.one)
    there = one.server.on(target_machine(one.machine, None, **pair.there))
    rows = tuple(
        Row(name, value := FIGURES[name].value(there), happened, _judged(name, value, happened))
        for name, happened in pair.happened.items()
    )
    return Foretold(pair.name, pair.one, "", pair.there, rows)


def _foretold(pair: Pair, one: Twin, other: Twin, options: dict[str, Any]) -> Foretold:
    there = one.server.on(target_machine(one.machine, None, **options))
    here = other.server.baseline
    evidence = None
    if here.arena.failures or there.arena.failures or one.server.baseline.arena.failures:
        evidence = arena_evidence(one, other, there.machine)
    rows = []
    for name, figure in FIGURES.items():
        foretold, happened = figure.value(there), figure.value(here)
        verdict = _judged(name, foretold, happened)
        if verdict == "off" and foretold is not None and happened is not None:
            verdict = _explained(name, (foretold, happened), there, pair, (one, other), evidence)
        rows.append(Row(name, foretold, happened, verdict))
    return Foretold(pair.name, one.name, other.name, options, tuple(rows), evidence)


def _judged(name: str, foretold: float | None, happened: float | None) -> str:
    if foretold == happened:
        return "exact"
    if foretold is None or happened is None:
        return "off"
    return "within" if _is_within(foretold, happened, FIGURES[name].within) else "off"


def _explained(
    name: str,
    values: tuple[float, float],
    there: Outcome,
    pair: Pair,
    twins: tuple[Twin, Twin],
    evidence: ArenaEvidence | None,
) -> str:
    """Why a figure is off, as far as the two traces prove it."""
    figure = FIGURES[name]
    foretold, happened = values
    if figure.sense == "up" and there.bound is not None:
        holds = foretold <= happened if there.bound == "least" else foretold >= happened
        if holds:
            return "bound"
    if (figure.of_arena or name == "requests") and evidence is not None and evidence.is_workloads:
        return "requests"
    if name == "used" and max(one.machine.cpus for one in twins) > 1:
        return "overlap"
    if figure.calls:
        return _by_calls(figure, pair, twins)
    if name == "live":
        added = [value - areas_at_start(one) for value, one in zip(values, twins, strict=True)]
        return "boot" if _is_within(added[0], added[1], figure.within) else "off"
    return "off"


def _by_calls(figure: Figure, pair: Pair, twins: tuple[Twin, Twin]) -> str:
    """Why a figure is off that rests on calls: who made them, and from where."""
    one, other = twins
    ours, theirs = (script_calls(twin, figure.calls, pair.script) for twin in twins)
    if one.machine.generation == other.machine.generation:
        return "tasks" if _is_within(ours, theirs, figure.within) else "off"
    both = common_calls(one, other, figure.calls)
    if both.others[0] + both.others[1] > both.common[0] + both.common[1]:
        return "kernel"
    if not _is_within(*both.common, figure.within):
        return "off"
    return "kernel" if sum(both.others) else "off"


def _is_within(foretold: float, happened: float, part: float) -> bool:
    return abs(foretold - happened) <= part * happened
