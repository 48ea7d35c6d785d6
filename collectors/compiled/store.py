"""Where compiled loops, and answers of debugging files, are kept: folders of ours alone.

What is loaded from there is run, or believed, so only a folder of ours is used: no symbolic link,
owned by this user, closed to others. Where there is none, or the disk is full, everything is made
anew at every run. A file says by a checksum whether it is whole; one that is not counts as not
there.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import stat
import tempfile
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.compiled.former import remove_former

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shelf(NamedTuple):
    """What is kept together.

    Attributes
    ----------
    folder
        Name of the folder.
    head
        How each file begins: its form.
    ending
        How its name ends.
    """

    folder: str
    head: bytes
    ending: str


LOOPS: Final = Shelf("loops", b"hmtrace compiled loop 2\n", "loop")
FRAMES: Final = Shelf("frames", b"hmtrace frames 1\n", "frames")
"""Answers of debugging files (:mod:`collectors.symbols.kept`)."""
LIMIT = 256 << 20
"""Bytes that a folder may hold; beyond it what was not used for longest goes."""
_FILE = re.compile(r"[\w.]{1,200}-[0-9a-f]{24}\.(loop|frames)(\.\d+)?")
_PAUSE = 0.02
_PATIENCE = 120.0
"""Seconds for which another process that compiles the same loop is waited for."""


def load(name: str, shelf: Shelf = LOOPS) -> bytes | None:
    """What was kept under a name; None where it is missing or damaged."""
    for folder in folders(shelf, make=False):
        path = folder / f"{name}.{shelf.ending}"
        try:
            content = _read(path)
        except OSError:
            continue
        size = len(shelf.head) + hashlib.sha256().digest_size
        if content[:size] == shelf.head + hashlib.sha256(content[size:]).digest():
            _touch(path)
            return content[size:]
    return None


def _read(path: Path) -> bytes:
    """What a file of ours holds: the folder may have been exchanged since it was looked at."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_uid != os.getuid():
            raise PermissionError
        return file.read()


def keep(name: str, content: bytes, shelf: Shelf = LOOPS) -> bool:
    """Keep something under a name, in the first folder that takes it; whether one did."""
    for folder in folders(shelf):
        path = folder / f"{name}.{shelf.ending}"
        new = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            new.write_bytes(shelf.head + hashlib.sha256(content).digest() + content)
            new.replace(path)
        except OSError:
            _remove(new)
            continue
        _make_room(folder)
        if folder.name == shelf.folder:
            remove_former(folder.parent)
        return True
    return False


@contextmanager
def claimed(name: str, *, wait: bool = True) -> Iterator[bool]:
    """Wait until no other process makes what is to be kept under a name; then look again.

    Without a folder, or where it cannot lock, this does not wait. Yields whether it is ours to
    make; it always is to who waits.
    """
    file = _lock_file()
    place = zlib.crc32(name.encode())
    until = time.monotonic() + (_PATIENCE if wait else 0)
    is_free = file is None or _lock(file, place)
    while not is_free and time.monotonic() < until:
        time.sleep(_PAUSE)
        is_free = file is None or _lock(file, place)
    try:
        yield is_free or wait
    finally:
        if file is not None and is_free:
            with suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


def _lock(file: int, place: int) -> bool:
    """Whether nobody else has the lock; true where there are no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def folders(shelf: Shelf = LOOPS, *, make: bool = True) -> Iterator[Path]:
    """Folders to keep things in, or without `make` those to look into, the best first.

    Normally ``~/.cache/hmtrace/loops`` (XDG_CACHE_HOME), and one under the folder of temporary
    files for a home that cannot be written to: it is made when it is asked for. A user who sets
    NUMBA_CACHE_DIR gets that one.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen and shelf is LOOPS:
        folder = Path(chosen) / "hmtrace"
        if _is_made(folder):
            yield folder
        return
    for base in (cache_home() / "hmtrace", Path(tempfile.gettempdir()) / f"hmtrace-{os.getuid()}"):
        if (make or base.is_dir()) and _is_usable(base, shelf.folder):
            yield base / shelf.folder


@functools.cache
def _is_usable(base: Path, folder: str) -> bool:
    return is_ours(base) and is_ours(base / folder)


@functools.cache
def _lock_file() -> int | None:
    """Open for good: closing any descriptor of a file gives up all locks of the process on it."""
    for folder in folders():
        try:
            return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
    return None


def cache_home() -> Path:
    """Folder for what may be made again: XDG_CACHE_HOME, ``~/.cache`` without it."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return home if home.is_absolute() else Path("~/.cache").expanduser()


def _is_made(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return False
    return True


def is_ours(folder: Path) -> bool:
    """Whether a folder, made here if need be, is no link, ours, and closed to others' writing."""
    if not _is_made(folder):
        return False
    seen = folder.lstat()
    return (
        stat.S_ISDIR(seen.st_mode)
        and seen.st_uid == os.getuid()
        and not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest. Nothing but files with names as ours is touched."""
    try:
        with os.scandir(folder) as entries:
            files = [
                (entry.stat(follow_symlinks=False), entry.path)
                for entry in entries
                if _FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return
    size = sum(seen.st_size for seen, _ in files)
    for seen, path in sorted(files, key=lambda file: file[0].st_mtime):
        if size <= LIMIT:
            return
        _remove(Path(path))
        size -= seen.st_size


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        return
