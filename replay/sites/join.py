"""Call sites of several captures, joined by the symbol that maps.

Where a call stands in a function changes from build to build, and so does what a compiler puts
behind a function's name; the function and its module stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from replay.sites.names import function_named
from replay.sites.tally import UNKNOWN_SITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_Row = TypeVar("_Row")


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
    name = function_named(text)
    if not name:
        return SiteKey(text, "", op, None if text == UNKNOWN_SITE else capture)
    symbol, _, module = name.partition(" [")
    return SiteKey(symbol, module.removesuffix("]"), op)


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

    Examples
    --------
    >>> before, after = [("walk+0x10/0x40", 9), ("put+0x8", 1)], [("walk.part.0+0x18", 4)]
    >>> rows = join([before, after], lambda row, number: site_key(row[0], "kmap", number))
    >>> [(key.symbol, [sum(n for _, n in here) for here in by]) for key, by in rows.items()]
    [('walk', [9, 4]), ('put', [1, 0])]
    """
    found: dict[SiteKey, tuple[list[_Row], ...]] = {}
    for number, rows in enumerate(captures):
        for row in rows:
            of = key(row, number)
            if of not in found:
                found[of] = tuple([] for _ in captures)
            found[of][number].append(row)
    return found
