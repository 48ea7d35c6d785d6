"""Where numba keeps compiled loops: one folder per state of the source.

numba's own cache compares the time stamp of the file that holds a function. A loop here is
compiled together with functions of other modules, and a change in one of those would go
unnoticed: after a ``git pull`` the old model would answer. So the folder's name is a digest of
every module that compiles something and of all that these import.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

_PACKAGES = ("collectors", "replay")
_COMPILES = (b"@loop", b"@part", b"@piece", b"@intrinsic")
"""What stands in every module that has something compiled."""
_IMPORT = re.compile(
    rb"^(?:from (collectors|replay)(\S*) import (\([^)]*\)|[^\n]*)|import ([\w.]+))", re.MULTILINE
)
"""At the left margin: only such names are known to compiled functions."""
_KEEP = 4
"""Folders of other states of the source that are kept, the latest used."""


def use_cache_folder() -> None:
    """Point numba to the folder for this source; to be called before numba is imported.

    A folder that the user chose (NUMBA_CACHE_DIR) is left alone.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    digest = source_digest()
    for base in (_cache_home(), Path(tempfile.gettempdir()) / f"hmtrace-{os.getuid()}"):
        folder = base / digest
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                continue
            folder.touch()
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            os.environ["NUMBA_CACHE_DIR"] = str(folder)
            _drop_old(base)
            return


def is_first_run() -> bool:
    """Whether nothing has been compiled of this source yet, so that the run will take longer."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR", "/"))
    try:
        return not any(folder.iterdir())
    except OSError:
        return True


def source_digest() -> str:
    """Digest of the source of everything that numba compiles, 16 hex digits."""
    sources = _sources()
    digest = hashlib.sha256()
    for name in sorted(compiled_modules(sources)):
        digest.update(name.encode())
        digest.update(sources[name])
    return digest.hexdigest()[:16]


def compiled_modules(sources: dict[str, bytes]) -> set[str]:
    """Names of the modules that compile something, and of all that these import.

    Parameters
    ----------
    sources
        Source of every module by its full name.
    """
    found: set[str] = set()
    waiting = [n for n, text in sources.items() if any(word in text for word in _COMPILES)]
    while waiting:
        name = waiting.pop()
        if name in found or name not in sources:
            continue
        found.add(name)
        for room, rest, names, module in _IMPORT.findall(sources[name]):
            package = (room + rest or module).decode()
            for part in re.findall(r"\w+", names.decode("utf-8", "replace")) or [""]:
                inner = f"{package}.{part}"
                waiting.append(inner if inner in sources else package)
    return found


def _sources() -> dict[str, bytes]:
    root = Path(__file__).parent.parent
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): (
            path.read_bytes()
        )
        for package in _PACKAGES
        for path in (root / package).rglob("*.py")
    }


def _cache_home() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(home) / "hmtrace"


def _drop_old(base: Path) -> None:
    """Remove the folders that were not used for longest."""
    try:
        folders = [f for f in base.iterdir() if len(f.name) == 16 and f.is_dir()]
        folders.sort(key=lambda f: f.stat().st_mtime, reverse=True)
        for folder in folders[_KEEP:]:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
