"""Modules of a kernel package: what each needs, in the order of loading.

The packages have no ``modules.dep`` (depmod makes it on the target), so the dependencies come
from each module's section ``.modinfo``: ``depends=``, and ``softdep=pre:`` for what is asked for
by name.
"""

from __future__ import annotations

import lzma
import re
from functools import cached_property
from pathlib import Path

import zstandard

_SUFFIX = re.compile(r"\.ko(\.xz|\.zst)?$")


class Modules:
    """Modules below ``lib/modules`` of an unpacked kernel package."""

    def __init__(self, package: Path, release: str):
        folder = package / "lib/modules" / release
        if not folder.is_dir():
            folder = package / "usr/lib/modules" / release
        self.folder = folder

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return {_name(path.name): path for path in self.folder.rglob("*.ko*")}

    @cached_property
    def _builtin(self) -> set[str]:
        listed = self.folder / "modules.builtin"
        return {_name(Path(line).name) for line in listed.read_text().split()}

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
    told = re.findall(rb"\0(?:depends|softdep)=([^\0]*)\0", content.replace(b"\0", b"\0\0"))
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
