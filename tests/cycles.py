"""Where very many objects are made that stay, looking for cycles takes half of the time."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_search() -> Iterator[None]:
    """Look for no cycles meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
