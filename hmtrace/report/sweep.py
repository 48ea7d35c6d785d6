"""Many machines on one page: the table, the heat map of two axes, what was left out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.style import Style
from rich.text import Text

from collectors.records import dataclass
from hmtrace.report.caveats import caveats_section
from hmtrace.report.document import schema, source_document
from hmtrace.report.machine import machine_in_words
from hmtrace.report.parts import Fitted, heading, indented, labelled, plain_table
from hmtrace.report.plain import plain
from hmtrace.report.sidebyside import MEANINGS, SIGNS
from hmtrace.report.source import reproducibility, title_lines
from hmtrace.report.text import clean, count, duration, number, plural, share, size
from hmtrace.report.verdict import change_in_words
from replay.machine.arches import ARCHES
from replay.whatif.caveats import BEGINS_EMPTY, split_in_words
from replay.whatif.figures import FIGURES, sense_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

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
_BOUNDS: Final = tuple(sign for sign in SIGNS.values() if sign)
_MOST_ROWS: Final = 40
_UNFIT: Final = {"wrong", "stuck", "stuck?"}
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
    yield from _opening(sweep)
    yield heading(_title(sweep))
    if sweep.machines:
        yield indented(_table(sweep, most))
        yield indented(Text("\n".join(_asides(sweep, most)), style="dim"))
    elif sweep.without:
        yield indented(Text(_unmet(sweep.without)))
    yield from _heat_map(sweep)
    yield from _left_out(sweep)
    yield from caveats_section(_caveats(sweep))
    yield Text()
    yield reproducibility(sweep.source)


def _opening(sweep: Sweep) -> Iterator[RenderableType]:
    baseline = sweep.baseline
    yield from title_lines("sweep", sweep.source)
    yield Text()
    yield labelled([("captured", machine_in_words(baseline.machine, baseline.layout))])


def _title(sweep: Sweep) -> str:
    least = "most" if FIGURES[sweep.by].more_is_better else "least"
    return f"{plural(len(sweep.machines), 'machine')}, {least} {sweep.by} first"


def _columns(sweep: Sweep) -> list[str]:
    """Figures that tell machines apart, and the one that they are ranked by."""
    wanted = [*COLUMNS, sweep.by] if sweep.by not in COLUMNS else list(COLUMNS)
    return [name for name in wanted if name == sweep.by or not _is_same(sweep, name)]


def _is_same(sweep: Sweep, name: str) -> bool:
    return not varies(sweep.machines, name)


def varies(machines: Collection[SweptMachine], name: str) -> bool:
    """Whether a figure tells machines apart; nothing on all of them does not, bound or not."""
    if not any(machine.figures[name] != 0 for machine in machines):
        return False
    return len({shown(name, machine) for machine in machines}) > 1


def shown_of_all(machines: Collection[SweptMachine], name: str) -> str:
    """A figure that is the same on all: as a bound if it is one on any of them."""
    words = [shown(name, machine) for machine in machines]
    return next((one for one in words if one.startswith(_BOUNDS)), words[0])


def _table(sweep: Sweep, most: int) -> RenderableType:
    names, columns = list(sweep.axes), _columns(sweep)
    asleep, is_told = sweep.baseline.pool.asleep, _is_change_told(sweep)
    titles = [
        *((name, "left") for name in names),
        *((TITLES.get(name, name), "right") for name in columns),
        *((("than now", "left"),) if is_told else ()),
    ]
    rows = []
    for machine in sweep.machines[:most]:
        words = [clean(machine.words[name]) for name in names]
        if machine.words in sweep.captured and words:
            words[0] += " *"
        than_now = [Text(than_captured(machine, asleep))] if is_told else []
        figures = (Text(shown(name, machine)) for name in columns)
        rows.append([*map(Text, words), *figures, *than_now])
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
    changes = _changes(sweep)
    return len(changes) > 1 or bool(_UNFIT & changes)


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
    if sweep.captured:
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
    yield heading(f"{sweep.by} over {down} and {across}", f"{NONE} none, n/a no such kernel")
    table = plain_table((down, "left"), *((clean(word), "right") for word in sweep.axes[across]))
    for row in sweep.axes[down]:
        texts = [Text(clean(row))]
        for column in sweep.axes[across]:
            machine = cells.get((row, column))
            if machine is None:
                texts.append(Text("n/a", style="dim"))
                continue
            change = than_captured(machine, sweep.baseline.pool.asleep)
            if change in _UNFIT:
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


def _left_out(sweep: Sweep) -> Iterator[RenderableType]:
    """What no kernel can have, and how a kernel could that has not the captured one's PAE."""
    left_out = sweep.left_out
    if not left_out:
        return
    yield heading(f"{plural(len(left_out), 'combination')} left out", "no kernel can have them")
    reasons = Counter(one.reason for one in left_out)
    yield labelled([(f"{count(n)} ×", clean(reason)) for reason, n in reasons.most_common()])
    arch = ARCHES[sweep.baseline.machine.arch]
    narrow = {name for name in arch.splits if name not in arch.pae_splits}
    splits = dict.fromkeys(one.words.get("split", "") for one in left_out)
    wanted = [name for name in splits if name in narrow]
    if sweep.baseline.machine.pae and "pae" not in sweep.axes and wanted:
        words = f"{', '.join(wanted)} without {arch.pae_name}: --axis pae=on,off"
        yield indented(Text(words, style="dim"))


def _caveats(sweep: Sweep) -> list[str]:
    """What limits all of the machines' figures."""
    machines = sweep.machines
    common = [
        caveat
        for caveat in (machines[0].caveats if machines else ())
        if all(caveat in machine.caveats for machine in machines)
    ]
    more = any(len(machine.caveats) > len(common) for machine in machines)
    notes = ["each machine has caveats of its own: hmtrace replay shows them"] if more else []
    return [*common, *_of_rows(sweep, common), *notes, *sweep.assumptions, *sweep.source.notes]


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
