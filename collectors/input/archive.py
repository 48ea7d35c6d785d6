"""The recorder's archive: a tar file of one capture folder, extracted with suspicion."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from collectors.errors import HmtraceError
from collectors.input.unpack import MAX_BYTES, PIECE

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MEMBERS: Final = 4096
_MAGIC_AT: Final = 257


def is_tar(file: BinaryIO) -> bool:
    """Tell a tar archive by its magic (POSIX ustar and GNU), leaving the position at 0."""
    file.seek(_MAGIC_AT)
    magic = file.read(5)
    file.seek(0)
    return magic == b"ustar"


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
        with tarfile.open(fileobj=cast("BinaryIO", _Bounded(file)), mode="r:") as archive:
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
                            raise HmtraceError(msg, source=shown)
                        out.write(piece)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise HmtraceError(
            f"damaged tar archive ({error})", source=shown, offset=_position(file)
        ) from None
    if not refused:
        return []
    shown_names = ", ".join(ascii(name) for name in refused[:3])
    return [f"{len(refused)} members of the archive were passed over: {shown_names}"]


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
            raise HmtraceError(msg, source=shown)
        yield member


def _target(member: tarfile.TarInfo, root: Path) -> Path | None:
    """Where a member may be written; None: nowhere."""
    name = PurePosixPath(member.name)
    parts = [part for part in name.parts if part != "."]
    # Sparse members may claim any number of zeros that the archive does not hold.
    bad = member.issparse() or name.is_absolute() or ".." in parts or not parts or len(parts) > 8
    if bad or not member.isreg() or any("\0" in part or len(part) > 200 for part in parts):
        return None
    target = root.joinpath(*parts)
    blocked = any(parent.is_file() for parent in target.parents if parent != root)
    return None if blocked or target.exists() else target


def _position(file: BinaryIO) -> int | None:
    return None if file.closed else file.tell()
