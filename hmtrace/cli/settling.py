"""A file on its way to the disk while it is written: its end then has not to wait for all of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from collectors.ahead import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EVERY: Final = 0.25
"""Seconds from one time to the next."""


@contextmanager
def settled(path: Path) -> Iterator[None]:
    """What is written to a file within the block is on the disk when the block is left.

    After an error that is not waited for.

    Raises
    ------
    OSError
        The disk refuses it, whenever it did.
    """
    settling = _Settling(path)
    settling.start()
    try:
        yield
    finally:
        settling.ended.set()
        wait_for(settling)
    if settling.error is not None:  # the system tells it once
        raise settling.error
    _settle(path)


class _Settling(Thread):
    """Has the system write what it holds of a file, until `ended` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="hmtrace-settling", daemon=True)
        self.ended = Event()
        self.error: OSError | None = None
        self._path = path

    def run(self) -> None:
        """In the thread."""
        try:
            while not self.ended.wait(_EVERY):
                _settle(self._path)
        except OSError as error:
            self.error = error


def _settle(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
