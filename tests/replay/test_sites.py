"""Call sites, counted in compiled loops: beside a count by hand, wherever windows end."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.events import SCHEMA
from replay.outcome import Site
from replay.sites import tally
from replay.sites.tally import UNKNOWN_SITE, SiteTally

if TYPE_CHECKING:
    import pytest

NOTHING = np.zeros(0, np.int64)
NAMED = ("kmap", "kmap_local", "vmap", "vm_map_ram", "vmalloc")


def rows_of() -> st.SearchStrategy[dict[str, Any]]:
    def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(st.none(), values)

    return st.fixed_dictionaries(
        {
            "op": st.sampled_from(["kmap", "kmap", "kunmap", "kunmap", *NAMED, "area_alloc", None]),
            "pid": maybe(st.integers(1, 3)),
            "page": maybe(st.integers(0, 3).map(lambda n: 0xF7000000 + 40 * n)),
            "site": maybe(st.sampled_from(["a+1", "b+2", "0xf8000001"])),
            "caller": maybe(st.sampled_from([1, 0xF8000001, 0xFFFF_8888_0000_0001])),
            "size": maybe(st.integers(0, 1 << 40)),
            "pages": maybe(st.integers(0, 100)),
            "took": maybe(st.integers(1, 9)),
        }
    )


def table_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    made = []
    for number, row in enumerate(rows):
        took = row.pop("took")
        seq = 3 * number
        end = {} if took is None else {"end_seq": seq + took, "end_ts": 100 * number + took}
        made.append(row | {"seq": seq, "ts": 100 * number} | end)
    return pl.DataFrame(made, schema=SCHEMA)


def by_hand(events: pl.DataFrame) -> tuple[Site, ...]:
    """The sites of a trace without local mappings' holding times, row by row."""
    rows = events.rows(named=True)
    calls: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["op"] in NAMED:
            caller = UNKNOWN_SITE if row["caller"] is None else f"{row['caller']:#010x}"
            calls[row["site"] or caller, row["op"]].append(row)
    found = []
    for (site, op), made in calls.items():
        holds = [hold for row in made if op == "kmap" for hold in hold_of(row, rows)]
        asked = [
            row["size"] if row["size"] is not None else row["pages"] * 4096
            for row in made
            if row["size"] is not None or row["pages"] is not None
        ]
        found.append(
            Site(
                site=site,
                op=op,
                count=len(made),
                tasks=len({row["pid"] for row in made}),
                share=len(made) / sum(map(len, calls.values())),
                hold_ns_mean=sum(holds) / len(holds) if holds else None,
                hold_ns_max=max(holds) if holds else None,
                bytes=sum(asked) if asked else None,
            )
        )
    return tuple(sorted(found, key=lambda s: (-s.count, s.site, s.op)))


def hold_of(call: dict[str, Any], rows: list[dict[str, Any]]) -> list[int]:
    """How long a kmap() was held, if that is known."""
    at = call["seq"] if call["end_seq"] is None else call["end_seq"]
    for row in rows:
        if (
            row["op"] == "kunmap"
            and row["seq"] >= at
            and row["page"] == call["page"]
            and row["pid"] == call["pid"]
            and None not in (row["page"], row["pid"])
        ):
            return [row["ts"] - (call["ts"] if call["end_ts"] is None else call["end_ts"])]
    return []


@settings(max_examples=150)
@given(st.lists(rows_of(), min_size=1, max_size=40), st.integers(1, 40))
def test_any_trace(rows: list[dict[str, Any]], window: int) -> None:
    events = table_of(rows)
    sites = SiteTally(4096)
    for first in range(0, events.height, window):
        sites.feed(events[first : first + window], first, NOTHING, NOTHING, NOTHING)
    assert sites.sites() == by_hand(events)


def test_local_mappings_that_last_from_window_to_window() -> None:
    """Rows 0 and 2 are taken back in the second window, row 1 never, row 4 in its own."""
    one = [{"op": "kmap_local", "site": s, "pid": 1, "took": None} for s in ("a", "a", "b")]
    two = [{"op": "kmap_local", "site": "b", "pid": 2, "took": None} for _ in range(2)]
    events = table_of(one + two)
    sites = SiteTally(4096)
    sites.feed(events[:3], 0, NOTHING, NOTHING, np.array([2, 0, 1]))
    sites.feed(events[3:], 3, np.array([2, 4, 0]), np.array([70, 5, -1]), np.array([1]))
    sites.feed(events[:0], 5, np.array([1, 2]), np.array([900, 900]), NOTHING)
    assert [(s.site, s.count, s.tasks, s.hold_ns_mean, s.hold_ns_max) for s in sites.sites()] == [
        ("b", 3, 2, 37.5, 70),
        ("a", 2, 1, 900.0, 900),
    ]


def test_calls_that_wait_in_vain_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five that wait, the three that returned last are kept."""
    monkeypatch.setattr(tally, "MOST_OPEN", 3)
    maps = [{"op": "kmap", "site": "a", "pid": n, "page": 8, "took": 1} for n in range(1, 6)]
    unmaps = [{"op": "kunmap", "pid": n, "page": 8, "took": None} for n in range(1, 6)]
    events = table_of(maps + unmaps)
    sites = SiteTally(4096)
    sites.feed(events[:5], 0, NOTHING, NOTHING, NOTHING)
    assert sites.remarks() == (
        "2 kmap() calls wait in vain for a kunmap() of their own task: their holding times are "
        "left out",
    )
    sites.feed(events[5:], 5, NOTHING, NOTHING, NOTHING)
    (site,) = sites.sites()
    assert (site.hold_ns_mean, site.hold_ns_max) == (499.0, 499)


def test_sites_are_numbered_as_they_come_whatever_other_captures_were_read_before() -> None:
    """Turns of kmap() that are sifted in another process name sites by the same numbers."""
    names = [f"site_{n:02d}+1" for n in range(20)]
    rows = [
        {"seq": n, "ts": n, "op": "kmap", "pid": 1, "site": name} for n, name in enumerate(names)
    ]
    read_before = pl.Series(names[::-1], dtype=pl.Categorical())  # has given them its own numbers
    tally = SiteTally(4096)
    tally.feed(pl.DataFrame(rows, schema=SCHEMA), 0, NOTHING, NOTHING, NOTHING)
    assert tally.names == (UNKNOWN_SITE, *names)
    assert len(read_before) == len(names)
