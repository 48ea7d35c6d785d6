"""Call sites of several captures, joined by the symbol that maps.

Where a call stands in a function changes from build to build, and so does what a compiler puts
behind a function's name; the function and its module stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from replay.sites.tally import UNKNOWN_SITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from replay.outcome import Site

_Row = TypeVar("_Row")
_NO_SYMBOL: Final = "0x"


class SiteKey(NamedTuple):
    """By what call sites of different captures are the same.

    Attributes
    ----------
    symbol
        Function, without what a compiler made of its name; an address where none is known.
    module
        Empty: the kernel itself.
    op
        What is called there.
    capture
        Number of the capture of a site that has no symbol, for the address of a module says
        nothing about another boot; else None.
    """

    symbol: str
    module: str
    op: str
    capture: int | None = None


@dataclass(frozen=True)
class JoinedSite:
    """A function that maps, in several captures.

    Attributes
    ----------
    key
        Which.
    sites
        Its call sites by capture, most calls first; empty where it has none there.
    """

    key: SiteKey
    sites: tuple[tuple[Site, ...], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Calls by capture."""
        return tuple(sum(site.count for site in here) for here in self.sites)

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of all calls by capture."""
        return tuple(sum(site.share for site in here) for here in self.sites)

    @property
    def name(self) -> str:
        """Symbol, and its module."""
        return f"{self.key.symbol} [{self.key.module}]" if self.key.module else self.key.symbol


def site_key(text: str, op: str, capture: int = 0) -> SiteKey:
    """By what a call site is joined.

    Parameters
    ----------
    text
        As the event table has it in `site`.
    op
        What is called there.
    capture
        Number of its capture.

    Examples
    --------
    >>> site_key("dir_get_page.isra.0+0x50/0x90 [minix]", "kmap")
    SiteKey(symbol='dir_get_page', module='minix', op='kmap', capture=None)
    >>> site_key("0xf7926abc", "kmap", 1).capture
    1
    """
    if text == UNKNOWN_SITE or text.startswith(_NO_SYMBOL):
        return SiteKey(text, "", op, None if text == UNKNOWN_SITE else capture)
    place, _, module = text.partition(" [")
    name = place.partition("+")[0].partition("/")[0]
    symbol = name.partition(".")[0] or name  # .isra.0, .constprop.0, .part.0, .cold
    return SiteKey(symbol.strip(), module.removesuffix("]"), op)


def join(
    captures: Sequence[Iterable[_Row]], key: Callable[[_Row, int], SiteKey]
) -> dict[SiteKey, tuple[list[_Row], ...]]:
    """Rows of several captures by what they are joined by, in the order in which they come.

    Parameters
    ----------
    captures
        Rows of each.
    key
        Of a row of the capture with that number.
    """
    found: dict[SiteKey, tuple[list[_Row], ...]] = {}
    for number, rows in enumerate(captures):
        for row in rows:
            of = key(row, number)
            if of not in found:
                found[of] = tuple([] for _ in captures)
            found[of][number].append(row)
    return found


def joined_sites(captures: Sequence[Iterable[Site]]) -> tuple[JoinedSite, ...]:
    """Call sites of several captures, joined by symbol, most calls in all first.

    Parameters
    ----------
    captures
        The sites of each (:attr:`replay.outcome.Outcome.sites`).

    Examples
    --------
    >>> from replay.outcome import Site
    >>> before = [Site("walk+0x10/0x40", "kmap", 9, 1, 0.9), Site("put+0x8", "kmap", 1, 1, 0.1)]
    >>> after = [Site("walk.part.0+0x18", "kmap", 4, 1, 1.0)]
    >>> [(row.name, row.counts, row.shares) for row in joined_sites([before, after])]
    [('walk', (9, 4), (0.9, 1.0)), ('put', (1, 0), (0.1, 0))]
    """
    rows = join(captures, lambda site, number: site_key(site.site, site.op, number))
    found = [
        JoinedSite(
            key, tuple(tuple(sorted(here, key=lambda s: (-s.count, s.site))) for here in sites)
        )
        for key, sites in rows.items()
    ]
    return tuple(sorted(found, key=lambda row: (-sum(row.counts), *row.key[:3])))
