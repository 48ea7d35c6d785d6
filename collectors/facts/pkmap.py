"""The state of the pool and the arena at the start: pkmap.start, pool_state, state.json.

``pkmap.start`` is what the recorder's reader of /proc/kcore prints::

    # phdr 1 type 1 va f77fe000 memsz 7800000 off 37800000
    last_pkmap_nr 43 (rc 0 0 0 0) pkmap_page_table f6ff9000 npk 512
    slot 35 count 1 pte 800000003f3df163 pfn 3f3df
    word c1d1fc44 = f5ffb000
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collectors.facts.model import Sheet

_PHDR = re.compile(r"^# phdr \d+ type 1 va ([0-9a-f]{1,8}) memsz ([0-9a-f]{1,8})\b")
_LAST = re.compile(r"^last_pkmap_nr (\d{1,5})\b(?:.*\bnpk (\d{1,5})\b)?")
_SLOT = re.compile(r"^slot (\d{1,5}) count (-?\d{1,9}) pte ([0-9a-f]{1,16}) pfn ([0-9a-f]{1,10})")
_WORD = re.compile(r"^word ([0-9a-f]{1,8}) = ([0-9a-f]{1,8})")

_CURSOR = re.compile(r" last=(\d{1,5})\b")
_COUNTS = re.compile(r" c(\d{1,4})=\{(\d{1,9}(?:,\d{1,9}){0,63}),?\}")
_COUNTED = 64
"""Elements that an argument of a probe may have (kernel/trace/trace_probe.h: MAX_ARRAY_LEN)."""

TREES = ("free", "busy", "lazy")
MAX_NODES = 1 << 20
_SLOT_NUMBER = re.compile(r"[0-9]{1,5}")
_MOST_COUNT = 1 << 31
"""The kernel counts users of a slot in an int (mm/highmem.c: pkmap_count)."""


def parse_start(text: str, sheet: Sheet) -> None:
    """Write down the pool's state and what the program headers of /proc/kcore say.

    Facts: pool_state (last_pkmap_nr, tuple of (slot, count, pfn)), pkmap_slots, vmalloc_start,
    vmalloc_end, high_memory, kernel_words (address to value).

    fs/proc/kcore.c gives one PT_LOAD for the vmalloc range and one for lowmem, which starts
    at PAGE_OFFSET, a multiple of 128 MiB, and is the lower of the two on i386.
    """
    segments: list[tuple[int, int, int]] = []
    slots: list[tuple[int, int, int | None]] = []
    words: dict[int, int] = {}
    last: tuple[int, int] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if match := _SLOT.match(line):
            slots.append((int(match[1]), int(match[2]), int(match[4], 16)))
        elif match := _PHDR.match(line):
            start = int(match[1], 16)
            segments.append((start, start + int(match[2], 16), number))
        elif match := _WORD.match(line):
            words[int(match[1], 16)] = int(match[2], 16)
        elif match := _LAST.match(line):
            last = (int(match[1]), number)
            if match[2]:
                sheet.add("pkmap_slots", int(match[2]), line=number, detail=line)
    if last is not None:
        sheet.add(
            "pool_state",
            (last[0], tuple(sorted(slots, key=lambda s: s[0]))),
            line=last[1],
            detail=f"last_pkmap_nr {last[0]}, {len(slots)} slots in use or stale",
        )
    else:
        sheet.note("holds no last_pkmap_nr line")
    if words:
        sheet.add("kernel_words", words)
    _segments(segments, sheet)


def parse_probe(text: str, sheet: Sheet) -> None:
    """Write down the pool's state as the recorder's probe fetched it. Fact: pool_state.

    Its events have ``last=N`` and ``cSLOT={…}``: the counters of 64 slots from SLOT on.
    """
    slots = {
        int(match[1]) + at: int(count)
        for match in _COUNTS.finditer(text)
        for at, count in enumerate(match[2].split(",")[:_COUNTED])
    }
    last = _CURSOR.search(text)
    if last is None or not slots:
        sheet.note("holds no counters of the pool")
        return
    used = tuple((slot, count, None) for slot, count in sorted(slots.items()) if count)
    sheet.add("pool_state", (int(last[1]), used), detail=f"last {last[1]}, {len(used)} slots")


def _segments(segments: list[tuple[int, int, int]], sheet: Sheet) -> None:
    if len(segments) != 2:
        return
    low, arena = sorted(segments)
    if low[0] % (128 << 20) == 0 and low[1] <= arena[0]:
        sheet.add("vmalloc_start", arena[0], line=arena[2], detail="/proc/kcore program header")
        sheet.add("vmalloc_end", arena[1], line=arena[2], detail="/proc/kcore program header")
        sheet.add("high_memory", low[1], line=low[2], detail="/proc/kcore program header")
        sheet.add("page_offset", low[0], line=low[2], detail="/proc/kcore program header")


def parse_state(text: str, sheet: Sheet) -> None:
    """Write down the allocator's state: trees of free, busy and lazily freed areas.

    Facts: arena_state (dict with ``free``, ``busy``, ``lazy``: nested
    ``[start, end, red, left, right]`` or None, and ``lazy_nr`` in pages), pool_state, and
    pool_pages (slot to address of struct page).
    """
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        sheet.note("is not valid JSON")
        return
    if not isinstance(state, dict):
        sheet.note("is not a JSON object")
        return
    trees = {name: state.get(name) for name in TREES}
    if all(is_tree(tree) for tree in trees.values()) and trees["free"] is not None:
        lazy = state.get("lazy_nr")
        known = isinstance(lazy, int) and 0 <= lazy < 1 << 32
        arena = {**trees, "lazy_nr": lazy if known else 0}
        sheet.add("arena_state", arena, detail="trees of free, busy and lazily freed areas")
    elif any(name in state for name in TREES):
        sheet.note("holds trees that are not [start, end, red, left, right]")
    _pool(state, sheet)


def _pool(state: dict[str, Any], sheet: Sheet) -> None:
    last, counts, pages = state.get("last"), state.get("count"), state.get("pages")
    if not isinstance(last, int) or not isinstance(counts, (list, dict)):
        return
    if not 0 <= last < _MOST_COUNT:
        sheet.note("holds a number of the last slot that no pool has")
        return
    count_of = _numbered(counts, _MOST_COUNT)
    page_of = _numbered(pages, 1 << 63) if isinstance(pages, (list, dict)) else {}
    used = tuple((slot, count, None) for slot, count in sorted(count_of.items()) if count)
    sheet.add("pool_state", (last, used), detail=f"last {last}, {len(used)} slots")
    if page_of:
        held = {slot: page for slot, page in page_of.items() if page}
        sheet.add("pool_pages", held, detail=f"{len(held)} pages")


def _numbered(values: Sequence[Any] | dict[str, Any], limit: int) -> dict[int, int]:
    """Values below `limit` by slot; what is no slot or no such number is left out."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    return {
        int(slot): value
        for slot, value in pairs
        if isinstance(value, int) and 0 <= value < limit and _SLOT_NUMBER.fullmatch(str(slot))
    }


def is_tree(root: Any) -> bool:
    """Tell whether this is a tree of nodes ``[start, end, red, left, right]``, or None."""
    stack = [root]
    nodes = 0
    while stack:
        node = stack.pop()
        if node is None:
            continue
        nodes += 1
        if (
            nodes > MAX_NODES
            or not isinstance(node, list)
            or len(node) != 5
            or not all(isinstance(v, int) and 0 <= v < 1 << 32 for v in node[:3])
        ):
            return False
        stack += node[3:]
    return True
