"""Call sites of two runs, joined by function: who maps more, less, or by another API.

A return address is another one in the next build, and an offset too; the function stays. Sites that
have no name (of a trace without kallsyms, of a module that came later) are joined by nothing, but
where both runs are of one trace.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from replay.compare.changes import EVENT, UNKNOWN, is_of_one_trace, verdict_on, work_between
from replay.compare.figures import OF_SITES
from replay.compare.noise import Rate, by_chance, noise_of
from replay.compare.side import CAPTURED, CauseCost, sees_lowmem
from replay.sites.names import function_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from replay.compare.changes import WorkUnits
    from replay.compare.noise import Noise
    from replay.compare.side import Side, SideSite

KMAP, LOCAL = "kmap", "kmap_local"
_MOST_OF_IT: Final = 0.5
"""Share of a function's kmap() calls that became local ones, from which it is called converted."""


_FIGURE: Final = {KMAP: "kmap", LOCAL: "local"}
_WRAPPERS: Final = {
    "__kmap_local_page_prot", "kmap_local_page_prot", "kmap_atomic_high_prot", "kmap_atomic_prot",
    "kmap_atomic", "kmap_high", "kmap",
}  # fmt: skip
"""Functions that a call goes through on its way to the one that was probed (mm/highmem.c)."""
_MODULE: Final = " ["
"""In the name of a function of a module."""


class UseOf(NamedTuple):
    """How a function uses one API in a run.

    Attributes
    ----------
    calls
        How many.
    held_ns
        How long its busiest site holds a mapping; None: not known.
    depth, over_switch
        The most of its sites, and all of them; None: not known.
    """

    calls: int = 0
    held_ns: float | None = None
    depth: int | None = None
    over_switch: int | None = None


class FunctionChange(NamedTuple):
    """A function's calls of one API in both runs.

    Attributes
    ----------
    function, op
        Function with its module, operation.
    one, other
        Its use in each; no calls: it maps by this API in the other one alone.
    rates
        Calls per unit of work; None: not known.
    verdict, difference, share, noise
        As of :class:`replay.compare.changes.Change`.
    cost_ns
        What the change costs per unit of work more, by the mean of its API; None: not known.
    """

    function: str
    op: str
    one: UseOf
    other: UseOf
    rates: tuple[float | None, float | None]
    verdict: str = UNKNOWN
    difference: float | None = None
    share: float | None = None
    noise: Noise | None = None
    cost_ns: float | None = None


class Converted(NamedTuple):
    """A function whose kmap() became kmap_local_page().

    Attributes
    ----------
    function
        With its module.
    kmap, local
        Its use of each API, in both runs.
    """

    function: str
    kmap: tuple[UseOf, UseOf]
    local: tuple[UseOf, UseOf]


class Nameless(NamedTuple):
    """Calls from sites without a name, and all calls, of a run."""

    calls: int
    whole: int


class JoinedSites(NamedTuple):
    """Call sites of both runs.

    Attributes
    ----------
    functions
        The dearest change first.
    converted
        Most calls first.
    nameless
        Of each run.
    """

    functions: tuple[FunctionChange, ...]
    converted: tuple[Converted, ...]
    nameless: tuple[Nameless, Nameless]


def join(
    one: Side, other: Side, work: WorkUnits, again: tuple[Sequence[Side], Sequence[Side]]
) -> JoinedSites | None:
    """Join the call sites of two runs by function; parameters as of `changes_of`.

    Returns
    -------
    JoinedSites or None
        None: one of them tells no sites.
    """
    if one.sites is None or other.sites is None:
        return None
    by_text = is_of_one_trace(one, other)
    tables = [_by_function(side.sites or (), by_text=by_text) for side in (one, other)]
    groups = [
        [_by_function(side.sites or (), by_text=by_text) for side in sides if side.sites]
        for sides in again
    ]
    works = [[work.of(side) for side in sides if side.sites] for sides in again]
    costs = _mean_costs((one, other))
    found = []
    for key in dict.fromkeys((*tables[0], *tables[1])):
        mine, theirs = (table.get(key, UseOf()) for table in tables)
        repeated = [
            [
                _rate(table.get(key, UseOf()), units)
                for table, units in zip(*pair, strict=True)
                if units
            ]
            for pair in zip(groups, works, strict=True)
        ]
        change = FunctionChange(*key, mine, theirs, _rates((mine, theirs), work))
        change = change._replace(cost_ns=_cost(change, costs))
        if by_text or _is_told(change, (one, other)):
            change = _judged(change, work, repeated, exact=by_text)
            change = _of_like_pages(change, one, other)
        found.append(change)
    found.sort(key=lambda f: (-abs(f.cost_ns or 0), -f.one.calls - f.other.calls, f.function, f.op))
    return JoinedSites(
        tuple(found),
        tuple(_converted(tables[0], tables[1], _scale(one, other))),
        (_nameless(one.sites), _nameless(other.sites)),
    )


def _rates(uses: Sequence[UseOf], work: WorkUnits) -> tuple[float | None, float | None]:
    one, other = (
        use.calls / units.value * work.per if units.value else None
        for use, units in zip(uses, (work.one, work.other), strict=True)
    )
    return one, other


def _cost(change: FunctionChange, costs: Mapping[str, float]) -> float | None:
    """What a change costs per unit of work, by the mean of the API over both runs."""
    (one, other), mean = change.rates, costs.get(change.op)
    return None if one is None or other is None or mean is None else (other - one) * mean


def _rate(use: UseOf, units: float, *, is_counted: bool = False) -> Rate:
    return Rate(use.calls, units, use.calls, is_counted)


def _is_told(change: FunctionChange, sides: tuple[Side, Side]) -> bool:
    """Whether both runs tell how often a function called: all were traced, and have names."""
    name = _FIGURE.get(change.op, "requests")
    for side, use in zip(sides, (change.one, change.other), strict=True):
        known = side.figures[name]
        if known.value is None or known.sense or side.evidence.get(change.op):
            return False
        if not use.calls and _may_hide(side, change):
            return False
    return True


def _may_hide(side: Side, change: FunctionChange) -> bool:
    """Whether a function may be among the sites without a name: one of a module by any of them."""
    hidden = [site for site in side.sites or () if site.op == change.op and not _function(site)]
    is_of_module = _MODULE in change.function
    return any(is_of_module or not site.site.startswith("0x") for site in hidden)


def _function(site: SideSite) -> str:
    """Function of a site; empty where it has no name, or only that of the API's own wrapper."""
    name = function_named(site.site)
    return "" if name in _WRAPPERS else name


def _of_like_pages(change: FunctionChange, one: Side, other: Side) -> FunctionChange:
    """Where one run alone shows mappings of lowmem pages, its calls may be more only for these."""
    more = int(_counts_lowmem(other)) - int(_counts_lowmem(one))
    if change.op != LOCAL or not more or change.difference is None or change.noise is None:
        return change
    extra = other.value("local_lowmem") if more > 0 else one.value("local_lowmem")
    calls = change.other.calls if more > 0 else change.one.calls
    certain = abs(change.difference) - min(extra, calls)
    if change.difference * more > 0 and certain <= change.noise.most:
        return change._replace(verdict=UNKNOWN)
    return change


def _counts_lowmem(side: Side) -> bool:
    """Whether sites count calls for lowmem pages: of another machine the model does not."""
    return side.kind == CAPTURED and sees_lowmem(side)


def _judged(
    change: FunctionChange, work: WorkUnits, repeated: Sequence[Sequence[Rate]], *, exact: bool
) -> FunctionChange:
    """With verdict, difference, share and noise."""
    if not work.one.value or not work.other.value or work.one.sense or work.other.sense:
        return change
    one = _rate(change.one, work.one.value, is_counted=work.is_counted)
    other = _rate(change.other, work.other.value, is_counted=work.is_counted)
    expected = one.figure * other.work / one.work
    difference = other.figure - expected
    if abs(difference) <= 1e-9 * max(expected, other.figure):
        difference = 0.0
    groups = [[mine, *others] for mine, others in zip((one, other), repeated, strict=True)]
    noise = noise_of(one, other, groups, exact=exact)
    share = difference / expected if expected else None
    verdict = verdict_on(difference, noise)
    return change._replace(verdict=verdict, difference=difference, share=share, noise=noise)


def _by_function(
    sites: Iterable[SideSite], *, by_text: bool
) -> dict[tuple[str, str], UseOf]:  # fmt: skip
    """Uses by function and operation; of sites without a name where a text is the same site."""
    many: dict[tuple[str, str], list[SideSite]] = defaultdict(list)
    for site in sites:
        function = _function(site) or (site.site if by_text else "")
        if function:
            many[function, site.op].append(site)
    return {key: _use(group) for key, group in many.items()}


def _use(group: Sequence[SideSite]) -> UseOf:
    depths = [site.depth for site in group if site.depth is not None]
    switches = [site.over_switch for site in group]
    return UseOf(
        sum(site.calls for site in group),
        max(group, key=lambda site: site.calls).held_ns,
        max(depths, default=None),
        None if None in switches else sum(number or 0 for number in switches),
    )


def _nameless(sites: Sequence[SideSite]) -> Nameless:
    calls = sum(site.calls for site in sites if not _function(site))
    return Nameless(calls, sum(site.calls for site in sites))


def _mean_costs(sides: tuple[Side, Side]) -> dict[str, float]:
    """Mean cost of a call by its operation, ns, over both runs; empty where it is not told."""
    calls: dict[tuple[str, ...], int] = defaultdict(int)
    ns: dict[tuple[str, ...], float] = defaultdict(float)
    for side in sides:
        if side.cost is None or side.sites is None or not side.cost.causes:
            return {}
        for site in side.sites:
            calls[OF_SITES.get(site.op, ())] += site.calls
        for causes in dict.fromkeys(OF_SITES.values()):
            ns[causes] += sum(side.cost.causes.get(cause, CauseCost()).ns for cause in causes)
    return {op: ns[of] / calls[of] if calls[of] else 0.0 for op, of in OF_SITES.items()}


def _scale(one: Side, other: Side) -> float:
    """How much more work the second run has, by calls that map."""
    if is_of_one_trace(one, other):
        return 1.0
    mine, theirs = (work_between(one, other, EVENT).of(side) for side in (one, other))
    return theirs / mine if mine and theirs else 1.0


def _converted(
    before: Mapping[tuple[str, str], UseOf], after: Mapping[tuple[str, str], UseOf], scale: float
) -> list[Converted]:
    """Functions that made less of their kmap() calls, and as many more local ones."""
    found = []
    for function, op in before:
        if op != KMAP:
            continue
        kmap = before[function, KMAP], after.get((function, KMAP), UseOf())
        local = before.get((function, LOCAL), UseOf()), after.get((function, LOCAL), UseOf())
        gone = kmap[0].calls * scale - kmap[1].calls
        come = local[1].calls - local[0].calls * scale
        noise = max(by_chance(_rate(uses[0], 1.0), _rate(uses[1], scale)) for uses in (kmap, local))
        enough = gone > _MOST_OF_IT * kmap[0].calls * scale and come >= _MOST_OF_IT * gone
        if enough and min(gone, come) > noise:
            found.append(Converted(function, kmap, local))
    return sorted(found, key=lambda one: (-one.kmap[0].calls, one.function))
