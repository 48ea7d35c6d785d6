"""Real captures of fixtures/, each read once in a worker."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collectors import open_capture
from replay.machine.from_facts import machine_from

if TYPE_CHECKING:
    from collectors.capture import Capture
    from replay.machine.model import Machine

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"


@cache
def opened(name: str) -> tuple[Capture, Machine]:
    """A capture, and the machine that it is from.

    Parameters
    ----------
    name
        Of its folder in fixtures/.
    """
    capture = open_capture(FIXTURES / name)
    return capture, machine_from(capture.facts.snapshot())[0]
