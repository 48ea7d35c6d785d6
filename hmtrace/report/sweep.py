"""Many machines on one page: the table, the heat map of two axes, what was left out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.style import Style
from rich.text import Text

from collectors.records import dataclass, field
from hmtrace.report.caveats import caveats_section
from hmtrace.report.document import schema, source_document
from hmtrace.report.machine import machine_in_words
from hmtrace.report.parts import Fitted, Valued, heading, indented, labelled, plain_table
from hmtrace.report.plain import plain
from hmtrace.report.sidebyside import MEANINGS, SIGNS
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import NA, clean, count, duration, number, plural, share, size
from hmtrace.report.verdict import change_in_words
from replay.machine.arches import ARCHES
from replay.whatif.caveats import BEGINS_EMPTY, split_in_words
from replay.whatif.figures import FIGURES, sense_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome
    from replay.whatif.sweep import LeftOut, SweptMachine

COLUMNS: Final = (
    "lowmem", "highmem", "unused", "vmalloc", "kmap", "pool_flushes", "waits", "asleep", "failures",
    "purges", "ipis", "cost_ns",
)  # fmt: skip
"""Figures of the table, as far as they are not the same on all machines."""
TITLES: Final = {
    "pool_flushes": "flushes", "cost_ns": "cost", "cost_share": "share", "wait_ns": "waited",
    "largest_hole": "hole", "arena_live": "in use", "user": "user space",
}  # fmt: skip
IN_MIB: Final = ("lowmem", "highmem", "unused", "user", "vmalloc")
"""Figures that are shown in whole MiB, without the unit."""
_SHOWN: Final[dict[str, Callable[[float | None], str]]] = {
    **dict.fromkeys(("arena_live", "largest_hole"), size),
    **dict.fromkeys(("wait_ns", "cost_ns", "lock_hold_ns"), duration),
    **dict.fromkeys(("cost_share", "lock_share"), share),
    "scan": number,
}
_SPARE: Final = (
    "ipis", "vmalloc", "purges", "lowmem", "asleep", "kmap", "waits", "failures", "pool_flushes",
    "highmem",
)  # fmt: skip
ELSEWHERE: Final = "wider, or -o F.csv"
_CHANGES: Final = ("cost_change_low_ns", "cost_change_ns", "cost_change_high_ns")
NONE: Final = "·"
UNMET: Final = "unmet"
"""Stands for a machine that does not meet what is asked."""
_BOUNDS: Final = tuple(sign for sign in SIGNS.values() if sign)
_MOST_ROWS: Final = 40
UNFIT: Final = {"wrong", "stuck", "stuck?"}
"""Words of ``than now`` for machines on which the workload would not have run as it did."""
_SHADES: Final = ("green", "yellow", "dark_orange", "red")
_MOST_SHADED: Final = 16
"""Columns of a heat map at most."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep of one capture found.

    Attributes
    ----------
    source, assumptions
        What was read, and what its machine's files left open.
    baseline
        The captured machine.
    axes
        The words of the values, by axis.
    machines
        The best first.
    left_out
        Combinations that no kernel can have.
    by
        The figure that they are ranked by.
    captured
        Words of those among them that are the captured machine.
    without
        Machines that do not meet what ``--where`` asks.
    numbers
        The values of axes that are numbers, in the order of their words.
    conditions
        What ``--where`` asks.
    """

    source: InputSummary
    assumptions: tuple[str, ...]
    baseline: Outcome
    axes: dict[str, tuple[str, ...]]
    machines: tuple[SweptMachine, ...]
    left_out: tuple[LeftOut, ...]
    by: str
    captured: tuple[dict[str, str], ...] = ()
    without: int = 0
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()

    def is_captured(self, machine: SweptMachine) -> bool:
        """Whether a machine is the captured one."""
        return machine.words in self.captured


def values_in_words(words: Mapping[str, str]) -> str:
    """The values of a machine's axes, safe to print: ``split 2g, ram 2G``."""
    return ", ".join(f"{name} {clean(word)}" for name, word in words.items())


def shown(name: str, machine: SweptMachine) -> str:
    """A figure of a machine."""
    apart = machine.figures["arena_apart"]
    return figure_in_words(name, machine.figures[name], machine.bound, apart)


def figure_in_words(
    name: str, value: float | None, bound: str | None, apart: float | None = 0
) -> str:
    """A figure of an outcome, with ≥, ≤ or ≈ where it is a bound: nothing, too, may be one."""
    sense = sense_of(name, value, bound, apart)
    if value == 0 and name != "lowmem" and sense is None:
        return NONE
    if name in IN_MIB and value is not None:
        return count(int(value) >> 20)
    text = _SHOWN.get(name, count)(value)
    return f"{SIGNS[sense]} {text}" if sense else text


def sweep_renderables(sweep: Sweep, most: int = _MOST_ROWS) -> Iterator[RenderableType]:
    """Lines and sections of `sweep`.

    Parameters
    ----------
    sweep
        What was found.
    most
        Machines that are listed.

    Yields
    ------
    RenderableType
        Title, the captured machine, the machines, a heat map where two axes vary, what was left
        out, caveats.
    """
    baseline = sweep.baseline
    yield from title_lines("sweep", sweep.source)
    yield Text()
    yield labelled([("captured", machine_in_words(baseline.machine, baseline.layout))])
    yield from machines_section(sweep, most)
    yield from _heat_map(sweep)
    yield from left_out_section(sweep)
    yield from caveats_section(caveats_of(sweep))
    yield Text()
    yield reproducibility(sweep.source)


def machines_section(sweep: Sweep, most: int) -> Iterator[RenderableType]:
    """The best machines with their figures, and what is to be known of the others.

    Yields
    ------
    RenderableType
    """
    yield heading(_title(sweep))
    if sweep.machines:
        yield indented(_table(sweep, most))
        yield indented(Text("\n".join(_asides(sweep, most)), style="dim"))
    elif sweep.without:
        yield indented(Text(_unmet(sweep.without)))


def _title(sweep: Sweep) -> str:
    least = "most" if FIGURES[sweep.by].more_is_better else "least"
    return f"{plural(len(sweep.machines), 'machine')}, {least} {sweep.by} first"


def columns_of(sweep: Sweep) -> list[str]:
    """Figures that tell machines apart, and the one that they are ranked by."""
    wanted = [*COLUMNS, sweep.by] if sweep.by not in COLUMNS else list(COLUMNS)
    return [name for name in wanted if name == sweep.by or not _is_same(sweep, name)]


def _is_same(sweep: Sweep, name: str) -> bool:
    return not varies(sweep.machines, name)


def varies(machines: Collection[SweptMachine], name: str) -> bool:
    """Whether a figure tells machines apart; nothing on all of them does not, bound or not."""
    told = _different(machines, name)
    words = _in_words(told, name)
    first = next(words, None)
    return any(value != 0 for value, _, _ in told) and any(one != first for one in words)


def shown_of_all(machines: Collection[SweptMachine], name: str) -> str:
    """A figure that is the same on all: as a bound if it is one on any of them."""
    words = list(_in_words(_different(machines, name), name))
    return next((one for one in words if one.startswith(_BOUNDS)), words[0])


_Told = tuple[float | None, str | None, float | None]


def _different(machines: Collection[SweptMachine], name: str) -> Collection[_Told]:
    """What the words of a figure are made of, each once: its value, its bound, and ``apart``."""
    return dict.fromkeys((m.figures[name], m.bound, m.figures["arena_apart"]) for m in machines)


def _in_words(told: Iterable[_Told], name: str) -> Iterator[str]:
    return (figure_in_words(name, *one) for one in told)


def _table(sweep: Sweep, most: int) -> RenderableType:
    names, columns = list(sweep.axes), columns_of(sweep)
    asleep, is_told = sweep.baseline.pool.asleep, _is_change_told(sweep)
    titles = [
        *((name, "left") for name in names),
        *((TITLES.get(name, name), "right") for name in columns),
        *((("than now", "left"),) if is_told else ()),
    ]
    rows = []
    for machine in sweep.machines[:most]:
        words = [clean(machine.words[name]) for name in names]
        if sweep.is_captured(machine) and words:
            words[0] += " *"
        places = [sweep.axes[name].index(machine.words[name]) for name in names]
        than_now = [Text(than_captured(machine, asleep))] if is_told else []
        figures = (Valued(shown(name, machine), machine.figures[name]) for name in columns)
        rows.append([*map(Valued, words, places), *figures, *than_now])
    return Fitted(titles, rows, spare_titles(sweep.by), ELSEWHERE)


def spare_titles(*needed: str) -> list[str]:
    """Titles of the figures that a narrow page does without, the first to go first."""
    return [TITLES.get(name, name) for name in _SPARE if name not in needed]


def than_captured(machine: SweptMachine, asleep: int) -> str:
    """Whether a machine costs less than the captured one, and whether that is certain.

    ``wrong`` where kmap() calls would be wrong as kmap_local_page(): that kernel does not run.
    `asleep`: so many tasks sleep for ever on the captured one.
    """
    if machine.figures["local_wrong"]:
        return "wrong"
    low, likely, high = (machine.figures[name] or 0 for name in _CHANGES)
    stuck = int(machine.figures["asleep"] or 0) - asleep
    bound = "about" if machine.figures["arena_apart"] else machine.bound
    return change_in_words(low, likely, high, bound, stuck)


def _changes(sweep: Sweep) -> set[str]:
    """Words of the column ``than now``."""
    return {than_captured(machine, sweep.baseline.pool.asleep) for machine in sweep.machines}


def _is_change_told(sweep: Sweep) -> bool:
    """Whether ``than now`` tells machines apart, or tells of one that would not run."""
    changes = _changes(sweep)
    return len(changes) > 1 or bool(UNFIT & changes)


def _asides(sweep: Sweep, most: int) -> list[str]:
    lines = []
    is_unused = not _is_same(sweep, "unused")
    if len(sweep.machines) > most:
        more = len(sweep.machines) - most
        lines.append(f"… {count(more)} more: -n 0 lists all, -o F.parquet or F.csv writes them")
    if len(sweep.machines) > 1:
        same = [name for name in COLUMNS if name not in (sweep.by, "unused")]
        same = [name for name in same if _is_same(sweep, name)]
        words = [f"{TITLES.get(name, name)} {shown_of_all(sweep.machines, name)}" for name in same]
        if words:
            lines.append(f"the same on all: {', '.join(words)}")
    if any(map(sweep.is_captured, sweep.machines)):
        lines.append("* the captured machine")
    changes = _changes(sweep)
    if any(change.endswith("?") for change in changes) and _is_change_told(sweep):
        lines.append("? not over the whole range of costs, or by a bound alone")
    if {"stuck", "stuck?"} & changes:
        lines.append("stuck: tasks sleep for ever, so that work is missing; these come last")
    if "wrong" in changes:
        lines.append(
            "wrong: kmap_local_page() would be too deep (BUG), handed on or not LIFO: see hmtrace "
            "replay --convert; these come last"
        )
    if is_unused:
        lines.append("unused: RAM that a kernel without HIGHMEM does not reach")
    told = {*COLUMNS, sweep.by} - (set() if is_unused else {"unused"})
    lines.append(f"in whole MiB: {', '.join(TITLES.get(n, n) for n in IN_MIB if n in told)}")
    lines.extend(meaning_of_signs(sweep.machines, [*COLUMNS, sweep.by]))
    if sweep.without:
        lines.append(_unmet(sweep.without))
    return lines


def _unmet(number: int) -> str:
    return f"{plural(number, 'machine')} {'does' if number == 1 else 'do'} not meet --where"


def meaning_of_signs(machines: Iterable[SweptMachine], names: Iterable[str]) -> list[str]:
    """What the signs before these figures mean, where there are any."""
    senses = {
        sense_of(name, value, machine.bound, machine.figures["arena_apart"])
        for machine in machines
        if machine.bound is not None or machine.figures["arena_apart"]
        for name, value in machine.figures.items()
        if name in names
    }
    return [f"{SIGNS[sense]} {words}" for sense, words in MEANINGS.items() if sense in senses]


def _heat_map(sweep: Sweep) -> Iterator[RenderableType]:
    """The figure over two axes, where exactly two have several values."""
    several = [name for name, words in sweep.axes.items() if len(words) > 1]
    if len(several) != 2 or len(sweep.axes[several[1]]) > _MOST_SHADED:
        return
    down, across = several
    cells = {(m.words[down], m.words[across]): m for m in sweep.machines}
    values = sorted({v for m in sweep.machines if (v := m.figures[sweep.by]) is not None})
    if len(values) < 2:
        return
    lacking = {(one.words[down], one.words[across]) for one in sweep.left_out}
    aside = f"{NONE} none, n/a no such kernel"
    aside += f", {UNMET}: by --where" if sweep.without else ""
    yield heading(f"{sweep.by} over {down} and {across}", aside)
    table = plain_table((down, "left"), *((clean(word), "right") for word in sweep.axes[across]))
    for row in sweep.axes[down]:
        texts = [Text(clean(row))]
        for column in sweep.axes[across]:
            machine = cells.get((row, column))
            if machine is None:
                texts.append(Text(NA if (row, column) in lacking else UNMET, style="dim"))
                continue
            change = than_captured(machine, sweep.baseline.pool.asleep)
            if change in UNFIT:
                texts.append(Text(change, style="red"))
                continue
            value = machine.figures[sweep.by]
            texts.append(Text(shown(sweep.by, machine), _shade(value, values, sweep.by)))
        table.add_row(*texts)
    yield indented(table)


def _shade(value: float | None, values: list[float], by: str) -> Style:
    """Colour by rank among the values that there are."""
    if value is None:
        return Style()
    rank = values.index(value) / (len(values) - 1)
    rank = 1 - rank if FIGURES[by].more_is_better else rank
    return Style(color=_SHADES[min(int(rank * len(_SHADES)), len(_SHADES) - 1)])


def left_out_section(sweep: Sweep, *, numbered: bool = False) -> Iterator[RenderableType]:
    """What no kernel can have, and how a kernel could that has not the captured one's PAE.

    Parameters
    ----------
    sweep
        What was found.
    numbered
        Reasons have numbers, that what stands for a combination elsewhere has, too.

    Yields
    ------
    RenderableType
        Nothing where nothing was left out.
    """
    left_out, reasons = sweep.left_out, reasons_of(sweep.left_out)
    if not reasons:
        return
    yield heading(f"{plural(len(left_out), 'combination')} left out", "no kernel can have them")
    is_numbered = numbered and len(reasons) > 1
    yield labelled(
        [
            (f"{f'{NA} {at}: ' if is_numbered else ''}{count(times)} ×", clean(reason))
            for at, (reason, times) in enumerate(reasons, 1)
        ]
    )
    arch = ARCHES[sweep.baseline.machine.arch]
    narrow = {name for name in arch.splits if name not in arch.pae_splits}
    splits = dict.fromkeys(one.words.get("split", "") for one in left_out)
    wanted = [name for name in splits if name in narrow]
    if sweep.baseline.machine.pae and "pae" not in sweep.axes and wanted:
        words = f"{', '.join(wanted)} without {arch.pae_name}: --axis pae=on,off"
        yield indented(Text(words, style="dim"))


def reasons_of(left_out: Sequence[LeftOut]) -> list[tuple[str, int]]:
    """Why no kernel can have combinations, and how many; the commonest reason first."""
    return Counter(one.reason for one in left_out).most_common()


def caveats_of(sweep: Sweep) -> list[str]:
    """What limits all of the machines' figures."""
    machines, common = sweep.machines, common_caveats(sweep.machines)
    more = any(len(machine.caveats) > len(common) for machine in machines)
    notes = ["each machine has caveats of its own: hmtrace replay shows them"] if more else []
    return [*common, *_of_rows(sweep, common), *notes, *sweep.assumptions, *sweep.source.notes]


def common_caveats(machines: Sequence[SweptMachine]) -> list[str]:
    """Caveats that all machines have."""
    if not machines:
        return []
    held = set.intersection(*(set(machine.caveats) for machine in machines))
    return [caveat for caveat in machines[0].caveats if caveat in held]


def _of_rows(sweep: Sweep, common: Sequence[str]) -> Iterator[str]:
    """Caveats of some machines that the table would mislead without."""
    arch = ARCHES[sweep.baseline.machine.arch]
    names = {machine.words.get("split", "") for machine in sweep.machines}
    for name in sorted(names & arch.proposed_splits.keys()):
        told = split_in_words(name, arch.proposed_splits[name])
        if told not in common:
            yield told
    for machine in sweep.machines:
        if machine.words in sweep.captured and BEGINS_EMPTY in machine.caveats:
            flushes = plural(sweep.baseline.pool.flushes, "flush", "flushes")
            yield (
                "the pool begins empty on all machines, so that they compare, the captured one "
                f"too, of which hmtrace report counts {flushes}"
            )
            return


def sweep_document(sweeps: Sequence[Sweep], axes: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Document of `sweep`."""
    return {
        **schema("sweep"),
        "axes": {name: list(words) for name, words in axes.items()},
        "captures": [
            {
                **source_document(sweep.source),
                "path": sweep.source.origin.path,
                "assumptions": list(sweep.assumptions),
            }
            for sweep in sweeps
        ],
        "machines": [row for sweep in sweeps for row in machine_rows(sweep)],
        "left_out": [
            {"capture": sweep.source.origin.path, **one.words, "reason": one.reason}
            for sweep in sweeps
            for one in sweep.left_out
        ],
    }


def machine_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """A row per machine: the capture, the axes' values, whether it is the captured one, figures."""
    for machine in sweep.machines:
        yield {
            "capture": sweep.source.origin.path,
            **machine.words,
            "is_captured": machine.words in sweep.captured,
            "bound": machine.bound,
            "figures": plain(machine.figures),
            "caveats": list(machine.caveats),
        }
