"""Debian packages of other architectures, by apt, into a folder of one's own.

apt reads lists and cache from folders of ours (``Dir::State::Lists``, ``Dir::Cache``) and takes
mirrors from the machine's configuration, so nothing of the machine's changes and no address stands
here: another release of Debian is looked for where the machine has its own from.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid")
"""Debian's releases; ``-backports`` of one is served beside it."""
LISTS_KEPT_S = 7 * 86400
"""Age at which package lists are fetched again."""
_INDEX = re.compile(r"'(\S+?)/*/dists/([a-z-]+)/InRelease'")


class UnavailableError(Exception):
    """A package or its list is not to be had here: a reason to skip, no failure."""


def cache() -> Path:
    """Folder that keeps packages, images and initramfs files (some 100 MB for each kernel)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "hmtrace" / "kernels"


@dataclass(frozen=True)
class Archive:
    """Packages of one release for one architecture.

    Attributes
    ----------
    architecture
        Debian's name: i386, armhf, mipsel, amd64.
    suite
        Release, as ``bookworm`` or ``bookworm-backports``.
    """

    architecture: str
    suite: str

    @property
    def folder(self) -> Path:
        return cache() / f"{self.architecture}-{self.suite}"

    def find(self, pattern: str) -> str:
        """Name of the newest package whose whole name matches a regular expression."""
        self._update()
        told = self._apt("apt-cache", "pkgnames").split()
        names = [name for name in told if re.fullmatch(pattern, name)]
        if not names:
            raise UnavailableError(f"no package {pattern} for {self.architecture} in {self.suite}")
        return max(names, key=_version)

    def unpacked(self, name: str) -> Path:
        """Folder with a package's files; fetched once for each version.

        Raises
        ------
        UnavailableError
            apt cannot give it.
        """
        self._update()
        shown = self._apt("apt-cache", "show", "--no-all-versions", name)
        found = re.search(r"^Version: (\S+)$", shown, re.MULTILINE)
        if found is None:
            raise UnavailableError(f"no package {name} for {self.architecture} in {self.suite}")
        kept = self.folder / f"{name}_{found[1].replace(':', '+')}"
        if not kept.is_dir():
            fetched = self.folder / "fetched"
            shutil.rmtree(fetched, ignore_errors=True)
            fetched.mkdir(parents=True)
            self._apt("apt-get", "download", f"{name}={found[1]}", cwd=fetched)
            (package,) = fetched.glob("*.deb")
            partly = kept.with_suffix(".partly")
            shutil.rmtree(partly, ignore_errors=True)
            _run(["dpkg-deb", "-x", str(package), str(partly)])
            partly.rename(kept)
            shutil.rmtree(fetched)
        return kept

    def version(self, name: str) -> str:
        """Version of a package, as the release has it."""
        return self.unpacked(name).name.partition("_")[2]

    def _update(self) -> None:
        """Fetch the lists if they are missing or old; old ones do where apt gives none."""
        done = self.folder / "updated"
        if done.exists() and time.time() - done.stat().st_mtime < LISTS_KEPT_S:
            return
        for name in ("lists/partial", "apt/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        base = mirror()
        (self.folder / "sources.list").write_text(f"deb {base} {self.suite} main\n")
        try:
            self._apt("apt-get", "update", "--error-on=any")
        except UnavailableError:
            if not done.exists():
                raise
        done.touch()

    def _apt(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
            "Acquire::Retries": "1",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.folder / "apt",
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
        }
        told = [f"-o{name}={value}" for name, value in settings.items()]
        return _run([command, *told, *arguments], cwd=cwd)


def mirror() -> str:
    """Where this machine gets Debian from.

    Raises
    ------
    UnavailableError
        There is no apt, or none of its sources has a release of Debian.
    """
    for base, suite in _INDEX.findall(_run(["apt-get", "update", "--print-uris"])):
        if suite in SUITES:
            return str(base)
    raise UnavailableError("apt has no release of Debian among its sources")


def host() -> Archive:
    """Packages for this machine itself, whose programs run here."""
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    release = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)$", release, re.MULTILINE)
    if found is None or found[1] not in SUITES:
        raise UnavailableError("this machine runs no release of Debian")
    return Archive(architecture, found[1])


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, check=True, capture_output=True, text=True, timeout=300
        )
    except FileNotFoundError:
        raise UnavailableError(f"there is no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{command[0]} did not answer within 300 s") from None
    except subprocess.CalledProcessError as failed:
        told = failed.stderr.strip().splitlines() or [f"{command[0]} failed"]
        raise UnavailableError(told[-1]) from None
    return done.stdout
