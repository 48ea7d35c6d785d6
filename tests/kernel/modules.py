"""Files of a kernel package: the kernel, its configuration, and its modules.

The packages have no ``modules.dep`` (depmod makes it on the target), so the dependencies come
from each module's section ``.modinfo``: ``depends=``, and ``softdep=pre:`` for what is asked for
by name.
"""

from __future__ import annotations

import lzma
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from tests.kernel.packages import UnavailableError

if TYPE_CHECKING:
    from tests.kernel.packages import Archive

_SUFFIX = re.compile(r"\.ko(\.xz|\.zst)?$")
_PARTS = ("linux-binary", "linux-modules", "linux-base")
"""Packages that the kernel is split into since Debian 14; linux-image depends on them."""


class Package:
    """An unpacked kernel.

    Parameters
    ----------
    folders
        Of the package, or of its parts.
    release
        As ``uname -r`` says it.
    """

    def __init__(self, folders: list[Path], release: str):
        self.folders = folders
        self.release = release

    @classmethod
    def fetched(cls, archive: Archive, name: str) -> Package:
        """The kernel whose package has a name."""
        release = name.removeprefix("linux-image-")
        package = cls([archive.unpacked(name)], release)
        if package._first(*_kernels(release)) is None:
            package.folders += [archive.unpacked(f"{part}-{release}") for part in _PARTS]
        return package

    @property
    def kernel(self) -> Path:
        """What is booted."""
        return self._needed(*_kernels(self.release))[1]

    @property
    def config(self) -> tuple[str, Path]:
        """Where the target has the configuration, and the file."""
        return self._needed(f"boot/config-{self.release}", f"usr/lib/modules/{self.release}/config")

    def _needed(self, *names: str) -> tuple[str, Path]:
        found = self._first(*names)
        if found is None:
            raise UnavailableError(f"no {names[0]} in the packages of {self.release}")
        return found

    def _first(self, *names: str) -> tuple[str, Path] | None:
        places = ((name, folder / name) for name in names for folder in self.folders)
        return next(((name, path) for name, path in places if path.exists()), None)

    @cached_property
    def _paths(self) -> dict[str, Path]:
        paths = (path for folder in self.folders for path in folder.rglob("*.ko*"))
        return {_name(path.name): path for path in paths}

    @cached_property
    def _builtin(self) -> set[str]:
        lists = (path for folder in self.folders for path in folder.rglob("modules.builtin"))
        return {_name(Path(line).name) for path in lists for line in path.read_text().split()}

    def has(self, name: str) -> bool:
        """Whether the kernel has it, built in or as a module."""
        return _name(name) in self._paths or _name(name) in self._builtin

    def content(self, name: str) -> bytes:
        """A module as ``insmod`` takes it: not compressed."""
        path = self._paths[name]
        stored = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(stored)
        if path.suffix == ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(stored)
        return stored

    def order(self, wanted: list[str]) -> list[str]:
        """Names of modules to load for some, each after what it depends on.

        What is built in, and what the kernel does not have, is left out. An algorithm of
        crypto/ that is asked for by its name (crc32c) is NAME_generic, where it has a module.
        """
        found: list[str] = []

        def visit(name: str) -> None:
            if name not in self._paths:
                name = f"{name}_generic"
            if name in found or name not in self._paths:
                return
            for other in _depends(self.content(name)):
                visit(other)
            found.append(name)

        for name in wanted:
            visit(_name(name))
        return found


def _depends(content: bytes) -> list[str]:
    told = re.findall(rb"(?<!\w)(?:depends|softdep)=([^\0]*)\0", content)
    names: list[str] = []
    for line in told:
        text = line.decode()
        if text.startswith("pre:"):
            names += text.removeprefix("pre:").split("post:")[0].split()
        elif not text.startswith("post:"):
            names += [name for name in text.split(",") if name]
    return [_name(name) for name in names]


def _name(file: str) -> str:
    """Name as the kernel has it: ``virtio-rng.ko.xz`` is virtio_rng."""
    return _SUFFIX.sub("", file).replace("-", "_")


def _kernels(release: str) -> tuple[str, ...]:
    return (
        f"boot/vmlinuz-{release}",
        f"boot/vmlinux-{release}",
        f"usr/lib/modules/{release}/vmlinuz",
    )
