"""The calls that took longest: when, where, who, what, how far it reached, and who stood still."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

from hmtrace.report.parts import Elided, Valued, heading, indented, joined, labelled, plain_table
from hmtrace.report.text import clean, clock, count, duration, plural, symbol
from hmtrace.report.wording import task_in_words, times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from replay.outcome import LongCall, Observed, Running

_BEGAN: Final = {
    "flush_unused": "kmap_flush_unused()",
    "pool_flush": "a flush of the pool",
    "area_purge": "a lazy purge",
}
"""What a call may wait behind, in words."""
_QUICK: Final = frozenset({"kmap", "kunmap", "kmap_get", "kmap_local", "kunmap_local"})
"""Calls that have next to nothing to do."""
_TAKES_LOCK: Final = _QUICK - {"kmap_local", "kunmap_local"}
_STOOD: Final = "never off its CPU: interrupts, or the CPU itself stood still"
_STOOD_OR_SPUN: Final = "never off its CPU: kmap_lock, interrupts, or the CPU stood still"
_UNSEEN: Final = {
    "lost": "events were lost in it: who kept it, or waited, is not known",
    "idle": "of an idle task, of which each CPU has one: who kept it is not known",
    "task": "its task is not known, nor who kept it",
    "return": "its return is not in the trace: who kept it is not known",
    "clock": "the trace clock counts no time: who kept it is not known",
    "switches": "who was stopped is not known: sched_switch was not traced",
    "edge": "no switch was traced before or after it: who kept it is not known",
}
"""By the reason why nothing is known of what was around a call, what is said of it."""
_FOR_ALL: Final = ("switches", "clock")
"""Reasons that hold for every call of a trace: said once."""
_SLEPT: Final = 0.05
"""Share of a call from which on it is worth a word that its task did not run."""


def longest_section(observed: Observed | None, most: int) -> Iterator[RenderableType]:
    """The calls that took longest.

    Parameters
    ----------
    observed
        None for another machine than the captured one.
    most
        How many.

    Yields
    ------
    RenderableType
        Heading and one row per call, what was around them, and what to ask next; nothing where no
        time was traced, or none is wanted.
    """
    calls = () if observed is None else observed.longest[:most]
    if observed is None or not calls:
        return
    yield heading("Longest calls", "entry to return, sleeps included; inner calls in outer ones")
    yield indented(_table(calls))
    around = [(clock(call.at.ts), _around(call)) for call in calls]
    if told := [(at, Text(words)) for at, words in around if words]:
        yield Text()
        yield labelled(told)
    yield indented(Text("\n".join(_notes(observed, calls)), style="dim"))


_COLUMNS: Final = (
    ("at", "left"),
    ("CPU", "right"),
    ("task", "left"),
    ("call", "left"),
    ("took", "right"),
    ("pages", "right"),
    ("IPIs", "right"),
)
"""What a table of the longest calls tells of each, where it is known of any."""


def _table(calls: Sequence[LongCall]) -> RenderableType:
    every = [_cells(call) for call in calls]
    told = [at for at in range(len(_COLUMNS)) if any(row[at].plain for row in every)]
    rows = [[row[at] for at in told] for row in every]
    table = plain_table(*(_COLUMNS[at] for at in told), ("from", "left"))
    for column, cells in zip(table.columns, zip(*rows, strict=True), strict=False):
        column.min_width = max(len(str(column.header)), *(cell.cell_len for cell in cells))
    table.columns[-1].no_wrap = False  # so that it is the one that gives way
    for call, row in zip(calls, rows, strict=True):
        site = "" if call.at.site is None else symbol(call.at.site)
        table.add_row(*row, Elided(site, len(site) - max(site.rfind("+"), 0)))
    return table


def _cells(call: LongCall) -> tuple[Text, ...]:
    """What is told of a call, but for the place that it came from."""
    return (
        Valued(clock(call.at.ts), call.at.ts),
        Text("" if call.at.cpu is None else str(call.at.cpu)),
        Text(task_in_words(call.at)),
        Text(clean(call.op)),
        Valued(duration(call.ns), call.ns),
        Valued("" if call.pages is None else count(call.pages), call.pages),
        Valued(count(call.ipis) if call.flushes else "", call.ipis),
    )


def _around(call: LongCall) -> str:
    """What kept its task, and whom it stopped."""
    return joined(
        [
            _off(call),
            behind_in_words(call),
            _stopped("stopped by its IPIs: ", call.interrupted),
            _stopped("waited for it: ", call.waiters),
        ]
    )


def _off(call: LongCall) -> str:
    """That its task did not run for a part of the time, and who did."""
    if call.unseen is not None:
        return "" if call.unseen in _FOR_ALL else _UNSEEN[call.unseen]
    if not was_off(call):
        if call.op not in _QUICK or call.behind:
            return ""
        return _STOOD_OR_SPUN if call.op in _TAKES_LOCK else _STOOD
    return off_in_words(call)


def was_off(call: LongCall) -> bool:
    """Whether its task did not run for a part of the time that is worth a word."""
    return (call.off_ns or 0) >= _SLEPT * call.ns


def off_in_words(call: LongCall) -> str:
    """How long its task did not run, and who did; of a call whose `off_ns` is known."""
    assert call.off_ns is not None
    slept = f", asleep {times(call.sleeps)}" if call.sleeps else ""
    ran = [one for one in call.instead or () if (one.ns or 0) >= _SLEPT * call.ns]
    others = ", preempted by " + ", ".join(map(_task, ran)) if ran else ""
    return f"off its CPU {duration(call.off_ns)}{slept}{others}"


def behind_in_words(call: LongCall) -> str:
    """What may have held its lock when it began to wait."""
    held = call.behind
    if held is None:
        return ""
    by = _BEGAN.get(held.op, clean(held.op))
    return f"behind {by} of {task_in_words(held.at)} since {clock(held.at.ts)}"


def _stopped(words: str, tasks: tuple[Running, ...] | None) -> str:
    return words + ", ".join(map(_task, tasks)) if tasks else ""


def _task(task: Running) -> str:
    """A task, where it ran, and how long."""
    name = "idle" if not task.pid else f"{clean(task.comm or '', 20)}[{task.pid}]"
    where = "" if task.cpu is None else f" on CPU {task.cpu}"
    return name + where + ("" if task.ns is None else f" {duration(task.ns)}")


def _notes(observed: Observed, calls: Sequence[LongCall]) -> Iterator[str]:
    """What the calls have in common, how often it happens, and what to ask next.

    Yields
    ------
    str
        A line each.
    """
    yield from (_UNSEEN[why] for why in _FOR_ALL if any(call.unseen == why for call in calls))
    behind = Counter(
        _BEGAN.get(call.behind.op, clean(call.behind.op)) for call in calls if call.behind
    )
    for what, number in behind.most_common():
        yield f"{count(number)} of {count(len(calls))} began, or fell asleep, behind {what}"
    marks = observed.marks
    if marks is None:
        return
    wraps, passes, purges = map(sum, (marks.wraps, marks.passes, marks.purges))
    happened = [
        plural(wraps, "wrap") if wraps else "",
        f"{count(passes)} by kmap_flush_unused()" if passes else "",
        plural(purges, "lazy purge") if purges else "",
    ]
    if any(happened):
        yield f"flushes of every CPU's TLB: {', '.join(filter(None, happened))}"
    if wraps:
        yield "a pool without wraps: hmtrace sweep CAPTURE --find min:pkmap --where wraps=0"
    if passes:
        yield "no pool size avoids those of kmap_flush_unused(): set_memory_*(), modules, BPF"
