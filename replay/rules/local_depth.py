"""How deep local mappings are nested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from replay.outcome import Finding
from replay.rules import evidence
from replay.rules.rule import FindingRule, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import Case

SPARE_DEPTH: Final = 3


class LocalDepth(NamedTuple):
    """How deep local mappings were nested, and how deep they can be."""

    deepest: int
    limit: int


def _depth(case: Case) -> Iterator[Finding]:
    """kmap_local_idx_push() has a BUG_ON for one nesting too many."""
    local = case.outcome.local
    least = DEPTH.limit_in(case) or local.limit - SPARE_DEPTH + 1
    if not local.limit or local.max_depth < least or evidence.is_contradicted(case):
        return
    severity = "problem" if local.max_depth >= local.limit else "warning"
    found = LocalDepth(local.max_depth, local.limit)
    yield Finding("local-depth", severity, found, local.max_depth, local.deepest)


DEPTH: Final = FindingRule(
    "local-depth", ("problem", "warning"),
    "Local mappings were nested so deep that hardly one more fits: one too many is a BUG().",
    "unmap before the next is mapped; interrupts nest on top of the task that they interrupt",
    _depth, (evidence.LOCAL,), Limit(None, "mappings deep (else 2 less than fit)"),
)  # fmt: skip
