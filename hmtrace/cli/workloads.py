"""Workloads of traces that were replayed before, kept in the cache folder.

A trace is read and ordered once; who replays it on a second machine has that. A workload is found
by the trace's path, the files beside it (names, sizes, times), and the program's own source; it
holds the trace's digest, which is compared. One that is damaged is made anew, and without a folder
that can be written there is none.

What only a conversion of kmap() needs (:mod:`replay.whatif.turns`) lies in a folder within,
as whole or absent as the workload itself: it comes with whoever asks for a conversion first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
import zlib
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.capture import Origin
from collectors.compiled.store import cache_home, is_ours
from collectors.errors import HmtraceError
from collectors.input.opening import is_workload
from collectors.input.remote import is_url
from hmtrace.cli.captures import TraceDigest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from collectors.capture import Capture
    from replay.machine.model import Machine
    from replay.trace.parts import Parts
    from replay.whatif.workload import Workload

MOST_BYTES: Final = 1 << 30
"""Bytes of all workloads together; the ones that were not used for longest go first."""
_LOOK_EACH: Final = 32
"""Parts of :data:`MOST_BYTES` after each of which room is made."""
_MOST_FILES: Final = 1 << 10
"""Files beside a trace; where there are more they are not the machine's."""
_ANSWERS: Final = (".json", ".html", ".csv", ".ndjson", ".md", ".parquet", ".arrow")
_FORM: Final = "hmtrace/workload/4"
_DOCUMENT: Final = "workload.json"
_OF_TURNS: Final = "turns.json"
_CHUNK: Final = 1 << 18
_PART: Final = ".part"
_STALE: Final = 86_400.0
"""Seconds after which somebody's half-made workload is taken for left behind."""
_DAMAGES: Final = (
    OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, HmtraceError,
)  # fmt: skip
"""What reading something that is damaged, or gone, ends in."""


class Kept(NamedTuple):
    """A workload from the cache.

    Attributes
    ----------
    capture
        The capture, without its events.
    sha256
        Of the trace file.
    machine
        The machine that it was distilled on, as :func:`machine_words` has it.
    workload
        The workload; without turns where nobody asked for them.
    is_file
        It was read from a workload file.
    digest
        Of its document.
    """

    capture: Capture
    sha256: str | None
    machine: str
    workload: Workload
    is_file: bool
    digest: str

    def is_of(self, machine: Machine) -> bool:
        """Whether it was distilled on this machine; its costs do not matter."""
        return self.machine == machine_words(machine)


class Place:
    """Where the workload of a trace is kept.

    Parameters
    ----------
    home
        Folder of all workloads.
    key
        Name of this one's.

    Attributes
    ----------
    folder
        Where it is, once it is kept.
    """

    def __init__(self, home: Path, key: str) -> None:
        self._home = home
        self.folder = home / key

    @classmethod
    def of(cls, path: str) -> Place | None:
        """The place of a trace; None for a stream, and where nothing can be kept."""
        try:
            key = _key_of(path)
            base = cache_home() / "hmtrace"
            ours = key is not None and is_ours(base) and is_ours(base / "workloads")
        except (OSError, ValueError, RuntimeError):
            return None
        return cls(base / "workloads", key) if key is not None and ours else None

    def find(self) -> Kept | None:
        """The workload, if it is there and whole; its turns are not looked at."""
        if not self.folder.exists():
            return None
        try:
            kept = _kept(self.folder)
            os.utime(self.folder)
        except _DAMAGES:
            self.forget()
            return None
        return kept

    def with_turns(self, kept: Kept) -> Kept:
        """A workload that is kept here with its turns, if they are there and whole."""
        return _with_turns(kept, self.folder)

    def forget(self) -> None:
        """Keep it no longer."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def room(self) -> Iterator[Path | None]:
        """A folder to make the workload in, gone at the end; None if there is no room."""
        try:
            part = Path(mkdtemp(prefix=f"{self.folder.name}.", suffix=_PART, dir=self._home))
        except OSError:
            yield None
            return
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def keep(
        self,
        part: Path,
        capture: Capture,
        sha256: str | None,
        machine: Machine,
        workload: Workload,
        file: str | None = None,
    ) -> bool:
        """Keep what was made in a room; false where another was first, or the disk is full.

        Parameters
        ----------
        part
            The room.
        capture, sha256, machine, workload
            As of :class:`Kept`.
        file
            Digest of the file that was read, where it is not the trace itself.
        """
        from collectors.parquet.metadata import encode
        from replay.whatif.turns import FOLDER
        from replay.whatif.written import record_of

        turns = workload.turns
        is_whole = workload.parts.is_whole and (turns is None or turns.is_whole)
        if not is_whole or (file or sha256) is None:
            return False
        try:
            document = {
                "form": _FORM,
                "sha256": sha256,
                "file": file or sha256,
                "origin": vars(capture.origin),
                "capture": encode(capture, 0),
                "machine": machine_words(machine),
                "workload": record_of(workload),
                "digests": _digests_of(workload.parts.files),
            }
            told = _write(part / _DOCUMENT, document)
            if turns is not None:
                _write_turns(turns, part / FOLDER, told)
            if _size_of(part) > MOST_BYTES:
                return False
            part.rename(self.folder)
        except OSError:
            return False
        workload.parts.move_to(self.folder)
        if turns is not None:
            turns.move_to(self.folder / FOLDER)
        _evict_sometimes(self._home, _size_of(self.folder))
        return True

    def keep_turns(self, part: Path, kept: Kept) -> bool:
        """Keep the turns that were sifted in a room for a workload that is; false as :meth:`keep`.

        Parameters
        ----------
        part
            The room.
        kept
            The workload, with its turns.
        """
        from replay.whatif.turns import FOLDER

        turns = kept.workload.turns
        if turns is None or not turns.is_whole:
            return False
        try:
            _write_turns(turns, part / FOLDER, kept.digest)
            size = _size_of(part)
            if size + _size_of(self.folder) > MOST_BYTES:
                return False
            (part / FOLDER).rename(self.folder / FOLDER)
        except OSError:
            return False
        turns.move_to(self.folder / FOLDER)
        _evict_sometimes(self._home, size)
        return True


def open_workload(path: str) -> Kept:
    """The workload in a folder, whether its trace is seen from here or not.

    Raises
    ------
    HmtraceError
        There is none, it is damaged, or another version of hmtrace wrote it.
    """
    try:
        return _with_turns(_kept(Path(path), with_trace=False), Path(path))
    except OSError as error:
        raise HmtraceError(f"cannot read the workload {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HmtraceError(f"the workload {path} is damaged, or of another hmtrace") from error


def digest_of_workload(path: str) -> str:
    """Digest of the workload in a folder, as it is told there.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with (Path(path) / _DOCUMENT).open("rb") as file:
        return file.readline(256).decode("ascii", "replace").strip()


def _kept(folder: Path, *, with_trace: bool = True) -> Kept:
    """The workload in a folder, of the trace that its document names where that can be seen."""
    from replay.whatif.written import parts_from, workload_from

    told, document = _opened(folder / _DOCUMENT)
    if document["form"] != _FORM:
        msg = "another form"
        raise ValueError(msg)
    capture = capture_of(document["capture"], Origin(**document["origin"]))
    # beside the tables' digests; of what lies elsewhere the key tells all: there is no copy here
    is_here = with_trace and not is_url(capture.origin.path)
    trace = TraceDigest(capture.origin) if is_here else None
    record = document["workload"]
    workload = workload_from(record, parts_from(record, folder))
    _require(workload.parts, document["digests"])
    if trace is not None and trace.wait() != document["file"]:
        msg = "another trace"
        raise ValueError(msg)
    is_file = document["file"] != document["sha256"]
    return Kept(capture, document["sha256"], document["machine"], workload, is_file, told)


def _with_turns(kept: Kept, folder: Path) -> Kept:
    """The same with its turns, if it lacks them and they are there; damaged ones are removed."""
    from replay.trace.parts import Parts
    from replay.whatif.turns import FOLDER

    own = folder / FOLDER
    if kept.workload.can_convert or not own.exists():
        return kept
    try:
        _, document = _opened(own / _OF_TURNS)
        if document["of"] != kept.digest:
            msg = "of another workload"
            raise ValueError(msg)
        turns = Parts.of(own, [str(name) for name in document["files"]])
        _require(turns, document["digests"])
    except _DAMAGES:
        shutil.rmtree(own, ignore_errors=True)
        return kept
    return kept._replace(workload=replace(kept.workload, turns=turns))


def _write_turns(turns: Parts, folder: Path, of: str) -> None:
    """Write the document of the turns in a folder, of the workload with this digest."""
    files = sorted(path.name for path in turns.files.values())
    document = {"of": of, "files": files, "digests": _digests_of(turns.files)}
    _write(folder / _OF_TURNS, document)


def _require(parts: Parts, digests: Any) -> None:
    """Make sure that tables are what they were.

    Raises
    ------
    OSError, ValueError, TypeError, KeyError
        They are not.
    """
    told = _digests_of(parts.files)
    damaged = [name for name, digest in told.items() if digests[name] != digest]
    if damaged:
        msg = f"damaged: {damaged[0]}"
        raise ValueError(msg)


def _key_of(path: str) -> str | None:
    """Digest of what a capture is read from, as far as it can be told without reading it."""
    from collectors.input.remote import RemotePlace, shown

    if is_url(path) and not os.path.lexists(path):
        versions = RemotePlace.of(path).versions()
        return None if versions is None else _named(shown(path), versions)
    given = Path(path)
    if not given.exists():
        return None
    if given.is_file() and is_workload(given):  # a fleet's may lie in one folder
        return _named(path, [("", *_about(given.stat()))])
    folder = given if given.is_dir() else given.parent
    files: list[tuple[str | int, ...]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            about = entry.stat()
            answers = entry.name != given.name and _is_answer(entry.name)
            if stat.S_ISREG(about.st_mode) and not answers:
                files.append((entry.name, *_about(about)))
            if len(files) > _MOST_FILES:
                return None
    return _named(path, sorted(files))


def _named(path: str, files: Sequence[tuple[str | int, ...]]) -> str:
    """Name for what is made of these files, by this version."""
    where = path if is_url(path) else str(Path(path).resolve())
    told = (_FORM, source_digest(), path, where, files)
    return hashlib.sha256(repr(told).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _about(file: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does."""
    return file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino


def _is_answer(name: str) -> bool:
    """Whether a file beside a trace is what some command wrote: no reader looks at it."""
    return name.endswith(_ANSWERS) and name != "state.json"


@cache
def source_digest() -> str:
    """Digest of the source of all that reads and replays, wherever it lies; taken once."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for package in ("collectors", "replay"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode("utf-8", "surrogateescape"))
            digest.update(path.read_bytes())
    return digest.hexdigest()


def machine_words(machine: Machine) -> str:
    """A machine without its costs, as text."""
    from replay.machine.costs import Costs
    from replay.whatif.written import encode

    return json.dumps(encode(replace(machine, costs=Costs.default())))


def capture_of(text: str, origin: Origin) -> Capture:
    """A capture as it was read, without its events; `text` as of collectors.parquet.metadata.

    Raises
    ------
    HmtraceError
        If that is none.
    """
    import polars as pl

    from collectors.capture import Capture, Lost
    from collectors.events import SCHEMA
    from collectors.parquet.metadata import Document

    told = Document(text, origin.trace)
    return Capture(
        origin=origin,
        events=pl.LazyFrame(schema=SCHEMA),
        raw_events=told.raw_events,
        clock=told.clock,
        clock_is_ns=told.clock_is_ns,
        span_ns=told.span_ns,
        facts=told.facts,
        lost=Lost(told.lost),
        notes=told.notes,
        markers=told.markers,
    )


def _opened(path: Path) -> tuple[str, Any]:
    """The document in a file, whose first line is the digest of the rest; and that digest."""
    told, _, text = path.read_bytes().partition(b"\n")
    digest = hashlib.blake2b(text).hexdigest()
    if told.decode("ascii", "replace") != digest:
        msg = "damaged document"
        raise ValueError(msg)
    return digest, json.loads(text)


def _write(path: Path, document: Any) -> str:
    """Write a document behind its digest; return that."""
    text = json.dumps(document).encode()
    digest = hashlib.blake2b(text).hexdigest()
    path.write_bytes(digest.encode() + b"\n" + text)
    return digest


def _digests_of(files: Mapping[str, Path]) -> dict[str, int]:
    """CRC-32 of files: it finds what a disk damages, in a fifth of a digest's time."""
    return {name: _checksum(path) for name, path in files.items()}


def _checksum(path: Path) -> int:
    found, chunk = 0, memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(chunk):
            found = zlib.crc32(chunk[:size], found)
    return found


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


_kept_since: dict[Path, int] = {}
"""Bytes that this process kept in a folder since it last looked at all that is there."""


def _evict_sometimes(home: Path, kept: int) -> None:
    """Make room, but not after every small workload of a fleet: it looks at all that are kept."""
    since = _kept_since.get(home, MOST_BYTES) + kept
    if since >= MOST_BYTES // _LOOK_EACH:
        _evict(home)
        since = 0
    _kept_since[home] = since


def _evict(home: Path) -> None:
    """Remove what is left behind, and the workloads that were not used for longest."""
    try:
        folders = sorted(
            (entry for entry in home.iterdir() if entry.is_dir()),
            key=lambda folder: folder.stat().st_mtime,
            reverse=True,
        )
        total = 0
        for folder in folders:
            if folder.suffix == _PART:
                if time.time() - folder.stat().st_mtime > _STALE:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            total += _size_of(folder)
            if total > MOST_BYTES:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
