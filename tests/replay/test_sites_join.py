"""Call sites of several captures, joined by symbol."""

from __future__ import annotations

import pytest

from replay.sites.join import SiteKey, join, site_key
from replay.sites.tally import UNKNOWN_SITE


@pytest.mark.parametrize(
    ("text", "symbol", "module"),
    [
        ("dir_get_page+0x50/0x90 [minix]", "dir_get_page", "minix"),
        ("dir_get_page.isra.0.cold+0x50 [minix]", "dir_get_page", "minix"),
        ("copy_user_highpage.constprop.0+0x2a", "copy_user_highpage", ""),
        ("kmap_high", "kmap_high", ""),
        (".text+0x4", ".text", ""),
    ],
)
def test_a_site_is_known_by_its_function(text: str, symbol: str, module: str) -> None:
    assert site_key(text, "kmap", 3) == SiteKey(symbol, module, "kmap")


def counts(*captures: list[tuple[str, int]]) -> dict[str, list[int]]:
    """Calls by capture, of each row."""
    rows = join(captures, lambda row, number: site_key(row[0], "kmap", number))
    return {
        f"{key.symbol}{key.module and f' [{key.module}]'}@{key.capture}": [
            sum(count for _, count in here) for here in by_capture
        ]
        for key, by_capture in rows.items()
    }


def test_addresses_join_within_their_capture_only() -> None:
    """Where a module was loaded is another place after each boot."""
    found = counts([("0xf8000010", 4)], [("0xf8000010", 3)])
    assert found == {"0xf8000010@0": [4, 0], "0xf8000010@1": [0, 3]}
    assert counts([(UNKNOWN_SITE, 4)], [(UNKNOWN_SITE, 3)]) == {f"{UNKNOWN_SITE}@None": [4, 3]}


def test_sites_of_one_function_are_one_row() -> None:
    before = [("a+0x10/0x90 [m]", 2), ("a+0x50/0x90 [m]", 5), ("b+0x1", 1)]
    after = [("a.isra.0+0x44 [m]", 3), ("a+0x1", 1), ("b.cold+0x1", 1)]
    assert counts(before, after, []) == {
        "a [m]@None": [7, 3, 0], "b@None": [1, 1, 0], "a@None": [0, 1, 0],
    }  # fmt: skip


def test_nothing_joins_to_nothing() -> None:
    assert counts() == {}
    assert counts([], []) == {}
