"""Writing an event table to Parquet while it is made."""

from __future__ import annotations

from dataclasses import replace
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from polars.io.plugins import register_io_source

from collectors.capture import BATCH_ROWS
from collectors.errors import HmtraceError
from collectors.events import SCHEMA
from collectors.parquet.layout import KEY
from collectors.parquet.metadata import encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from collectors.capture import Capture
    from collectors.table.part import Part

_AHEAD: Final = 3
"""Parts that wait to be written."""
_LEVEL: Final = 1
"""zstd level: of 3 and 1, the file differs by 5 %."""


class _GivenUpError(Exception):
    """What is being written is not wanted any more."""


class TableWriter:
    """Writes parts of the event table to a file, in a thread of its own.

    To be used in a ``with`` statement: leaving it without :meth:`finish` gives up, and leaves a
    file that means nothing.

    Parameters
    ----------
    path
        File to write, replaced where it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: Queue[Part | pl.DataFrame | None] = Queue(_AHEAD)
        self._given_up = False
        self._metadata = ""
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="hmtrace-parquet", daemon=True)

    def write(self, part: Part | pl.DataFrame) -> None:
        """Append rows; the arrays of a part must not change any more.

        Raises
        ------
        HmtraceError
            If the file cannot be written.
        """
        if part.height if isinstance(part, pl.DataFrame) else part.rows:
            self._put(part)

    def finish(self, metadata: str) -> None:
        """Complete the file.

        Parameters
        ----------
        metadata
            What :func:`collectors.parquet.metadata.encode` made of the capture.

        Raises
        ------
        HmtraceError
            If the file cannot be written.
        """
        self._metadata = metadata
        self._put(None)
        while self._thread.is_alive():  # with a timeout: signals are taken between two waits
            self._thread.join(0.1)
        self._check()

    def _put(self, part: Part | pl.DataFrame | None) -> None:
        while self._thread.is_alive():
            try:
                self._parts.put(part, timeout=0.1)
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
                source=str(self._path.parent),
                hint="set TMPDIR to a folder with more room, or write elsewhere",
            ) from error
        raise error

    def _run(self) -> None:
        try:
            source = register_io_source(self._pull, schema=SCHEMA)
            source.sink_parquet(
                self._path,
                compression="zstd",
                compression_level=_LEVEL,
                row_group_size=BATCH_ROWS,
                statistics=False,  # a tenth of the time; the reader believes none
                metadata=lambda _: {KEY: self._metadata},
            )
        except BaseException as error:
            self._error = error

    def _pull(self, columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        """What polars calls for rows, in a thread of its own."""
        while True:
            try:
                part = self._parts.get(timeout=0.1)
            except Empty:
                if self._given_up:
                    raise _GivenUpError from None
                continue
            if part is None:
                return
            frame = part if isinstance(part, pl.DataFrame) else part.frame()
            yield frame if columns is None else frame.select(columns)

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


def write_capture(capture: Capture, path: Path) -> Capture:
    """Write a capture that is open already.

    Parameters
    ----------
    capture
        The capture.
    path
        File to write, replaced where it exists.

    Returns
    -------
    Capture
        The same, whose `events` read the file.

    Raises
    ------
    HmtraceError
        If the file cannot be written.
    """
    rows = 0
    with TableWriter(path) as writer:
        for frame in capture.batches():
            writer.write(frame)
            rows += frame.height
        writer.finish(encode(capture, rows))
    return replace(capture, events=pl.scan_parquet(path, glob=False))
