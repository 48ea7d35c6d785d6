"""Call sites by function, so that they are the same in another build of a kernel."""

from __future__ import annotations

import re
from typing import Final

_OFFSET: Final = re.compile(r"\+0x[0-9a-f]+(/0x[0-9a-f]+)?")
_CLONE: Final = re.compile(r"\.(isra|constprop|part|cold|llvm|lto_priv)(\.\d+)*\b")


def function_named(site: str) -> str:
    """Function of a call site and its module, without offset and compiler's suffix; empty: none.

    Examples
    --------
    >>> function_named("dir_get_page.isra.0+0x50/0x140 [minix]")
    'dir_get_page [minix]'
    >>> function_named("dir_get_page.isra.0.cold")
    'dir_get_page'
    >>> function_named("0xf7885054")
    ''
    """
    if site.startswith(("0x", "(")):  # an address is another one after the next boot
        return ""
    return _CLONE.sub("", _OFFSET.sub("", site)).strip()
