"""Call sites of several captures, joined by symbol."""

from __future__ import annotations

import pytest

from replay.outcome import Site
from replay.sites.join import SiteKey, joined_sites, site_key


def site(text: str, count: int, op: str = "kmap") -> Site:
    return Site(text, op, count, 1, count / 10)


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


def test_addresses_join_within_their_capture_only() -> None:
    """Where a module was loaded is another place after each boot."""
    rows = joined_sites([[site("0xf8000010", 4)], [site("0xf8000010", 3)]])
    assert [row.counts for row in rows] == [(4, 0), (0, 3)]
    (row,) = joined_sites([[site("(not traced)", 4)], [site("(not traced)", 3)]])
    assert row.counts == (4, 3)


def test_sites_of_one_function_are_one_row() -> None:
    before = [site("a+0x10/0x90 [m]", 2), site("a+0x50/0x90 [m]", 5), site("b+0x1", 1, "vmap")]
    after = [site("a.isra.0+0x44 [m]", 3), site("a+0x1", 1), site("b+0x1", 1)]
    rows = joined_sites([before, after, []])
    assert [(row.name, row.key.op, row.counts) for row in rows] == [
        ("a [m]", "kmap", (7, 3, 0)),
        ("a", "kmap", (0, 1, 0)),
        ("b", "kmap", (0, 1, 0)),
        ("b", "vmap", (1, 0, 0)),
    ]
    assert rows[0].shares == pytest.approx((0.7, 0.3, 0))
    assert [s.count for s in rows[0].sites[0]] == [5, 2]


def test_nothing_joins_to_nothing() -> None:
    assert joined_sites([]) == ()
    assert joined_sites([[], []]) == ()
