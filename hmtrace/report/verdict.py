"""Which of two machines is cheaper, and whether that holds whatever operations cost: in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hmtrace.report.plain import plain
from hmtrace.report.text import count, duration, plural, share, unglued
from replay.cost.units import REFILL
from replay.cost.verdict import CostVerdict, is_bounded
from replay.machine.costs import Costs

if TYPE_CHECKING:
    from replay.cost.verdict import Turn

_REFILL: Final = "refilling a TLB after a full flush"


def verdict_in_words(verdict: CostVerdict) -> str:
    """The verdict and how far it holds.

    Examples
    --------
    >>> from replay.cost.verdict import CostVerdict, Turn
    >>> verdict_in_words(CostVerdict(-4200, -700, -20, None))
    'cheaper, over the whole range of costs'
    >>> words = verdict_in_words(CostVerdict(-4200, -700, 300, Turn("ipi_base", 3200, above=True)))
    >>> unglued(words)
    'cheaper; turns at interrupting other CPUs of > 3.2 µs'
    >>> verdict_in_words(CostVerdict(20, 700, 4200, None, is_bounded=True))
    'not known: dearer if its counts were exact, but they are bounds'
    >>> unglued(verdict_in_words(CostVerdict(-4200, -700, -20, None, asleep=9)))
    'not the same work: 9 tasks more sleep for ever there'
    """
    if verdict.asleep:
        tasks = plural(verdict.asleep, "task")
        sure = "perhaps not the same work: up to" if verdict.is_bounded else "not the same work:"
        return f"{sure} {tasks} more sleep for ever there"
    word = {"same": "the same with the likely costs"}.get(verdict.word, verdict.word)
    if verdict.word == "same" and verdict.holds:
        word = "the same"
    if verdict.is_bounded:
        return f"not known: {word} if its counts were exact, but they are bounds"
    if verdict.word == "same" and verdict.holds:
        return "the same, whatever operations cost"
    if verdict.holds:
        return f"{word}, over the whole range of costs"
    if verdict.turn is None:
        return f"{word} with the likely costs, not with others in their ranges"
    return f"{word}; turns at {turn_in_words(verdict.turn)}"


def turn_in_words(turn: Turn) -> str:
    """What turns a verdict: ``one INVLPG of > 140 ns``."""
    sign = ">" if turn.above else "<"
    if turn.figure == REFILL:
        return f"{_REFILL} of {sign} {duration(turn.at)}"
    note = Costs.notes()[turn.figure]
    written = {"ns": duration, "share": share}.get(note.unit, count)
    return f"{note.short} of {sign} {written(turn.at)}"


def change_in_words(
    low: float, likely: float, high: float, bound: str | None, asleep: int = 0
) -> str:
    """``less``, ``more`` or ``same``, with ``?`` where that does not hold over the ranges.

    ``stuck`` where more tasks sleep for ever there, ``stuck?`` where they may.

    Parameters
    ----------
    low, likely, high
        As of :class:`replay.cost.verdict.CostVerdict`.
    bound
        As of :class:`replay.outcome.Outcome`.
    asleep
        As of :class:`replay.cost.verdict.CostVerdict`.

    Examples
    --------
    >>> change_in_words(-9, -3, -1, None), change_in_words(-9, -3, 1, None)
    ('less', 'less?')
    >>> change_in_words(-9, -3, -1, "least"), change_in_words(0, 0, 0, None)
    ('less?', 'same')
    >>> change_in_words(0, 0, 0, "least")
    'same?'
    """
    if asleep > 0:
        return "stuck?" if is_bounded(likely, bound, asleep) else "stuck"
    verdict = CostVerdict(low, likely, high, None, is_bounded=is_bounded(likely, bound))
    word = {"cheaper": "less", "dearer": "more"}.get(verdict.word, "same")
    return word if verdict.holds and not verdict.is_bounded else f"{word}?"


def verdict_document(verdict: CostVerdict) -> dict[str, Any]:
    """Key ``verdict`` of the JSON documents; differences in ns."""
    return {
        "word": verdict.word,
        "holds": verdict.holds and not verdict.is_bounded,
        "is_bounded": verdict.is_bounded,
        "asleep": verdict.asleep,
        "difference_ns": [plain(verdict.low), plain(verdict.likely), plain(verdict.high)],
        "turns_at": plain(verdict.turn),
        "words": unglued(verdict_in_words(verdict)),
    }
