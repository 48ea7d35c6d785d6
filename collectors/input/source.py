"""The bytes of one trace, and the machine's files beside it."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from collectors.errors import HmtraceError
from collectors.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from collectors.facts import Facts

HEAD: Final = 1 << 16
"""Bytes that a format may look at to recognise a file."""
SUFFIXES: Final = ("", ".gz", ".xz", ".zst")
JUDGES: Final = ("truth", "pkmap.end")
"""Files that tests compare with: never read, never chosen."""


@dataclass
class Source:
    """One trace, mapped, and the machine's files beside it.

    Attributes
    ----------
    path
        As the user gave it.
    trace
        The trace file, for messages.
    data : ndarray of uint8, shape (n,)
        Its bytes, decompressed.
    folder
        Where the machine's files are; None for stdin.
    facts
        What they say.
    notes
        Remarks on how the trace was chosen.
    parts : tuple of ndarray of uint8
        Further files of a perf.data in its directory form: ``data.0``, ``data.1``, …
    file
        The file whose bytes these are; None for what was decompressed or came from a stream.
    out_of_order
        A reader found that the events are not in the order of time.
    buffer
        Name of the trace buffer (instance) of a trace.dat that the user chose; "" is the top one,
        None: not chosen.
    """

    path: str
    trace: str
    data: NDArray[np.uint8]
    folder: Path | None
    facts: Facts
    notes: tuple[str, ...] = ()
    _map: mmap.mmap | bytes = b""
    _keep: list[Any] = field(default_factory=list)
    parts: tuple[NDArray[np.uint8], ...] = ()
    file: Path | None = None
    out_of_order: bool = False
    buffer: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "<bytes>", folder: Path | None = None) -> Source:
        """Take a trace from memory, for tests and for embedded traces."""
        import numpy as np

        return cls(name, name, np.frombuffer(data, np.uint8), folder, facts_of(folder), (), data)

    def inside(self, pieces: Iterable[bytes | memoryview]) -> Source:
        """Take a trace that is embedded in this one, with the machine's files of this one.

        Raises
        ------
        HmtraceError
            If it is empty, or the disk is full.
        """
        with temporary() as spool:
            try:
                for piece in pieces:
                    spool.write(piece)
                mapped, data = map_file(spool, self.trace)
            except OSError as error:
                raise no_room(error, self.trace) from None
        return replace(self, data=data, _map=mapped, parts=(), file=None)

    @property
    def head(self) -> bytes:
        """First bytes, for recognising the format."""
        return self.data[:HEAD].tobytes()

    def find(self, what: bytes, begin: int) -> int:
        """Position of `what` from `begin` on, -1 if it is not there."""
        return self._map.find(what, begin)

    def end_of_lines(self) -> int:
        """Position behind the last line that ends; 0 if none does."""
        return self._map.rfind(b"\n") + 1

    def forget(self, end: int) -> None:
        """Let the system take back the memory of what was read, up to byte `end`.

        Pages of a mapped file count as the process's own as long as they are mapped; they are read
        again where they are looked at again.
        """
        whole = end // mmap.PAGESIZE * mmap.PAGESIZE
        if isinstance(self._map, mmap.mmap) and whole:
            self._map.madvise(mmap.MADV_DONTNEED, 0, whole)

    def lines(self, offset: int, count: int) -> list[bytes]:
        """Up to `count` lines from `offset` on, each cut to 400 bytes."""
        found: list[bytes] = []
        while len(found) < count and offset < len(self.data):
            end = self.find(b"\n", offset)
            end = len(self.data) if end < 0 else end
            found.append(self.data[offset : min(end, offset + 400)].tobytes().rstrip(b"\r"))
            offset = end + 1
        return found or [b""]

    def read_meta(self, name: str) -> bytes | None:
        """Content of a machine's file beside the trace, compressed or not; None: not there."""
        from collectors.facts.reading import read_bytes

        if self.folder is None or name.startswith(JUDGES):
            return None
        for suffix in SUFFIXES:
            path = self.folder / (name + suffix)
            if path.is_file():
                return read_bytes(path)[0]
        return None


def no_room(error: OSError, shown: str, done: str = "decompressed") -> HmtraceError:
    """The error for a full disk, with what can be done about it."""
    return HmtraceError(
        f"cannot be {done} to {tempfile.gettempdir()}: {error.strerror or error}",
        source=shown,
        hint="set TMPDIR to a folder with more room",
    )


def temporary() -> BinaryIO:
    """Temporary file without a name: nothing is left behind."""
    return tempfile.TemporaryFile(prefix="hmtrace-")


def map_file(file: BinaryIO, shown: str) -> tuple[mmap.mmap, NDArray[np.uint8]]:
    """Map a file for reading."""
    import numpy as np

    file.flush()
    if os.fstat(file.fileno()).st_size == 0:
        raise HmtraceError(
            "the file is empty",
            source=shown,
            hint="copy it again; a tracefs file has to be read as a stream (cat trace > file)",
        )
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return mapped, np.frombuffer(mapped, np.uint8)


def facts_of(folder: Path | None) -> Facts:
    """What the machine's files of a folder say; nothing without one."""
    from collectors.facts import Facts, read_folder

    return Facts() if folder is None else read_folder(folder)
