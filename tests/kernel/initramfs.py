"""The guest's root: a cpio archive in the format that a kernel unpacks (``newc``).

Kernels unpack several archives one after the other, so what is the same for all runs of a kernel
and what belongs to one run are made apart.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

_ALIGN = 4


@dataclass
class Cpio:
    """An archive in memory."""

    _parts: list[bytes] = field(default_factory=list)
    _number: int = 0
    _folders: set[str] = field(default_factory=set)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file and the folders that it stands in."""
        self._above(path)
        self._entry(path, stat.S_IFREG | mode, content)

    def folder(self, path: str) -> None:
        """Add a folder and those that it stands in."""
        if path and path not in self._folders:
            self._above(path)
            self._folders.add(path)
            self._entry(path, stat.S_IFDIR | 0o755)

    def device(self, path: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._above(path)
        self._entry(path, stat.S_IFCHR | 0o600, major=major, minor=minor)

    def bytes(self) -> bytes:
        """The archive with its end."""
        ended = Cpio()
        ended._entry("TRAILER!!!", 0)
        return b"".join(self._parts + ended._parts)

    def _above(self, path: str) -> None:
        self.folder(path.rpartition("/")[0])

    def _entry(
        self, path: str, mode: int, content: bytes = b"", *, major: int = 0, minor: int = 0
    ) -> None:
        """One header (cpio(5), "New ASCII Format"), name and content, each padded to 4 bytes."""
        self._number += 1
        name = path.encode() + b"\0"
        numbers = (
            self._number, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name), 0,
        )  # fmt: skip
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        self._parts += [_padded(header + name), _padded(content)]


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGN)
