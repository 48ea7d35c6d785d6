"""One of two runs that are compared: a capture, or a document that tells of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError
from collectors.records import dataclass, field
from replay.compare.figures import COMPARED, COUNT, TIME, KnownFigure
from replay.figures import EMULATED, LOSSY
from replay.machine.costs import FIGURE_NAMES, Costs
from replay.rules.evidence import FLUSHES, LOCAL
from replay.rules.recorded import ELSEWHERE, LOWMEM
from replay.whatif.figures import sense_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from replay.compare.figures import ComparedFigure

CAPTURED, WHAT_IF, ROW = "captured", "what-if", "row"
"""What a side is: what a kernel did, what the model makes of another machine, a sweep's row."""
_MOST: Final = 1e24
_MOST_SITES: Final = 1 << 20
_UNSEEN: Final = {"untraced", "untold", ELSEWHERE}
_WORDS: Final = ("arch", "generation", "release", "split")
_TRUTHS: Final = ("pae", "highmem_enabled")
_NUMBERS: Final = (
    "cpus", "ram_bytes", "lowmem_bytes", "highmem_bytes", "vmalloc_bytes", "pkmap_slots",
    "page_size",
)  # fmt: skip
"""Facts of a machine by what they are, in a document's `machine`."""
_OF_CAUSE: Final = ("count", "ns", "low_ns", "high_ns")
_LISTS: Final = ("config", "converted")
_ROW_FACTS: Final = {
    "lowmem": "lowmem_bytes", "highmem": "highmem_bytes", "vmalloc": "vmalloc_bytes",
}  # fmt: skip


class SideSite(NamedTuple):
    """A call site of a run.

    Attributes
    ----------
    site, op, calls
        As the trace names it, its operation, its calls.
    held_ns
        How long its mappings are held: the median, else the mean; None: not known.
    depth, over_switch
        As of :class:`replay.whatif.callers.SiteUse`; None: not known.
    """

    site: str
    op: str
    calls: int
    held_ns: float | None = None
    depth: int | None = None
    over_switch: int | None = None


class CauseCost(NamedTuple):
    """What work of one cause costs: how often, ns with likely costs, at least and at most."""

    number: float = 0.0
    ns: float = 0.0
    low: float = 0.0
    high: float = 0.0


class SideCost(NamedTuple):
    """What a run's work is estimated to cost.

    Attributes
    ----------
    low, likely, high
        ns, over the ranges of costs.
    units, costs
        The elementary operations, and what each costs; None: not told.
    causes
        By cause; empty: not told.
    """

    low: float
    likely: float
    high: float
    units: Mapping[str, float] | None
    costs: Costs | None
    causes: Mapping[str, CauseCost]


@dataclass(frozen=True)
class Side:
    """A run.

    Attributes
    ----------
    name
        As the user gave it.
    kind
        :data:`CAPTURED`, :data:`WHAT_IF` or :data:`ROW`.
    trace
        SHA-256 of the trace; else None, and it is not known whether two are of one trace.
    figures
        By the names of :data:`replay.compare.figures.COMPARED`.
    cost
        None: not told.
    sites
        None: not told.
    facts
        Of the machine: numbers, words and, of a build, lists of words.
    evidence
        By kind of evidence why it is missing (:mod:`replay.rules.evidence`), None where it is not;
        kinds that are not told are not there.
    functions
        Functions that were probed; None: not told.
    span_ns
        None: the clock is no time, or the span is not told.
    clock
        Of the trace; empty: not told.
    is_emulated
        The machine was emulated.
    is_lossy
        Tracing lost events.
    slots, limit
        Of the pool, and of a task's local mappings; None: not told.
    per_cpu
        Local mappings are those of a CPU, as of kmap_atomic(); None: not told.
    findings
        Problems and warnings, by rule.
    has_observed
        The rules looked at what the kernel itself told beside the calls.
    only_wraps
        The pool was flushed by its wraps alone, as often as all its slots had been given away:
        ``pool`` where that holds, ``all`` where there was no other flush either; else empty.
    bunches
        Of figures that come several at a time the events that they come by.
    """

    name: str
    kind: str
    trace: str | None
    figures: Mapping[str, KnownFigure]
    cost: SideCost | None
    sites: tuple[SideSite, ...] | None
    facts: Mapping[str, Any]
    evidence: Mapping[str, str | None]
    functions: frozenset[str] | None
    span_ns: int | None
    clock: str
    is_emulated: bool
    is_lossy: bool
    slots: int | None = None
    limit: int | None = None
    per_cpu: bool | None = None
    findings: Mapping[str, str] = field(default_factory=dict)
    has_observed: bool = False
    only_wraps: str = ""
    bunches: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """A figure, 0 where it is not known."""
        return self.figures[name].value or 0


def side_of(document: Mapping[str, Any], name: str, *, baseline: bool = False) -> Side:
    """Take a side from a document of `report` or `replay`.

    Parameters
    ----------
    document
        As :func:`hmtrace.report.document.outcome_document` and the source's keys make it.
    name
        As the user gave it.
    baseline
        Of `replay`: take the captured machine, not the other one.

    Raises
    ------
    HmtraceError
        Exit code 3: it is damaged.
    """
    whole = _Reader(document, name)
    told = whole.part("baseline") if baseline else whole
    is_whatif = "baseline" in document and not baseline
    evidence = _evidence(whole)
    side = _Senses(
        evidence,
        bound=whole.word("bound") or None if is_whatif else None,
        apart=told.part("arena").number("apart") or 0,
        is_lossy=bool(whole.part("lost").many("intervals")),
        pages_known=not _is_pageless(told),
        local_pages_known=not told.part("local").number("unknown"),
    )
    machine = told.part("machine")
    is_time = whole.content.get("clock_is_ns") is True
    caveats = told.words("caveats")
    functions = whole.part("evidence").content.get("functions")
    trace = whole.part("source").content.get("sha256")
    return Side(
        name=name,
        kind=WHAT_IF if is_whatif else CAPTURED,
        trace=trace if isinstance(trace, str) else None,
        figures={key: side.known(figure, told) for key, figure in COMPARED.items()},
        cost=_cost(told),
        sites=_sites(told, has_times=is_time),
        facts=_facts(machine),
        evidence=evidence,
        functions=None
        if functions is None
        else frozenset(whole.part("evidence").words("functions")),
        span_ns=told.whole("span_ns") if is_time else None,
        clock=whole.word("clock"),
        is_emulated=EMULATED in caveats,
        is_lossy=side.is_lossy,
        slots=told.part("pool").whole("slots"),
        limit=told.part("local").whole("limit"),
        per_cpu=_per_cpu(machine),
        findings=_findings(told),
        has_observed=bool(told.many("durations")),
        only_wraps=_only_wraps(told),
        bunches=dict(_bunches(told)),
    )


def side_of_row(row: Mapping[str, Any], source: Mapping[str, Any], name: str) -> Side:
    """Take a side from a row of a sweep.

    Parameters
    ----------
    row
        Of its document.
    source
        What the document says of the row's capture; empty: nothing.
    name
        As the user gave it.

    Raises
    ------
    HmtraceError
        Exit code 3: it is damaged.
    """
    told, of_source = _Reader(row, name), _Reader(source, name)
    figures = told.part("figures")
    caveats = told.words("caveats")
    is_lossy = bool(of_source.part("lost").many("intervals")) or LOSSY in caveats
    side = _Senses(
        {},
        bound=told.word("bound") or None,
        apart=figures.number("arena_apart") or 0,
        is_lossy=is_lossy,
        pages_known=True,
    )
    likely = figures.number("cost_ns")
    low, high = figures.number("cost_low_ns"), figures.number("cost_high_ns")
    known = None not in (likely, low, high)
    known_cost = SideCost(low or 0, likely or 0, high or 0, None, None, {}) if known else None
    axes = {key: value for key, value in row.items() if isinstance(value, str)}
    facts: dict[str, Any] = {
        key: figures.number(row_name) for row_name, key in _ROW_FACTS.items()
    } | {f"axis {key}": value for key, value in axes.items() if key not in {"capture", "bound"}}
    trace = of_source.part("source").content.get("sha256")
    path = told.word("capture")
    is_time = of_source.content.get("clock_is_ns") is True
    return Side(
        name=name,
        kind=ROW,
        trace=trace if isinstance(trace, str) else f"of {path}" if path else None,
        figures={
            key: side.row_figure(figure, figures) for key, figure in COMPARED.items()
        },
        cost=known_cost,
        sites=None,
        facts=facts,
        evidence={},
        functions=None,
        span_ns=of_source.whole("span_ns") if is_time else None,
        clock=of_source.word("clock"),
        is_emulated=EMULATED in caveats,
        is_lossy=is_lossy,
    )  # fmt: skip


def sees_lowmem(side: Side) -> bool:
    """Whether local mappings of lowmem pages, which need no slot, are in a run's trace."""
    if side.evidence.get(LOWMEM):
        return bool(side.value("local_lowmem"))
    # kmap_atomic() calls nothing that could be probed for them, before kmap_local_page() came
    return not side.per_cpu or bool(side.value("local_lowmem"))


class _Senses(NamedTuple):
    """In which sense the figures of a run hold."""

    evidence: Mapping[str, str | None]
    bound: str | None
    apart: float
    is_lossy: bool
    pages_known: bool
    local_pages_known: bool = True

    def known(self, figure: ComparedFigure, told: _Reader) -> KnownFigure:
        """A figure of a document."""
        values = [told.part(part).number(key) for part, key in figure.paths]
        value = None if None in values else sum(v or 0 for v in values)
        return self._judged(figure, value)

    def row_figure(self, figure: ComparedFigure, figures: _Reader) -> KnownFigure:
        """A figure of a sweep's row."""
        if not figure.row:
            return KnownFigure(None, None, "not in a sweep's rows")
        return self._judged(figure, figures.number(figure.row))

    def _judged(self, figure: ComparedFigure, value: float | None) -> KnownFigure:
        if value is None:
            return KnownFigure(None, None, "not known")
        why: str = self.evidence.get(figure.need) or ""
        if figure.need == FLUSHES and why in _UNSEEN:
            return KnownFigure(value, "least", why)  # the pool's own are known by the model
        if why in _UNSEEN and not value:
            return KnownFigure(None, None, why)
        if figure.of_pages and not self.pages_known:
            return KnownFigure(None, None, "pageless")
        if figure.kind == TIME and self.evidence.get("times"):
            return KnownFigure(None, None, "counter")
        if self.is_lossy or why in {"lost", "missed"}:
            sense = "about" if figure.is_modelled or figure.kind != COUNT else "least"
            return KnownFigure(value, sense, why or "lost")
        if not self.local_pages_known and figure.need == LOCAL and value:
            return KnownFigure(value, "most", "pageless")  # some may be of lowmem, without a slot
        if not self.local_pages_known and figure.need == LOWMEM:
            return KnownFigure(value, "least", "pageless")
        apart = self.apart if figure.of_arena else 0
        bounded = sense_by(figure.bound, value, self.bound, apart)
        return KnownFigure(value, bounded, "bound" if bounded else "")


def _only_wraps(told: _Reader) -> str:
    pool, tlb = told.part("pool"), told.part("tlb")
    flushes = pool.number("flushes") or 0
    if pool.number("waits") or pool.number("unused_passes") or pool.number("wraps") != flushes:
        return ""
    everywhere = (tlb.number("full") or 0) + (tlb.number("range") or 0)
    return "all" if everywhere == flushes else "pool"


def _bunches(told: _Reader) -> Iterator[tuple[str, float]]:
    for name, figure in COMPARED.items():
        if figure.bunch is None:
            continue
        events = sum(told.part(part).number(key) or 0 for part, key in figure.bunch)
        if figure.largest is not None:
            whole, most = (
                told.part(part).number(key) for part, key in (*figure.paths, figure.largest)
            )
            events = min((whole or 0) / (most or 1), events)
        yield name, events


def _is_pageless(told: _Reader) -> bool:
    pool = told.part("pool")
    hits, new = pool.number("hits") or 0, pool.number("new_mappings") or 0
    return bool(pool.number("maps")) and not hits + new


def _evidence(whole: _Reader) -> dict[str, str | None]:
    told = whole.part("evidence")
    kinds = [kind for kind in told.content if kind != "functions"]
    return {kind: told.word(kind) or None for kind in kinds}


def _per_cpu(machine: _Reader) -> bool | None:
    told = machine.part("behaviour").truth("local_per_cpu")
    return (
        None if told is None else told and "KMAP_LOCAL" not in machine.words("config")
    )  # as kconfig.has_kmap_atomic


def _facts(machine: _Reader) -> dict[str, Any]:
    return {
        **{key: machine.word(key) or None for key in _WORDS},
        **{key: machine.truth(key) for key in _TRUTHS},
        **{key: machine.number(key) for key in _NUMBERS},
        **{key: tuple(sorted(machine.words(key))) for key in _LISTS},
    }


def _cost(told: _Reader) -> SideCost | None:
    cost = told.part("cost")
    ends = [cost.number(key) for key in ("low_ns", "total_ns", "high_ns")]
    if None in ends:
        return None
    low, likely, high = (end or 0.0 for end in ends)
    by_cause = cost.part("by_cause")
    causes = {
        name: CauseCost(*(by_cause.part(name).number(key) or 0.0 for key in _OF_CAUSE))
        for name in by_cause.content
    }
    table = told.part("machine").part("costs")
    units = cost.part("units")
    numbers = {name: units.number(name) or 0.0 for name in units.content}
    return SideCost(low, likely, high, numbers, _costs(table), causes)


def _costs(table: _Reader) -> Costs | None:
    """The costs of a document's machine."""
    if not table.content:
        return None
    ranges = {}
    for one in table.many("ranges"):
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise table.wrong("ranges")
        ranges[one["name"]] = one
    values = {}
    for name in FIGURE_NAMES:
        likely = table.number(name)
        ends = ranges.get(name, {})
        values[name] = [ends.get("low", likely), likely, ends.get("high", likely)]
    try:
        return Costs.certain({}).with_values(values)
    except HmtraceError as error:
        raise table.wrong("costs") from error


def _sites(told: _Reader, *, has_times: bool) -> tuple[SideSite, ...] | None:
    if "sites" not in told.content:
        return None
    return tuple(_each_site(told, has_times=has_times))


def _each_site(told: _Reader, *, has_times: bool) -> Iterator[SideSite]:
    rows = told.many("sites")
    if len(rows) > _MOST_SITES:
        raise told.wrong("sites")
    for row in rows:
        if not isinstance(row, dict):
            raise told.wrong("sites")
        one = _Reader(row, told.name)
        calls = one.whole("count")
        if calls is None:
            raise told.wrong("sites")
        held = one.number("held_median")
        held = one.number("hold_ns_mean") if held is None else held
        times = held if has_times else None
        yield SideSite(
            one.word("site"), one.word("op"), calls, times, one.whole("depth"),
            one.whole("over_switch"),
        )  # fmt: skip


def _findings(told: _Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in told.many("findings"):
        if not isinstance(row, dict):
            raise told.wrong("findings")
        one = _Reader(row, told.name)
        if (severity := one.word("severity")) in {"problem", "warning"}:
            found.setdefault(one.word("rule"), severity)
    return found


class _Reader(NamedTuple):
    """Part of a document, from which nothing is taken that is not of its kind."""

    content: Mapping[str, Any]
    name: str

    def part(self, key: str) -> _Reader:
        """What is below a key; empty where nothing is."""
        found = self.content.get(key)
        if found is None:
            return _Reader({}, self.name)
        if not isinstance(found, dict):
            raise self.wrong(key)
        return _Reader(found, self.name)

    def number(self, key: str) -> float | None:
        """A number of at least 0; None: not known."""
        found = self.content.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < _MOST:
            raise self.wrong(key)
        return found

    def whole(self, key: str) -> int | None:
        """A whole number of at least 0; None: not known."""
        found = self.number(key)
        return None if found is None else int(found)

    def truth(self, key: str) -> bool | None:
        """True or false; None: not known."""
        found = self.content.get(key)
        if found is not None and not isinstance(found, bool):
            raise self.wrong(key)
        return found

    def word(self, key: str) -> str:
        """A text; empty where there is none."""
        found = self.content.get(key)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise self.wrong(key)
        return found

    def many(self, key: str) -> list[Any]:
        """A list; empty where there is none."""
        found = self.content.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise self.wrong(key)
        return found

    def words(self, key: str) -> list[str]:
        """A list of texts."""
        found = self.many(key)
        if not all(isinstance(one, str) for one in found):
            raise self.wrong(key)
        return found

    def wrong(self, key: str) -> HmtraceError:
        """The error for a document that is damaged."""
        return HmtraceError(f"key {key!r} is not what this document has there", source=self.name)
