"""File systems for the guest to mount, made by their own tools from packages of this machine.

The tools are unpacked into the cache and run from there: nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.kernel.packages import UnavailableError, cache, host

if TYPE_CHECKING:
    from pathlib import Path

_TOOLS = {
    "minix": ("mkfs.minix", "util-linux"),
    "nilfs2": ("mkfs.nilfs2", "nilfs-tools"),
    "f2fs": ("mkfs.f2fs", "f2fs-tools"),
    "erofs": ("mkfs.erofs", "erofs-utils"),
}
_OPTIONS = {
    "minix": ["-3"],
    "nilfs2": ["-q"],
    "f2fs": ["-q", "-O", "extra_attr,inode_checksum,compression"],
    "erofs": ["-zlz4hc,9", "-C65536"],
}
# nilfs2 wants some segments of 8 MiB, f2fs some 40 MiB
_MIB = {"minix": 32, "nilfs2": 160, "f2fs": 128}
KINDS = tuple(_TOOLS)
"""File systems that :func:`image` makes."""


def image(kind: str) -> Path:
    """File with an empty file system, or with files for erofs, which is only read.

    Raises
    ------
    UnavailableError
        Its tool is neither installed nor a package of this machine's Debian.
    """
    kept = cache() / f"{kind}.img"
    if not kept.exists():
        partly = kept.with_suffix(".partly")
        partly.unlink(missing_ok=True)
        tool, environment = _tool(kind)
        if kind == "erofs":
            arguments = [str(partly), str(_files())]
        else:
            with partly.open("wb") as made:
                made.truncate(_MIB[kind] << 20)
            arguments = [str(partly)]
        done = subprocess.run(
            [tool, *_OPTIONS[kind], *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(f"{tool}: {(done.stderr or done.stdout).strip()[-300:]}")
        partly.rename(kept)
    return kept


def _files() -> Path:
    """Folder with files that compress well into clusters of several pages."""
    folder = cache() / "erofs-files"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for number in range(24):
            lines = (f"{number} {line} {line * line % 9973:08d} highmem\n" for line in range(9000))
            (folder / f"{number:02d}").write_text("".join(lines))
    return folder


def _tool(kind: str) -> tuple[str, dict[str, str]]:
    """Path of a tool and the environment that it runs in."""
    name, package = _TOOLS[kind]
    environment = dict(os.environ)
    environment["PATH"] += ":/usr/sbin:/sbin"
    installed = shutil.which(name, path=environment["PATH"])
    if installed:
        return installed, environment
    folder = host().unpacked(package)
    libraries = dict.fromkeys(str(path.parent) for path in folder.rglob("lib*.so.*"))
    environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    for path in folder.rglob(name):
        return str(path), environment
    raise UnavailableError(f"no {name} in {package}")
