"""What comes first on a page: the verdict, the figures of most weight, the key figures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from collectors.records import dataclass
from hmtrace.html.blocks import Pairs, Section, blocks_of
from hmtrace.html.page import PageHead
from hmtrace.report.cost import tlb_in_words
from hmtrace.report.parts import joined
from hmtrace.report.source import lost_in_words, lost_lines, reproducibility, source_in_words
from hmtrace.report.terminal import UNTRACED, key_figures
from hmtrace.report.text import clean, count, duration, mib, number, plural, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hmtrace.html.findings import FindingEntry
    from hmtrace.report.source import InputSummary
    from replay.outcome import Outcome

_SEVERITIES: Final = ("problem", "warning")
_WAITS: Final = "waits for a slot"
_FINE: Final = "fine"
"""Rule of the finding that there is nothing to act on; its evidence has the figures."""
_NEAR: Final = 0.9
"""Share of a limit from which a figure is drawn as near it."""


@dataclass(frozen=True)
class Tile:
    """One figure in large letters.

    Attributes
    ----------
    label, figure, note
        What it is, the figure, what to know of it.
    fraction
        Of its limit; None: it has none.
    level
        ``problem``, ``warning``, ``absent`` (there is none), or "" for one that troubles nobody.
    """

    label: str
    figure: str
    note: str = ""
    fraction: float | None = None
    level: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the findings come to.

    `level` is the worst severity, `words` how many of which, `worst` the first of them, `why` what
    it says.
    """

    level: str
    words: str
    worst: FindingEntry | None
    why: str = ""


@dataclass(frozen=True)
class OverviewParts:
    """What the first section shows."""

    verdict: Verdict
    tiles: tuple[Tile, ...]
    blocks: tuple[Pairs, ...]


@dataclass(frozen=True)
class LossBanner:
    """What tracing lost: in one line, and line by line."""

    words: str
    lines: tuple[str, ...]


def page_head(command: str, source: InputSummary) -> PageHead:
    """What stands at the top and the foot of a page that is about one capture."""
    return PageHead(
        command,
        clean(source.origin.path),
        (source_in_words(source),),
        loss_banner(source),
        (reproducibility(source).plain,),
    )


def loss_banner(source: InputSummary) -> LossBanner | None:
    """What was lost; None where nothing was."""
    if not source.lost.intervals:
        return None
    span = source.span_ns if source.clock_is_ns else None
    return LossBanner(lost_in_words(source.lost), tuple(lost_lines(source.lost, span)))


def overview_section(
    source: InputSummary, outcome: Outcome, findings: Sequence[FindingEntry]
) -> Section:
    """Verdict, figures, key figures."""
    blocks = (b for b in blocks_of(key_figures(outcome, source.absent)) if isinstance(b, Pairs))
    parts = OverviewParts(verdict(findings), tuple(_tiles(source, outcome)), tuple(blocks))
    return Section("overview", "Overview", "", "overview.html", parts)


def verdict(findings: Sequence[FindingEntry]) -> Verdict:
    """How many findings of which severity, and the worst of them."""
    by_severity = Counter(finding.severity for finding in findings)
    words = [plural(by_severity[name], name) for name in _SEVERITIES if by_severity[name]]
    level = next((name for name in _SEVERITIES if by_severity[name]), "fine")
    worst = findings[0] if findings else None
    why = "" if worst is None else worst.message
    if worst is not None and worst.rule == _FINE and worst.evidence:
        why = worst.evidence[0]
    return Verdict(level, ", ".join(words) or "nothing to act on", worst, why)


def _tiles(source: InputSummary, outcome: Outcome) -> Iterator[Tile]:
    yield _cost_tile(outcome)
    yield from _pool_tiles(source, outcome)
    yield _local_tile(source, outcome)
    yield _arena_tile(source, outcome)
    tlb = outcome.tlb
    yield Tile("TLB flushes of every entry", count(tlb.full), tlb_in_words(tlb))
    yield Tile("CPUs interrupted by flushes", count(tlb.ipis), "IPIs sent to other CPUs")
    layout = outcome.layout
    whole = layout.highmem_bytes + layout.lowmem_bytes
    yield Tile(
        "highmem",
        mib(layout.highmem_bytes) if layout.highmem_bytes else "none",
        f"beside {mib(layout.lowmem_bytes)} of lowmem",
        layout.highmem_bytes / whole if whole else None,
    )


def _cost_tile(outcome: Outcome) -> Tile:
    cost = outcome.cost
    least = "at least " if outcome.pool.pages_unknown else ""
    total = f"{least}{duration(cost.total_ns)}, estimated"
    return Tile("CPU time for mappings", share(cost.share_of_span), total, cost.share_of_span)


def _pool_tiles(source: InputSummary, outcome: Outcome) -> Iterator[Tile]:
    pool = outcome.pool
    label = "pool slots in use, at most"
    if pool.pages_unknown:
        yield Tile(label, "not known", f"{count(pool.maps)} kmap, pages unknown", level="absent")
        yield Tile(_WAITS, "not known", level="absent")
    elif not pool.maps:
        untraced = source.absent["pool"].untraced
        yield _absent(label, "no kmap", untraced=untraced)
        yield _absent(_WAITS, "none", untraced=untraced)
    else:
        fraction = pool.max_used / pool.slots if pool.slots else None
        near = fraction is not None and fraction >= _NEAR
        level = "problem" if pool.waits else "warning" if near else ""
        words = f"of {count(pool.slots)}, mean {number(pool.mean_used)}"
        yield Tile(label, count(pool.max_used), words, fraction, level)
        waited = joined(
            [duration(pool.wait_ns) + " in all", f"longest {duration(pool.longest_wait_ns)}"]
        )
        yield Tile(
            _WAITS,
            count(pool.waits) if pool.waits else "none",
            waited if pool.waits else f"in {count(pool.maps)} kmap",
            level="problem" if pool.waits else "",
        )


def _local_tile(source: InputSummary, outcome: Outcome) -> Tile:
    local, label = outcome.local, "local mappings nested, at most"
    if not local.maps and not local.lowmem:
        return _absent(label, "none", untraced=source.absent["local"].untraced)
    fraction = local.max_depth / local.limit if local.limit else None
    level = "problem" if fraction is not None and fraction >= _NEAR else ""
    of = f"of {local.limit}, " if local.limit else ""
    return Tile(
        label, str(local.max_depth), f"{of}{plural(local.maps, 'mapping')}", fraction, level
    )


def _arena_tile(source: InputSummary, outcome: Outcome) -> Tile:
    arena, label = outcome.arena, "vmap arena in use, at most"
    if not arena.allocs and not arena.failures:
        return _absent(label, "no allocation", untraced=source.absent["arena"].untraced)
    failed = f"{plural(arena.failures, 'allocation')} failed" if arena.failures else ""
    hole = arena.largest_hole_min
    least = "" if hole is None else f"largest hole ≥ {mib(hole)}"
    fraction = arena.peak_used / arena.size if arena.peak_used and arena.size else None
    words = joined([failed, f"of {mib(arena.size)}", least])
    shown = "not known" if fraction is None else share(fraction)
    return Tile(label, shown, words, fraction, "problem" if arena.failures else "")


def _absent(label: str, words: str, *, untraced: bool) -> Tile:
    return Tile(label, UNTRACED if untraced else words, level="absent")
