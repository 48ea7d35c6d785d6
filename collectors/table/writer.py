"""Writing parts of the event table where they are to lie, beside what makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, ClassVar, Final

import polars as pl

from collectors.ahead import POLL, wait_for
from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from collectors.capture import Capture
    from collectors.table.part import Part

_AHEAD: Final = 3
"""Parts that wait to be written."""


class _GivenUpError(Exception):
    """What is being written is not wanted any more."""


class PartWriter(ABC):
    """Writes parts of the event table, in a thread of its own.

    To be used in a ``with`` statement: leaving it without :meth:`finish` gives up, and what was
    written means nothing.

    Parameters
    ----------
    place
        Folder that is written to, for errors.
    """

    name: ClassVar[str]
    """Of the thread."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._parts: Queue[Part | pl.DataFrame | None] = Queue(_AHEAD)
        self._given_up = False
        self._whole: tuple[Capture, int] | None = None  # what goes with the rows, at their end
        self._error: BaseException | None = None
        self._thread = Thread(target=self._guarded, name=self.name, daemon=True)

    @property
    @abstractmethod
    def events(self) -> pl.LazyFrame:
        """What was written, when it is complete."""

    @abstractmethod
    def _run(self) -> None:
        """Write what :meth:`_coming` gives; in the thread."""

    def write(self, part: Part | pl.DataFrame) -> None:
        """Append rows; the arrays of a part must not change any more.

        Raises
        ------
        HmtraceError
            If it cannot be written.
        """
        if part.height if isinstance(part, pl.DataFrame) else part.rows:
            self._put(part)

    def finish(self, capture: Capture, rows: int) -> None:
        """Complete what is written.

        Parameters
        ----------
        capture
            All but the rows.
        rows
            How many were written.

        Raises
        ------
        HmtraceError
            If it cannot be written.
        """
        self._whole = capture, rows
        self._put(None)
        wait_for(self._thread)
        self._check()

    def _coming(self) -> Iterator[Part | pl.DataFrame]:
        """The parts, as they come; for the thread that writes."""
        while True:
            try:
                part = self._parts.get(timeout=POLL)
            except Empty:
                if self._given_up:
                    raise _GivenUpError from None
                continue
            if part is None:
                return
            yield part

    def _put(self, part: Part | pl.DataFrame | None) -> None:
        while self._thread.is_alive():
            try:
                self._parts.put(part, timeout=POLL)
            except Full:
                continue
            return
        self._check()

    def _check(self) -> None:
        error = self._error
        if error is None:
            return
        if isinstance(error, (OSError, pl.exceptions.PolarsError)):
            raise HmtraceError(
                f"cannot be written: {getattr(error, 'strerror', None) or error}",
                source=str(self._place),
                hint="set TMPDIR to a folder with more room, or write elsewhere",
            ) from error
        raise error

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._given_up = True
        while not self._parts.empty():
            self._parts.get_nowait()
        self._thread.join()


def write_capture(capture: Capture, writer: PartWriter) -> Capture:
    """Write a capture that is open already.

    Returns
    -------
    Capture
        The same, whose `events` read what was written.

    Raises
    ------
    HmtraceError
        If it cannot be written.
    """
    rows = 0
    with writer:
        for frame in capture.batches():
            writer.write(frame)
            rows += frame.height
        writer.finish(capture, rows)
    return replace(capture, events=writer.events)
