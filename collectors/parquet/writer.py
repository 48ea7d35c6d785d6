"""Writing an event table to Parquet while it is made."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import replace
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Final

import polars as pl

from collectors.capture import BATCH_ROWS
from collectors.errors import HmtraceError
from collectors.events import SCHEMA, empty
from collectors.parquet.chunks import Encoder, footer, row_group
from collectors.parquet.layout import ARROW_KEY, AUTHOR, CHECKSUMS_KEY, KEY, MAGIC
from collectors.parquet.metadata import encode
from collectors.part import part_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self

    from collectors.capture import Capture
    from collectors.part import Part

_AHEAD: Final = 2
"""Parts that wait to be written."""


class _GivenUpError(Exception):
    """What is being written is not wanted any more."""


class TableWriter:
    """Writes parts of the event table to a file, each a row group, in a thread of its own.

    polars encodes a column at a time and looks at each several times over: it takes ten times as
    long as the loops of :mod:`collectors.parquet.encoding`, pyarrow four times.

    To be used in a ``with`` statement: leaving it without :meth:`finish` gives up, and leaves a
    file that means nothing.

    Parameters
    ----------
    path
        File to write, replaced where it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: Queue[Part | None] = Queue(_AHEAD)
        self._given_up = False
        self._metadata = ""
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="hmtrace-parquet", daemon=True)

    def write(self, part: Part) -> None:
        """Append rows; their arrays must not change any more.

        Raises
        ------
        HmtraceError
            If the file cannot be written.
        """
        if part.rows:
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

    def _put(self, part: Part | None) -> None:
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
            with self._path.open("wb") as file:
                self._write_to(file)
        except BaseException as error:
            self._error = error

    def _write_to(self, file: BinaryIO) -> None:
        """Write the file, row group by row group as they come."""
        encoder = Encoder()
        at = file.write(MAGIC)
        rows, groups, checksums = 0, [], []
        while (part := self._next()) is not None:
            chunks, begin, checksum = [], at, 0
            for name in SCHEMA:
                chunk = encoder.encode(name, part.columns[name], part.rows)
                chunks.append(chunk.description(at))
                for page in (chunk.dictionary, chunk.page):
                    at += file.write(page)
                    checksum = zlib.crc32(page, checksum)
            groups.append(row_group(chunks, at - begin, part.rows))
            checksums.append((begin, at, checksum))
            rows += part.rows
        metadata = {
            KEY: self._metadata,
            CHECKSUMS_KEY: json.dumps(checksums, separators=(",", ":")),
            ARROW_KEY: _arrow_schema(),
        }
        file.write(footer(rows, groups, metadata, AUTHOR))

    def _next(self) -> Part | None:
        """Wait for rows; None: there are no more."""
        while True:
            try:
                return self._parts.get(timeout=0.1)
            except Empty:
                if self._given_up:
                    raise _GivenUpError from None

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
            for some in frame.iter_slices(BATCH_ROWS):
                writer.write(part_of(some))
            rows += frame.height
        writer.finish(encode(capture, rows))
    return replace(capture, events=pl.scan_parquet(path, glob=False))


def _arrow_schema() -> str:
    """What polars writes down of its types, so that it finds its categories again."""
    file = io.BytesIO()
    empty().write_parquet(file)
    file.seek(0)
    return pl.read_parquet_metadata(file)[ARROW_KEY]
