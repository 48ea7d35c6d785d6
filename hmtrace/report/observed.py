"""What the kernel told beside the calls: their durations, flushes of user space, stack traces."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

from collectors.traceevent.stacks import callers_in
from hmtrace.report.parts import Valued, heading, indented, labelled, plain_table
from hmtrace.report.text import GLUE, clean, count, duration, plural, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import Observed

STACKS_SHOWN: Final = 5
_FRAMES: Final = 12
"""Frames of a stack trace that are shown; the outer ones are the same in all."""
_OFFSET: Final = re.compile(r"\+0x[0-9a-f]+(/0x[0-9a-f]+)?")


def durations_section(observed: Observed | None) -> Iterator[RenderableType]:
    """How long calls took, where their returns were traced.

    Parameters
    ----------
    observed
        None for another machine than the captured one.

    Yields
    ------
    RenderableType
        Heading and one row per operation, the most time first; nothing without any time.
    """
    if observed is None or not observed.durations:
        return
    yield heading("Time in calls", "entry to return, sleeps and probes included; inner calls twice")
    table = plain_table(
        ("call", "left"),
        ("count", "right"),
        ("median", "right"),
        ("99 %", "right"),
        ("longest", "right"),
        ("in all", "right"),
    )
    for call in observed.durations:
        table.add_row(
            Text(clean(call.op)),
            Valued(count(call.calls), call.calls),
            Valued(duration(call.median_ns), call.median_ns),
            Valued(duration(call.p99_ns), call.p99_ns),
            Valued(duration(call.max_ns), call.max_ns),
            Valued(duration(call.total_ns), call.total_ns),
        )
    yield indented(table)


def user_flushes_section(observed: Observed | None) -> Iterator[RenderableType]:
    """Flushes of user addresses by reason, where tlb:tlb_flush was traced.

    Parameters
    ----------
    observed
        As of :func:`durations_section`.

    Yields
    ------
    RenderableType
        Heading and one row per reason.
    """
    if observed is None or not observed.user_flushes:
        return
    yield heading("TLB flushes of user space", "tracepoint tlb:tlb_flush, none of them mapping's")
    table = plain_table(
        ("reason", "left"),
        ("count", "right"),
        ("share", "right"),
        ("full", "right"),
        ("pages of the others", "right"),
    )
    every = sum(flush.count for flush in observed.user_flushes)
    for flush in observed.user_flushes:
        table.add_row(
            Text(clean(flush.reason)),
            Valued(count(flush.count), flush.count),
            Valued(share(flush.count / every), flush.count / every),
            Valued(count(flush.full), flush.full),
            Valued(count(flush.pages), flush.pages),
        )
    yield indented(table)


def stacks_section(observed: Observed | None) -> Iterator[RenderableType]:
    """The ways that lead to mappings most often, where stack traces were recorded.

    Parameters
    ----------
    observed
        As of :func:`durations_section`.

    Yields
    ------
    RenderableType
        Heading, then count, operation and callers of each, innermost first.
    """
    if observed is None or not observed.stacks:
        return
    ways: Counter[tuple[str, str]] = Counter()
    for stack in observed.stacks:
        frames = callers_in(stack.stack) or stack.stack.split("<-")
        names = [clean(_OFFSET.sub("", frame), 80) for frame in frames[:_FRAMES]]
        names += ["…"] if len(frames) > _FRAMES else []
        shown = f"{GLUE}← ".join(name.replace(" ", GLUE) for name in names)
        ways[stack.op, shown] += stack.count
    ranked = sorted(ways.items(), key=lambda item: (-item[1], item[0]))
    aside = f"{STACKS_SHOWN} of {len(ranked)}" if len(ranked) > STACKS_SHOWN else ""
    yield heading("Call stacks", aside)
    for (op, shown), number in ranked[:STACKS_SHOWN]:
        part = f"{share(number / observed.stacked)} of those with a stack trace"
        yield labelled([(clean(op, 20), f"{plural(number, 'call')}, {part}")])
        yield labelled([("", shown)])
