"""Architectures: each is data and one pure function from a machine to its layout.

Adding one is adding a module with an :class:`Arch`, and a line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.arches.arm import ARM
from replay.arches.i386 import I386

if TYPE_CHECKING:
    from replay.arches.base import Arch

ARCHES: Final[dict[str, Arch]] = {arch.name: arch for arch in (I386, ARM)}
