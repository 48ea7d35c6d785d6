"""What a program writes to a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces(ours: int) -> Iterator[bytes]:
    """What arrives at our end of a terminal, until nobody has the other one; then ours is closed.

    Parameters
    ----------
    ours
        First descriptor of ``os.openpty()``; this process must have closed the second.
    """
    try:
        while piece := os.read(ours, 1 << 16):
            yield piece
    except OSError:  # Linux says the end so
        pass
    finally:
        os.close(ours)
