"""The JSON document of `advise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hmtrace.report.advising import config_of
from hmtrace.report.common_choice import common_document
from hmtrace.report.document import schema, source_document
from hmtrace.report.plain import plain
from hmtrace.report.reasons import NOT_SEEN, words
from hmtrace.report.text import unglued
from hmtrace.report.verdict import verdict_document
from replay.whatif.reasons import purged_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hmtrace.report.advising import Advised
    from replay.whatif.reasons import Option, Reason


def advice_document(advised: Sequence[Advised]) -> dict[str, Any]:
    """Document of `advise`."""
    return {
        **schema("advise"),
        "common": common_document(advised),
        "captures": [capture_document(one) for one in advised],
    }


def capture_document(one: Advised) -> dict[str, Any]:
    """What it says of one capture."""
    advice = one.advice
    choice = advice.choice
    return {
        **source_document(one.source),
        "assumptions": list(one.assumptions),
        "choice": {
            **_build_document(choice),
            "is_now": choice.is_now,
            "reasons": _in_words((*choice.gains, *choice.mind)),
            "caveats": list(choice.outcome.caveats),
        },
        "trial": None if advice.trial is None else _build_document(advice.trial),
        "evidence": advice.evidence,
        "largest_process": plain(advice.largest),
        "lowmem": plain(one.baseline.lowmem),
        "splits": [_split_document(option) for option in advice.options],
        "not_seen": [{"code": code, "words": NOT_SEEN[code]} for code in advice.not_seen],
    }


def _build_document(option: Option) -> dict[str, Any]:
    build = option.build
    return {
        "split": build.split,
        "highmem": build.highmem,
        "pae": build.pae,
        "vmalloc_option": build.vmalloc,
        "config": [] if option.is_now else config_of(option),
    }


def _split_document(option: Option) -> dict[str, Any]:
    outcome, build, fixed = option.outcome, option.build, option.fixed
    layout, arena = outcome.layout, outcome.arena
    asked = arena.largest_request
    return {
        "split": build.split,
        "highmem_enabled": build.highmem,
        "pae": build.pae,
        "without": build.without or None,
        "vmalloc_option": build.vmalloc,
        "available": build.proposed is None,
        "proposed_default": option.is_default,
        "is_now": option.is_now,
        "lowmem": layout.lowmem_bytes,
        "highmem": layout.highmem_bytes,
        "lost_ram": option.lost_ram,
        "user": layout.user_end,
        "vmalloc": arena.size,
        "modules": layout.modules_end - layout.modules_start,
        "mem_map": fixed.mem_map,
        "fixed": {**plain(fixed), "page_struct": outcome.machine.page_struct},
        "peak_arena": arena.peak_live,
        "largest_hole": arena.largest_hole_min,
        "largest_request": None if asked is None else {"bytes": asked[0], "align": asked[1]},
        "maps": outcome.pool.maps,
        "local": outcome.local.maps,
        "flushes": outcome.pool.flushes,
        "waits": outcome.pool.waits,
        "failures": arena.failures,
        "purged_pages": purged_pages(outcome),
        "cost_ns": plain(outcome.cost.total_ns),
        "cost_verdict": None if option.cost is None else verdict_document(option.cost),
        "bound": outcome.bound,
        "verdict": option.verdict,
        "reasons": _in_words((*option.against, *option.mind, *option.gains, *option.may)),
    }


def _in_words(reasons: Iterable[Reason]) -> list[str]:
    return [unglued(words(reason)) for reason in reasons]
