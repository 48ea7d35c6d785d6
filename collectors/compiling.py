"""Who is told of the loops that are not kept yet, while they are compiled.

Apart from :mod:`collectors.compiled`, as that imports numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

loops: set[str] = set()
"""Full names of all loops of the modules that were imported so far."""
ready: set[str] = set()
"""Those that were loaded or compiled so far."""
listeners: list[Callable[[str | None], None]] = []
"""Called with the name of a loop that has to be compiled before the work goes on, here or in
another process that has begun with it, and with None when it is there."""
waits: bool = True
"""False in a process that only compiles for another: what a third one has begun with it runs in
plain Python, and goes on."""
noted: dict[tuple[Any, str], tuple[Any, ...]] | None = None
"""Within :func:`collectors.compiled.noting`: loops that are not kept, with the kinds of their
arguments in words, and as numba has them."""
