"""From what the user names to the bytes of one trace and the machine's files beside it."""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from collectors.compressed import compression
from collectors.errors import KNOWN, HmtraceError
from collectors.facts import kind_of
from collectors.input import remote, ringbuffers
from collectors.input.archive import begins_as, extract, is_tar
from collectors.input.magic import ARROW, PARQUET, PERF_DATA, TRACE_DAT, WORKLOAD
from collectors.input.source import (
    HEAD,
    JUDGES,
    SUFFIXES,
    Source,
    facts_of,
    map_file,
    no_room,
    temporary,
)
from collectors.input.unpack import MAX_BYTES, PIECE, decompress
from collectors.opened import note, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

_CAPTURES: Final = (WORKLOAD, PARQUET, ARROW, TRACE_DAT, PERF_DATA, PERF_DATA[::-1])
"""How files begin that are captures by themselves, in a folder of a fleet."""
_PREFERRED: Final = (
    "trace.dat",
    "perf.data",
    "trace.txt",
    "trace",
    "trace_pipe.txt",
    "trace_pipe",
    "report.txt",
    "perf-script.txt",
    "perf.script",
)
"""Names of traces in a capture folder, the richest first."""
_ENDINGS: Final = (".txt", ".dat", ".data")
_BESIDE: Final = ("kallsyms", "saved_cmdlines")
"""Names of files whose readers are no readers of facts."""
_PERF_MAIN: Final = "data"
"""Main file of a perf.data in its directory form."""
_PERF_PART: Final = re.compile(r"data\.\d{1,6}")
_CONTROLS: Final = bytes({*range(32)} - {*b"\t\n\v\f\r"})
_TEXT_RANK: Final = 2
_LOOKED_INTO: Final = 1000
"""Entries of a folder without a trace that are looked at for captures."""


class Sniffer(Protocol):
    """What is asked of a format (:class:`collectors.reading.Format`) to find a trace of it."""

    @property
    def rank(self) -> int:
        """Place among the traces of a folder; text comes last."""

    @property
    def sniff(self) -> Callable[[bytes], bool]:
        """Tells by the first bytes whether a file is of the format."""


def open_source(
    path: str | Path,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Find and map the trace that `path` stands for.

    Parameters
    ----------
    path
        A file, compressed or not; a capture folder; a tar archive of one; a URL of any of these
        (:mod:`collectors.input.remote`); ``-`` for stdin. With
        ``:NAME`` behind it, the trace buffer (instance) of that name in a trace.dat; ``:`` alone
        is the top buffer.
    formats
        Known formats, to choose the trace of a folder.
    progress
        Called with (bytes done, bytes in all) while decompressing.

    Returns
    -------
    Source

    Raises
    ------
    HmtraceError
        If it does not exist, may not be read, is empty, damaged, or holds no trace.
    """
    shown = str(path)
    if not shown:
        raise HmtraceError("the name of the capture is empty", exit_code=2)
    place, buffer = _split(shown)
    try:
        source = _open(place, formats, progress)
    except OSError as error:
        raise _os_error(error, shown) from None
    source.path, source.buffer = remote.shown(shown) if remote.is_url(shown) else shown, buffer
    return source


def _split(shown: str) -> tuple[str, str | None]:
    """Part a trace from the buffer that is chosen behind a colon; what is a file's name is one."""
    place, colon, buffer = shown.rpartition(":")
    if colon and not os.path.lexists(shown) and (place == "-" or os.path.lexists(place)):
        return place, buffer
    return shown, None


def _open(
    shown: str,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None,
) -> Source:
    if remote.is_url(shown) and not os.path.lexists(shown):
        return _from_url(shown, formats, progress)
    if shown == "-":
        if sys.stdin is None:  # closed by the caller
            raise HmtraceError("is closed: there is nothing to read", source="<stdin>")
        _note_stdin()
        return _from_stream(sys.stdin.buffer, shown, formats, progress)
    where = Path(shown)
    if where.is_dir():
        return _from_folder(where, shown, formats, progress)
    if where.exists() and not where.is_file():  # a fifo, a device
        with opened(where) as stream:
            return _from_stream(stream, shown, formats, progress)
    return _from_file(where, shown, formats, progress)


def _from_url(
    url: str,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None,
) -> Source:
    """Copy what a URL names, and read the copy."""
    path = remote.local_path(url)
    if path is not None:
        return _open(path, formats, progress)
    name = remote.shown(url)
    folder, copy = remote.fetch(url, _chosen, progress)
    if copy.is_dir():
        source = _from_folder(copy, name, formats, None)
        source.trace = f"{name.rstrip('/')}/{Path(source.trace).name}"
    else:
        source = _from_file(copy, name, formats, None)
    source._keep.append(folder)
    return source


def _chosen(names: list[str]) -> tuple[list[str], list[str]]:
    """Of the names in a folder those of traces, the best first, and those of machine's files."""
    of_machine = [name for name in names if _is_of_machine(name) and not name.startswith(JUDGES)]
    return list(trace_names(names)), of_machine


def _is_of_machine(name: str) -> bool:
    return kind_of(name) is not None or name.startswith(_BESIDE)


def _note_stdin() -> None:
    try:
        note(sys.stdin.fileno(), "<stdin>")
    except (OSError, ValueError, AttributeError):  # of no file, in tests
        return


def captures_in(folder: Path) -> list[str]:
    """Captures in a folder that has no trace of its own: folders with one, and files that are some.

    Files are told by how they begin: a workload file, a Parquet or Arrow file, a trace.dat, a
    perf.data, or a tar archive by that and its name. A text may be anything.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if next(trace_files(path), None) is not None:
                found.append(str(path))
        elif path.is_file() and begins_as(path, _CAPTURES):
            found.append(str(path))
    return found


def inputs_of(shown: str) -> Iterator[Path]:
    """Files that reading a capture may open, as far as can be told beforehand; none of stdin.

    Parameters
    ----------
    shown
        As of :func:`open_source`.
    """
    where = Path(_split(shown)[0])
    if shown == "-" or not where.exists():
        return
    folder = where if where.is_dir() else where.parent
    if where.is_dir():
        yield from trace_files(folder)
    elif where.is_file():
        yield where
        if is_workload(where):  # a fleet's may lie in one folder: each is read alone
            return
    for path in folder.iterdir():
        if _is_of_machine(path.name) and path.is_file():
            yield path


def is_workload(path: Path) -> bool:
    """Whether a file begins as a workload file; False where it cannot be read."""
    try:
        with opened(path) as file:
            return file.read(len(WORKLOAD)) == WORKLOAD
    except OSError:
        return False


def _os_error(error: OSError, shown: str) -> HmtraceError:
    reason = (error.strerror or str(error)).lower()
    hint = None
    if isinstance(error, FileNotFoundError):
        reason = "no such file or folder"
    elif isinstance(error, PermissionError):
        hint = "trace files are often readable by root only: copy it, or change its owner"
    return HmtraceError(f"cannot be read: {reason}", source=shown, hint=hint)


def _from_file(
    path: Path,
    shown: str,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None,
) -> Source:
    if path.name.startswith(JUDGES):
        raise HmtraceError(
            "this file is a judge of tests, not a trace of what users can record", source=shown
        )
    if ringbuffers.is_pages(path.name):
        return _from_pages(path.parent, shown, path)
    with opened(path) as file:
        if not os.fstat(file.fileno()).st_size:  # tracefs and procfs do not tell sizes
            streamed = _from_stream(file, shown, formats, progress)
            return replace(streamed, folder=path.parent, facts=facts_of(path.parent))
        data_file, packed = _plain(file, shown, progress)
        with data_file:
            if is_tar(data_file):
                return _from_tar(data_file, shown, formats, progress)
            mapped, data = map_file(data_file, shown)
    folder = path.parent
    parts: tuple[NDArray[np.uint8], ...] = ()
    if path.name == _PERF_MAIN:
        folder, parts = _perf_directory(folder, shown)
    whole = path if packed is None else None
    if data[: len(WORKLOAD)].tobytes() == WORKLOAD:  # it holds all that its machine said
        return Source(shown, shown, data, None, facts_of(None), (), mapped, [packed], parts, whole)
    return Source(shown, shown, data, folder, facts_of(folder), (), mapped, [packed], parts, whole)


def _perf_directory(folder: Path, shown: str) -> tuple[Path, tuple[NDArray[np.uint8], ...]]:
    """Map the further files of a perf.data in its directory form.

    Returns
    -------
    folder, parts
        Where the machine's files are: beside the directory, which holds perf's alone.
    """
    found = [p for p in folder.iterdir() if _PERF_PART.fullmatch(p.name) and p.is_file()]
    found.sort(key=lambda p: int(p.name.rpartition(".")[2]))
    parts = []
    for part in found:
        with opened(part) as file:
            if os.fstat(file.fileno()).st_size:
                parts.append(map_file(file, f"{shown}: {part.name}")[1])
    alone = all(p.name.startswith(("data", "kcore_dir")) for p in folder.iterdir())
    return folder.resolve().parent if alone else folder, tuple(parts)


def _from_stream(
    stream: BinaryIO,
    shown: str,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None,
) -> Source:
    """Spool a stream that cannot be mapped."""
    name = "<stdin>" if shown == "-" else shown
    with temporary() as spool:
        size = 0
        while piece := stream.read(PIECE):
            if not size:
                _refuse_noise(piece, formats, name)
            size += len(piece)
            if size > MAX_BYTES:
                raise HmtraceError(
                    f"more than {MAX_BYTES >> 30} GiB",
                    source=name,
                    hint="give hmtrace the file itself",
                )
            _put(spool, piece, name)
        spool.seek(0)
        data_file, _ = _plain(spool, name, progress)
        with data_file:
            if is_tar(data_file):
                return _from_tar(data_file, shown, formats, progress)
            mapped, data = map_file(data_file, name)
    return Source(shown, name, data, None, facts_of(None), (), mapped)


def _refuse_noise(piece: bytes, formats: Sequence[Sniffer], name: str) -> None:
    """Refuse a stream that starts as no trace does, before it fills the disk (``/dev/zero``)."""
    known = (
        compression(piece)
        or piece.startswith((PARQUET, ARROW, WORKLOAD))
        or is_tar(io.BytesIO(piece[:HEAD]))
    )
    if known or any(f.sniff(piece[:HEAD]) for f in formats if f.rank < _TEXT_RANK):
        return
    odd = len(piece) - len(piece.translate(None, _CONTROLS))
    if len(piece) == PIECE and odd * 20 > len(piece):
        raise HmtraceError(
            "this is binary data of no format that hmtrace knows", source=name, hint=KNOWN
        )


def _from_tar(
    file: BinaryIO,
    shown: str,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None,
) -> Source:
    """Extract the recorder's archive and read it as a folder."""
    keep = tempfile.TemporaryDirectory(prefix="hmtrace-")
    root = Path(keep.name)
    notes = extract(file, root, "<stdin>" if shown == "-" else shown)
    entries = list(root.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        root = entries[0]
    source = _from_folder(root, shown, formats, progress)
    source.trace = f"{shown}:{Path(source.trace).name}"
    source.notes = (*notes, *source.notes)
    source._keep.append(keep)
    return source


def _from_folder(
    folder: Path,
    shown: str,
    formats: Sequence[Sniffer],
    progress: Callable[[int, int], None] | None,
) -> Source:
    """Take the richest trace of a capture folder."""
    notes: list[str] = []
    for path in trace_files(folder):
        if ringbuffers.is_pages(path.name):
            return _from_pages(folder, shown)
        head = _peek(path)
        if not head:
            notes.append(f"{path.name} is empty and was passed over")
            continue
        if not any(f.sniff(head) for f in formats if f.rank <= _rank_of(path.name)):
            notes.append(f"{path.name} is of no format that can be read and was passed over")
            continue
        source = _from_file(path, shown, formats, progress)
        source.path = shown
        source.trace = str(path)
        source.notes = tuple(notes)
        return source
    if (folder / "recorder").is_file():
        raise HmtraceError(
            "its recorder recorded no event",
            source=shown,
            hint="its file `recorder` says why; record while the load runs, without --minimal",
        )
    raise HmtraceError(
        "no trace in this folder",
        source=shown,
        hint=f"{_folders_with_a_trace(folder)}looked for {', '.join(_PREFERRED)} (also compressed) "
        "and report*.txt" + (f"; {notes[0]}" if notes else ""),
    )


def _from_pages(folder: Path, shown: str, only: Path | None = None) -> Source:
    """Put the pages of each CPU's ring buffer together, and read them as a trace.dat."""
    pages = [p for p in folder.iterdir() if ringbuffers.is_pages(p.name) and p.is_file()]
    with temporary() as file:
        try:
            notes = ringbuffers.assemble(folder, pages if only is None else [only], file, shown)
        except OSError as error:
            raise no_room(error, shown, "put together") from None
        mapped, data = map_file(file, shown)
    trace = str(only or folder / ringbuffers.NAME)
    return Source(shown, trace, data, folder, facts_of(folder), notes, mapped)


def _folders_with_a_trace(folder: Path) -> str:
    """Beginning of a hint: captures that lie one level deeper; empty where there are none."""
    try:
        below = [path for path in sorted(folder.iterdir())[:_LOOKED_INTO] if path.is_dir()]
        names = [path.name for path in below if next(trace_files(path), None) is not None]
    except OSError:
        return ""
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"give one of the captures in it: {', '.join(names[:3])}{more}; "


def trace_files(folder: Path) -> Iterator[Path]:
    """Files of a folder that may be its trace, best first."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    main = folder / "perf.data" / _PERF_MAIN
    if main.is_file():
        names.append("perf.data")
    for name in trace_names(names):
        path = folder / name
        yield main if name == "perf.data" and path.is_dir() else path


def trace_names(names: Iterable[str]) -> Iterator[str]:
    """Of the names in a folder those that may be its trace, best first."""
    known = sorted(names)
    pages = [name for name in known if ringbuffers.is_pages(name)]
    for name in _PREFERRED:
        for suffix in SUFFIXES:
            if name + suffix in known:
                yield name + suffix
    if _PERF_MAIN in known:
        yield _PERF_MAIN
    yield from pages
    for name in known:
        stem = name
        for suffix in SUFFIXES[1:]:
            stem = stem.removesuffix(suffix)
        is_other = stem not in _PREFERRED and not stem.startswith(JUDGES)
        named = stem.startswith(("report", "trace", "perf")) and stem.endswith(_ENDINGS)
        if is_other and named:
            yield name


def _rank_of(name: str) -> int:
    """Rank that a file's name promises; a text reader is not asked about a trace.dat."""
    if ".data" in name or name == _PERF_MAIN:
        return 1
    return 0 if ".dat" in name else 2


def _peek(path: Path) -> bytes:
    """First decompressed bytes of a file; a damaged one gives what there is."""
    from collectors.facts.reading import read_bytes

    with opened(path) as file:
        return read_bytes(file.read(HEAD), HEAD)[0]


def _plain(
    file: BinaryIO, shown: str, progress: Callable[[int, int], None] | None
) -> tuple[BinaryIO, object]:
    """File as it is, or decompressed into an unlinked temporary file."""
    head = file.read(16)
    file.seek(0)
    kind = compression(head)
    if kind is None:
        return file, None
    size = os.fstat(file.fileno()).st_size
    spool = temporary()
    tell = None if progress is None else (lambda done: progress(done, size))
    try:
        decompress(kind, file, spool.write, source=shown, progress=tell)
        spool.seek(0)
    except OSError as error:
        spool.close()
        raise no_room(error, shown) from None
    except HmtraceError:
        spool.close()
        raise
    return spool, spool


def _put(spool: BinaryIO, piece: bytes, name: str) -> None:
    """Write a piece of a stream where it is kept."""
    try:
        spool.write(piece)
        spool.flush()
    except OSError as error:
        raise no_room(error, name, "copied") from None
