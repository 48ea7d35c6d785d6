"""The table of builds: what each leaves, and what the workload comes to on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Group
from rich.text import Text

from hmtrace.report.parts import Valued, plain_table
from hmtrace.report.reasons import split_of
from hmtrace.report.sidebyside import MEANINGS, SIGNS
from hmtrace.report.sweep import NONE, figure_in_words
from hmtrace.report.text import count
from replay.whatif.figures import FIGURES, sense_of
from replay.whatif.reasons import purged_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from replay.outcome import Outcome
    from replay.whatif.reasons import Advice, Option

WIDE: Final = 110
"""Columns of a terminal from which on all figures have room."""
_VERDICTS: Final = {"now": "now", "mind": "better?", "as now": "no gain"}


_BOUNDED: Final = ("kmap", "local", "failures", "cost_ns")
"""Figures of the table that may be bounds."""


class _FigureColumn(NamedTuple):
    """A column of figures: its title, what stands in it, and in which tables."""

    title: str
    value: Callable[[Option], Valued]
    narrow: bool = True
    wide: bool = True


def verdict_word(option: Option) -> str:
    """What stands in the last column."""
    return _VERDICTS.get(option.verdict, option.verdict)


def options_table(advice: Advice) -> OptionsTable:
    """The table of all builds, and what its signs mean."""
    return OptionsTable(advice)


class OptionsTable:
    """All builds with as many figures as there is room for."""

    def __init__(self, advice: Advice) -> None:
        self._advice = advice

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*self.parts(wide=options.max_width >= WIDE))

    def parts(self, *, wide: bool) -> tuple[Table, Text]:
        """The table, with all figures where it is wide, and what its signs mean."""
        columns = [c for c in self._columns(wide=wide) if (c.wide if wide else c.narrow)]
        table = plain_table(
            ("", "left"), ("split", "left"), *((c.title, "right") for c in columns),
            ("verdict", "left"),
        )  # fmt: skip
        for option in self._advice.listed:
            table.add_row(
                ">" if option is self._advice.choice else "*" if option.is_now else "",
                split_of(option.build),
                *(column.value(option) for column in columns),
                verdict_word(option),
            )
        return table, Text(" · ".join(self._legend(wide=wide)), style="dim")

    def _columns(self, *, wide: bool) -> Iterator[_FigureColumn]:
        outcomes = [option.outcome for option in self._advice.options]
        yield _FigureColumn("lowmem", lambda o: _sized(o.outcome.layout.lowmem_bytes))
        yield _FigureColumn("left", lambda o: _sized(o.fixed.left), narrow=False)
        yield _FigureColumn("high", _high)
        yield _FigureColumn("user", lambda o: _sized(o.outcome.layout.user_end))
        yield _FigureColumn("vmalloc", lambda o: _sized(o.outcome.arena.size))
        yield _FigureColumn("peak", lambda o: _sized(o.outcome.arena.peak_live), narrow=False)
        yield _FigureColumn(
            "hole", lambda o: _sized(o.outcome.arena.largest_hole_min), narrow=False
        )
        yield _FigureColumn("maps", lambda o: _maps(o.outcome, pool=True, local=True), wide=False)
        yield _FigureColumn("kmap", lambda o: _maps(o.outcome, pool=True), narrow=False)
        yield _FigureColumn("local", lambda o: _maps(o.outcome, local=True), narrow=False)
        failing = any(outcome.arena.failures for outcome in outcomes)
        if failing:
            yield _FigureColumn("fail", lambda o: _figure("failures", o.outcome))
        by_page = any(outcome.layout.flush_ceiling_pages is None for outcome in outcomes)
        if by_page and any(map(purged_pages, outcomes)):
            title = "purged pages" if wide else "purged"
            yield _FigureColumn(title, lambda o: _purged(o.outcome), narrow=not failing)
        yield _FigureColumn("cost", lambda o: _figure("cost_ns", o.outcome))

    def _legend(self, *, wide: bool) -> Iterator[str]:
        """What the signs mean."""
        advice = self._advice
        yield from ("MiB", "> the choice", "* as captured")
        if any(not option.build.highmem for option in advice.options):
            yield "off: without CONFIG_HIGHMEM"
        if wide:
            yield "left: of lowmem, beside mem_map and kernel"
            yield "peak, hole: of the arena, in use at most and free at least"
        senses = {_sense(name, o.outcome) for o in advice.listed for name in _BOUNDED}
        yield from (
            f"{SIGNS[sense]} {words}" for sense, words in MEANINGS.items() if sense in senses
        )
        verdicts = {option.verdict for option in advice.listed}
        if "mind" in verdicts:
            yield "better?: mind what is said below"
        if "maybe" in verdicts:
            yield "maybe: what it spares is not told"
        if len(advice.listed) < len(advice.options):
            (without,) = {option.build.without for option in advice.options} - {""}
            yield f"-{without}: where it is better, or has to be"


def _sized(value: int | None) -> Valued:
    return Valued(_mib(value), value)


def _high(option: Option) -> Valued:
    if not option.build.highmem:
        return Valued("off", 0)
    return _sized(option.outcome.layout.highmem_bytes)


def _maps(outcome: Outcome, *, pool: bool = False, local: bool = False) -> Valued:
    number = pool * outcome.pool.maps + local * outcome.local.maps
    sign = SIGNS[outcome.bound]
    return Valued(f"{sign}{count(number)}" if number else NONE, number)


def _figure(name: str, outcome: Outcome) -> Valued:
    value = FIGURES[name].value(outcome)
    words = figure_in_words(name, value, outcome.bound, outcome.arena.apart)
    return Valued(words.replace(" ", "") if name == "cost_ns" else words, value)


def _purged(outcome: Outcome) -> Valued:
    pages = purged_pages(outcome)
    return Valued(_short(pages), pages)


def _sense(name: str, outcome: Outcome) -> str | None:
    return sense_of(name, FIGURES[name].value(outcome), outcome.bound, outcome.arena.apart)


def _mib(value: int | None) -> str:
    """MiB, rounded down.

    Examples
    --------
    >>> _mib(5 << 20), _mib(900 << 10), _mib(None)
    ('5', '<1', 'n/a')
    """
    if value is None:
        return "n/a"
    if 0 < value < 1 << 20:
        return "<1"
    return count(value >> 20) if value else NONE


def _short(number: int) -> str:
    """A large number in three digits.

    Examples
    --------
    >>> _short(9_500), _short(269_109), _short(1_632_934), _short(0)
    ('9500', '269 k', '1.63 M', '·')
    """
    if number < 10_000:
        return count(number) if number else NONE
    if number < 1_000_000:
        return f"{number / 1e3:.0f} k"
    return f"{number / 1e6:.3g} M"
