"""The recorder's archive: a tar file of one capture folder, extracted with suspicion."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from collectors.compressed import compression
from collectors.errors import TRUNCATED, HmtraceError
from collectors.input.source import no_room
from collectors.input.unpack import MAX_BYTES, PIECE
from collectors.opened import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MEMBERS: Final = 4096
MAX_PAX: Final = 1 << 16
"""Bytes of a pax header; names, times and attributes of a file take some hundred."""
_RECORD: Final = re.compile(rb"([0-9]{1,6}) ")
_LONG_NUMBER: Final = re.compile(rb"[0-9]{100}")
_LONGEST_WORDS: Final = 200
_UNPACK: Final = "unpack it, and give hmtrace the folder or the trace"
_MAGIC_AT: Final = 257


def is_tar(file: BinaryIO) -> bool:
    """Tell a tar archive by its magic (POSIX ustar and GNU), leaving the position at 0."""
    file.seek(_MAGIC_AT)
    magic = file.read(5)
    file.seek(0)
    return magic == b"ustar"


def begins_as(path: Path, magics: tuple[bytes, ...]) -> bool:
    """Whether a file begins in one of these ways, or is an archive: a tar file, packed or not.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with opened(path) as file:
        head = file.read(512)
        tar = is_tar(file)
    return head.startswith(magics) or tar or (compression(head) is not None and ".tar" in path.name)


def extract(file: BinaryIO, root: Path, shown: str) -> list[str]:
    """Extract the regular files of an archive below `root`.

    Absolute names, names with ``..``, links, devices and sparse files are passed over; nothing is
    ever written outside of `root`, and file modes are not taken over.

    Parameters
    ----------
    file
        Archive, not compressed.
    root
        Empty folder.
    shown
        Name of the archive, for errors.

    Returns
    -------
    list of str
        Remarks on members that were passed over.

    Raises
    ------
    HmtraceError
        If the archive is damaged or larger than the bounds.
    """
    refused: list[str] = []
    written = 0
    try:
        bounded = cast("BinaryIO", _Bounded(file))
        with tarfile.open(fileobj=bounded, mode="r:", tarinfo=_Member) as archive:
            for member in _members(archive, shown):
                if member.isdir():
                    continue
                target = _target(member, root)
                content = archive.extractfile(member) if target is not None else None
                if target is None or content is None:
                    refused.append(member.name)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    while piece := content.read(PIECE):
                        written += len(piece)
                        if written > MAX_BYTES:
                            msg = f"the archive holds more than {MAX_BYTES >> 30} GiB"
                            raise HmtraceError(msg, source=shown, hint=_UNPACK)
                        out.write(piece)
    except (HmtraceError, MemoryError):
        raise
    except OSError as error:
        raise no_room(error, shown, "extracted") from None
    except Exception as error:  # whatever the library stumbles over is the archive's
        words = str(error)[:_LONGEST_WORDS] or type(error).__name__
        msg = f"damaged tar archive ({words})"
        raise HmtraceError(msg, source=shown, offset=_position(file), hint=TRUNCATED) from None
    if not refused:
        return []
    shown_names = ", ".join(ascii(name) for name in refused[:3])
    return [f"{len(refused)} members of the archive were passed over: {shown_names}"]


class _Member(tarfile.TarInfo):
    """A member whose extended header is looked at before the library takes it apart.

    Its patterns take time with the square of a run of digits or of blanks, and its records may
    overlap: 400 bytes of .tar.xz would keep it busy for hours.
    """

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        assert archive.fileobj is not None
        begin = archive.fileobj.tell()
        if self.size > MAX_PAX:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        check_pax(archive.fileobj.read(self.size))
        archive.fileobj.seek(begin)
        return cast("tarfile.TarInfo", super()._proc_pax(archive))  # type: ignore[misc]


def check_pax(header: bytes) -> None:
    r"""Refuse an extended header that is not one record ``LENGTH KEY=VALUE\n`` behind the other.

    Raises
    ------
    tarfile.ReadError
    """
    at = 0
    while at < len(header):
        match = _RECORD.match(header, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(header) or header[end - 1] != 10:
            raise tarfile.ReadError(f"an extended header that is none, at its byte {at}")
        if b"=" not in header[match.end() : end]:
            raise tarfile.ReadError(f"a record without a value in an extended header, byte {at}")
        at = end
    if _LONG_NUMBER.search(header):
        raise tarfile.ReadError("a number of very many digits in an extended header")


class _Bounded:
    """A file that never makes room for more bytes than it has.

    tarfile reads as many bytes as a header says, and Python allocates them before it reads.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        self.seek, self.tell = file.seek, file.tell
        file.seek(0)

    def read(self, size: int) -> bytes:
        return self.file.read(max(0, min(size, self.size - self.file.tell())))


def _members(archive: tarfile.TarFile, shown: str) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count >= MAX_MEMBERS:
            msg = f"the archive has more than {MAX_MEMBERS} members"
            raise HmtraceError(msg, source=shown, hint=_UNPACK)
        yield member


def _target(member: tarfile.TarInfo, root: Path) -> Path | None:
    """Where a member may be written; None: nowhere."""
    name = PurePosixPath(member.name)
    parts = [part for part in name.parts if part != "."]
    # Sparse members may claim any number of zeros that the archive does not hold.
    bad = member.issparse() or name.is_absolute() or ".." in parts or not parts or len(parts) > 8
    if (
        bad
        or not member.isreg()
        or any("\0" in part or len(os.fsencode(part)) > 200 for part in parts)
    ):
        return None
    target = root.joinpath(*parts)
    blocked = any(parent.is_file() for parent in target.parents if parent != root)
    return None if blocked or target.exists() else target


def _position(file: BinaryIO) -> int | None:
    return None if file.closed else file.tell()
