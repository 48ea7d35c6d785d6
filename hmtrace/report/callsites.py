"""What `sites` says: who maps, where in the source, how long; what kmap_local would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.text import Text

from collectors.traceevent.stacks import is_wrapper
from hmtrace.report.conversion import reasons, verdict
from hmtrace.report.parts import heading, indented, labelled, plain_table
from hmtrace.report.sites import site_name
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import clean, count, duration, plural, share, symbol
from hmtrace.report.vmlinux import sizes_section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from collectors.dwarf.debug import Frame
    from collectors.symbols.places import SourcePlace
    from hmtrace.report.source import InputSummary
    from hmtrace.report.vmlinux import SizeCheck
    from replay.whatif.callers import Callers, Exchange, SiteUse

_WORDS: Final = {
    "fits": "yes",
    "costs": "yes, at a price",
    "open": "not certain",
    "wrong": "no",
}
_SHORT: Final = {
    "kmap_local_page": "local", "kmap_local_folio": "local", "kmap_local_pfn": "local",
    "kmap_local": "local", "kmap_atomic": "atomic", "kmap_atomic_pfn": "atomic",
    "__vmalloc_node_range": "vmalloc", "__vmalloc_node": "vmalloc", "__vmalloc": "vmalloc",
}  # fmt: skip
"""Where there is little room."""
_WIDE: Final = 110
_CHAIN: Final = 4
"""Functions of a chain of inlines that are shown."""
_KINDS: Final = {"kmap": "kmap", "kmap_local": "local"}
_PARTED: Final = ("fs", "drivers")
"""Folders of the kernel's source each of whose folders is something of its own."""
KERNEL: Final = "kernel"
NAMELESS: Final = "(no symbol)"
ORDERS: Final = {
    "calls": "most calls first",
    "cost": "the dearest first",
    "held": "longest held at the median first",
    "p99": "longest held at the 99th percentile first",
    "longest": "the longest mapping first",
    "depth": "the deepest first",
    "tasks": "most tasks first",
    "irq": "most in interrupts first",
    "switch": "most over context switches first",
    "order": "most out of order first",
    "other-task": "most unmapped by others first",
    "at-end": "most held at the end first",
    "bytes": "most bytes first",
    "module": "by module",
    "api": "by API",
    "site": "by name",
}
"""What may come first, in words."""
_OPTIONAL: Final = ("irq", "order", "other task", "at end")
"""Columns that are shown where one of the sites has any."""


class CallSites(NamedTuple):
    """What was found.

    Attributes
    ----------
    callers
        The call sites.
    places
        By the text of each where it is in the source.
    notes
        What could not be found out there.
    order
        What comes first: a key of the table's titles.
    sizes
        What a vmlinux says of sizes, beside the capture.
    """

    callers: Callers
    places: Mapping[str, SourcePlace]
    notes: tuple[str, ...]
    order: str
    sizes: tuple[SizeCheck, ...] = ()

    def text_of(self, use: SiteUse) -> str:
        """A site as the trace has it; of an address the symbol that was found for it meanwhile."""
        text = use.site.site
        return self.places[text].text or text if text.startswith("0x") else text

    def name_of(self, use: SiteUse) -> str:
        """Symbol of a site, or its address and, where that is known, its module."""
        place = self.places[use.site.site]
        name = symbol(self.text_of(use)) or "?"
        return f"{name} [{clean(place.module)}]" if place.module and not place.symbol else name


def api_and_user(use: SiteUse, frames: Sequence[Frame]) -> tuple[str, Frame | None]:
    """The function of the API that a site calls, and who calls it: inlines are looked through.

    Parameters
    ----------
    use
        The call site.
    frames
        The functions that it is in, the innermost first.

    Returns
    -------
    api, user : str, Frame or None
        The operation's name, and None, where no file tells.
    """
    api = use.site.op
    for at, frame in enumerate(frames):
        if not is_wrapper(frame.function) or at == len(frames) - 1:
            return api, frame
        api = frame.function.removesuffix("_noprof")  # of CONFIG_MEM_ALLOC_PROFILING
    return api, None


def nameless_note(uses: Iterable[SiteUse]) -> list[str]:
    """What to record where it is not known who maps; none: nothing.

    Functions that map for others hide who asks them, and an address that no symbol has is mostly of
    a module that was loaded after the symbols were read.
    """
    wrappers: dict[str, int] = {}
    bare: dict[str, int] = {}
    for use in uses:
        name = use.site.site.partition("/")[0]
        calls = wrappers if is_wrapper(use.site.site) else bare if name.startswith("0x") else None
        if calls is not None:
            calls[name] = calls.get(name, 0) + use.site.count
    notes = []
    if bare:
        notes.append(
            f"{_some(bare)}: no symbol; /proc/kallsyms as it is at the end, beside the trace as "
            "kallsyms.end, names modules that were loaded meanwhile"
        )
    if wrappers:
        notes.append(
            f"{_some(wrappers)}: maps for others; stack traces of its event tell for whom (echo "
            "stacktrace > trigger)"
        )
    return notes


def _some(calls: dict[str, int]) -> str:
    """Sites and their calls, the first of them."""
    names = ", ".join(f"{name} ({plural(n, 'call')})" for name, n in [*calls.items()][:_CHAIN])
    return names + (" and others" if len(calls) > _CHAIN else "")


def ordered(found: CallSites) -> list[SiteUse]:
    """The sites in the order that was asked for; what is not known comes last."""

    def most(value: float | None) -> float:
        return -1.0 if value is None else value

    keys: dict[str, Callable[[SiteUse], Any]] = {
        "calls": lambda use: -use.site.count,
        "cost": lambda use: -use.cost_ns,
        "held": lambda use: -most(use.held and use.held.median),
        "p99": lambda use: -most(use.held and use.held.p99),
        "longest": lambda use: -most(use.held and use.held.longest),
        "depth": lambda use: -most(use.depth),
        "tasks": lambda use: -use.site.tasks,
        "irq": lambda use: -most(use.in_interrupt and use.in_interrupt * use.site.count),
        "switch": lambda use: -most(use.over_switch),
        "order": lambda use: -most(use.out_of_order),
        "other-task": lambda use: -most(use.other_task),
        "at-end": lambda use: -most(use.held_at_end),
        "bytes": lambda use: -most(use.site.bytes),
        "module": lambda use: (module_of(found.places[use.site.site]), -use.site.count),
        "api": lambda use: (
            api_and_user(use, found.places[use.site.site].frames)[0],
            -use.site.count,
        ),
        "site": lambda use: use.site.site,
    }
    key = keys[found.order]
    return sorted(found.callers.uses, key=lambda use: (key(use), use.site.site, use.site.op))


_NO_CALL: Final = (
    "the trace has no call of kmap(), kmap_local_page(), vmap() or others; what the arena's own"
    " events (alloc_vmap_area) tell does not say who asked: probes of those functions do"
    " (hmtrace recorder)"
)


def callsites_renderables(
    source: InputSummary, found: CallSites, number: int
) -> Iterator[RenderableType]:
    """The page of `sites`; `number` call sites at most."""
    yield from title_lines("sites", source)
    shown = ordered(found)[:number]
    total = len(found.callers.uses)
    if not total:
        yield heading("Call sites")
        yield indented(Text(_NO_CALL))
        return
    some = f"{len(shown)} of {total}, " if len(shown) < total else ""
    yield heading("Call sites", f"{some}{ORDERS[found.order]}; held: the median")
    yield indented(_SitesTable(found, shown))
    yield from _beyond(found, ordered(found)[number:])
    yield from _in_the_source(found, shown)
    yield from _conversions(found, shown)
    yield from _modules(found)
    yield from sizes_section(found.sizes)
    if found.notes:
        yield heading("Not told")
        yield labelled([("", clean(note)) for note in found.notes])
    yield Text()
    yield reproducibility(source)


class _SitesTable:
    """The table, with more columns where there is room."""

    def __init__(self, found: CallSites, shown: Sequence[SiteUse]) -> None:
        self._found, self._shown = found, shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        titles = ["calls", "held", "longest", "depth"]
        if wide:
            titles = ["calls", "tasks", "held", "p99", "longest", "depth", "switch"]
        cells = {id(use): self._cells(use) for use in self._shown}
        titles += [
            title
            for title in _OPTIONAL
            if any(told[title] not in ("-", "0") for told in cells.values())
        ]
        titles.append("cost")
        columns = [("site", "left"), ("API", "left"), *((title, "right") for title in titles)]
        table = plain_table(*columns, expand_first=True)
        for use in self._shown:
            frames = self._found.places[use.site.site].frames
            api = api_and_user(use, frames)[0]
            table.add_row(
                site_name(self._found.name_of(use)),
                Text(clean(api if wide else _SHORT.get(api, api))),
                *(cells[id(use)][title] for title in titles),
            )
        yield table

    def _cells(self, use: SiteUse) -> dict[str, str]:
        held = use.held
        depth = use.depth
        return {
            "calls": count(use.site.count),
            "tasks": count(use.site.tasks),
            "held": duration(held.median) if held else "-",
            "p99": duration(held.p99) if held else "-",
            "longest": duration(held.longest) if held else "-",
            "depth": "-" if depth is None else count(depth),
            "switch": _known(use.over_switch),
            "irq": _interrupts(use),
            "order": _known(use.out_of_order),
            "other task": _known(use.other_task),
            "at end": _known(use.held_at_end),
            "cost": duration(use.cost_ns),
        }


def _beyond(found: CallSites, others: Sequence[SiteUse]) -> Iterator[RenderableType]:
    """What of the sites that are not shown should not be overlooked."""
    said = []
    for use in others:
        told = [
            f"{count(number)} {what}"
            for number, what in (
                (use.held_at_end, "held at the end"),
                (use.out_of_order, "out of order"),
                (use.other_task, "unmapped by another task"),
            )
            if number
        ]
        if told:
            said.append(f"{found.name_of(use)}: {', '.join(told)}")
    if said:
        more = f"; {count(len(said) - _CHAIN)} more" if len(said) > _CHAIN else ""
        yield Text()
        yield labelled([("not shown", "; ".join(said[:_CHAIN]) + more)])


def _known(value: int | None) -> str:
    return "-" if value is None else count(value)


def _interrupts(use: SiteUse) -> str:
    if use.in_interrupt is None:
        return "-"
    return share(use.in_interrupt) if use.in_interrupt else "0"


def _in_the_source(found: CallSites, shown: Sequence[SiteUse]) -> Iterator[RenderableType]:
    """Where each site is in the source, with the functions that it was inlined into."""
    lines: dict[str, str] = {}
    for use in shown:
        frames = found.places[use.site.site].frames
        _, user = api_and_user(use, frames)
        if user is None:
            continue
        outer = [frame.function for frame in frames[frames.index(user) + 1 :]]
        chain = f", inlined into {' ← '.join(outer[:_CHAIN])}" if outer else ""
        chain += " ← …" * (len(outer) > _CHAIN)
        lines[found.name_of(use)] = f"{user.function} {where(user)}{chain}"
    if lines:
        yield heading("In the source")
        for site, line in lines.items():
            yield indented(site_name(site))
            yield indented(indented(indented(Text(clean(line), style="dim"))))


def where(frame: Frame) -> str:
    """File and line of a function."""
    return f"{frame.file or '?'}:{frame.line or '?'}"


def _conversions(found: CallSites, shown: Sequence[SiteUse]) -> Iterator[RenderableType]:
    """Whether each kmap() could be kmap_local_page(), and what that changes."""
    callers = found.callers
    of_kmap = [use for use in shown if use.conversion is not None]
    if callers.why_not:
        yield heading("As kmap_local_page()")
        yield indented(Text(callers.why_not))
        return
    if not of_kmap:
        return
    yield heading("As kmap_local_page()", "as far as the trace shows")
    rows: list[tuple[str, str]] = []
    for use in of_kmap:
        assert use.conversion is not None
        word = _WORDS[verdict(use.conversion, callers.limit)]
        first, *others = reasons(use.conversion, callers.limit)
        rows.append((word, f"{found.name_of(use)}: {first}"))
        rows += [("", line) for line in others]
        if use.exchange is not None:
            rows.append(("", f"alone: {_changes(use.exchange, callers.limit)}"))
    if callers.exchange is not None and len(of_kmap) > 1:
        rows.append(("all", _changes(callers.exchange, callers.limit)))
    yield labelled(rows)


def _changes(exchange: Exchange, limit: int) -> str:
    """What a conversion changes, in words."""

    def change(both: tuple[int, int]) -> str:
        return f"{count(both[0])} → {count(both[1])}"

    waits = f" · waits {change(exchange.waits)}" if exchange.waits[0] else ""
    ranged = ""
    if _gone(exchange.ranged) not in (0, _gone(exchange.flushes)):  # not those of the pool alone
        ranged = f" · ranged flushes {change(exchange.ranged)}"
    return (
        f"pool flushes {change(exchange.flushes)}{ranged} · IPIs {change(exchange.ipis)} · "
        f"single flushes {change(exchange.single)}{waits} · "
        f"worst depth {exchange.depth[1]} of {limit}"
    )


def _gone(both: tuple[int, int]) -> int:
    """How many fewer there are after than before."""
    return both[0] - both[1]


def module_of(place: SourcePlace) -> str:
    """Module of a site; of the kernel's own the folder of its source, where that is known."""
    if place.module:
        return place.module
    if not place.symbol:
        return NAMELESS
    for frame in place.frames:
        folder, *within = frame.file.split("/")
        if within and folder not in ("", "..", "include"):
            # of a file system or a driver, which
            return f"{folder}/{within[0]}" if folder in _PARTED and len(within) > 1 else folder
    return KERNEL


def _modules(found: CallSites) -> Iterator[RenderableType]:
    """Totals by module or file system."""
    totals = module_totals(found)
    if len(totals) <= 1:
        return
    yield heading("By module")
    held = any(row["held_at_end"] for row in totals)
    apis = [api for api in ("kmap", "local", "arena") if any(row[api] for row in totals)]
    titles = ["sites", "calls", "share", *(apis if len(apis) > 1 else ()), "longest"]
    titles += ["at end"] * held + ["cost"]
    table = plain_table(("module", "left"), *((title, "right") for title in titles))
    for row in totals:
        cells = {
            "sites": count(row["sites"]),
            "calls": count(row["calls"]),
            "share": share(row["share"]),
            **{api: count(row[api]) if row[api] else "-" for api in apis},
            "longest": "-" if row["longest_ns"] is None else duration(row["longest_ns"]),
            "at end": count(row["held_at_end"]),
            "cost": duration(row["cost_ns"]),
        }
        table.add_row(Text(clean(row["module"])), *(cells[title] for title in titles))
    yield indented(table)


def module_totals(found: CallSites) -> list[dict[str, Any]]:
    """What the sites of each module come to, most calls first."""
    by_module: dict[str, list[SiteUse]] = {}
    for use in found.callers.uses:
        by_module.setdefault(module_of(found.places[use.site.site]), []).append(use)
    whole = sum(use.site.count for use in found.callers.uses)
    rows = [_total(module, uses, whole) for module, uses in by_module.items()]
    return sorted(rows, key=lambda row: (-row["calls"], row["module"]))


def _total(module: str, uses: Sequence[SiteUse], whole: int) -> dict[str, Any]:
    calls = dict.fromkeys(("kmap", "local", "arena"), 0)
    for use in uses:
        calls[_KINDS.get(use.site.op, "arena")] += use.site.count
    made = sum(calls.values())
    return {
        "module": module,
        "sites": len(uses),
        "calls": made,
        "share": made / whole if whole else 0.0,
        **calls,
        "bytes": sum(use.site.bytes or 0 for use in uses),
        "longest_ns": max((use.held.longest for use in uses if use.held), default=None),
        "held_at_end": sum(use.held_at_end or 0 for use in uses),
        "cost_ns": sum(use.cost_ns for use in uses),
    }
