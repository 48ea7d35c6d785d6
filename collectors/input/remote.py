"""Captures that are named by a URL: copied to a temporary folder, and gone with what was read.

fsspec does the copying (the extra ``fleet``; S3 and others need its driver beside it). What a URL
says of who asks - a user and password before the host, a signature behind a question mark - is
never shown: not in reports, and not in errors, so that a library's own words are not either.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from collectors.errors import HmtraceError
from collectors.input.archive import begins_as
from collectors.input.magic import ARROW, PARQUET, WORKLOAD
from collectors.input.source import no_room
from collectors.input.unpack import PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LIMIT: Final = "HMTRACE_FETCH_LIMIT"
"""Environment variable: GiB that are copied of one capture at most."""
_GIB: Final = 8
_URL: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_EXTRA: Final = "pip install fsspec (the extra 'fleet' of hmtrace)"
_ALONE: Final = (PARQUET, ARROW, WORKLOAD)
"""How files begin that hold all that their machine said."""
_MOST_FILES: Final = 1 << 10
_VERSIONS: Final = (
    "ETag", "etag", "md5Hash", "content_md5", "generation", "LastModified", "Last-Modified",
    "last_modified", "updated", "mtime", "created",
)  # fmt: skip
"""What file systems call that which changes with a file, the surest first."""
_DRIVERS: Final = {
    "http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs",
    "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs", "sftp": "paramiko",
    "ssh": "paramiko", "smb": "smbprotocol", "webdav": "webdav4", "hf": "huggingface_hub",
}  # fmt: skip
"""Packages that fsspec needs beside it, by scheme."""

digests: Final[dict[str, str]] = {}
"""SHA-256 of traces that were copied, by their shown names: the copies do not stay."""


def is_url(name: str) -> bool:
    """Tell a URL from a path.

    Examples
    --------
    >>> is_url("s3://boards/17"), is_url("boards/17"), is_url("trace.dat:INSTANCE")
    (True, False, False)
    """
    return _URL.match(name) is not None


def shown(url: str) -> str:
    """A URL without what tells who asks.

    Examples
    --------
    >>> shown("https://me:secret@host:81/board/trace.dat?X-Amz-Signature=abc#x")
    'https://host:81/board/trace.dat'
    >>> shown("s3://boards/17")
    's3://boards/17'
    """
    scheme, _, rest = url.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def local_path(url: str) -> str | None:
    """The path of a ``file://`` URL on this machine; None of others."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        return None
    return unquote(parts.path)


class RemotePlace(NamedTuple):
    """A place on a file system that fsspec knows.

    Attributes
    ----------
    system, path
        The file system, and the path there.
    url
        As it was given.
    """

    system: Any
    path: str
    url: str

    @classmethod
    def of(cls, url: str) -> RemotePlace:
        """The place of a URL.

        Raises
        ------
        HmtraceError
            Exit code 2: fsspec or its driver is not installed, or it is no such URL.
        """
        name = shown(url)
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise HmtraceError(
                "captures by URL need fsspec", source=name, hint=_EXTRA, exit_code=2
            ) from None
        if "::" in url:
            raise HmtraceError("chained URLs are not read", source=name, exit_code=2)
        try:
            system, path = url_to_fs(url)
        except ImportError as error:
            scheme = url.partition("://")[0].lower()
            driver = _DRIVERS.get(scheme)
            # else its words name a package, and are fsspec's own
            hint = str(error)[:200] if driver is None else f"pip install {driver}"
            raise HmtraceError(
                f"no driver for {scheme}://", source=name, exit_code=2, hint=hint
            ) from None
        except ValueError:
            raise HmtraceError(
                f"{url.partition('://')[0]}:// is nothing that can be read from", source=name,
                exit_code=2, hint="such as s3://, gs://, https://, sftp://",
            ) from None  # fmt: skip
        except Exception as error:
            raise _refused(error, name) from None
        return cls(system, path, url)

    @property
    def shown(self) -> str:
        """The URL, as it may be shown."""
        return shown(self.url)

    @property
    def lists(self) -> bool:
        """Whether its folders can be listed: a web server's pages are none."""
        protocol = self.system.protocol
        kinds = {protocol} if isinstance(protocol, str) else set(protocol)
        return not kinds & {"http", "https"}

    def is_folder(self) -> bool:
        """Whether it is one, as far as that can be told."""
        return self.lists and bool(self._ask(self.system.isdir, self.path))

    def entries(self) -> dict[str, bool]:
        """Names in a folder, and which of them are folders themselves."""
        found = self._ask(lambda: self.system.ls(self.path, detail=True))
        here = self.path.rstrip("/")
        return {
            name: entry.get("type") == "directory"
            for entry in found
            if (name := str(entry["name"]).rstrip("/").rpartition("/")[2])
            and str(entry["name"]).rstrip("/") != here
        }

    def beside(self, name: str) -> RemotePlace:
        """A file or folder in this one."""
        bare = self.url.rstrip("/")
        return RemotePlace(self.system, f"{self.path.rstrip('/')}/{name}", f"{bare}/{name}")

    def parent(self) -> RemotePlace:
        """The folder that it is in."""
        bare = self.url.rstrip("/").rpartition("/")[0]
        return RemotePlace(self.system, self.path.rstrip("/").rpartition("/")[0], bare)

    def matches(self) -> list[str]:
        """URLs of what a pattern stands for."""
        scheme = self.url.partition("://")[0]
        found = self._ask(self.system.glob, self.path)
        return sorted(f"{scheme}://{str(path).lstrip('/')}" for path in found)

    def versions(self) -> list[tuple[str, int, str]] | None:
        """Name, size, and what changes with it, of each file that a capture may be read from.

        Returns
        -------
        list or None
            None where a server does not tell what changes with a file, or does not answer.
        """
        try:
            if self.is_folder():
                told = self.system.ls(self.path, detail=True)
            else:
                told = [self.system.info(self.path)]
                if self.lists:
                    told += self.system.ls(self.parent().path, detail=True)
        except Exception:  # who copies it tells
            return None
        files = [entry for entry in told if entry.get("type") != "directory"]
        found = [(str(one["name"]), int(one.get("size") or 0), _version(one)) for one in files]
        return sorted(found) if found and all(version for _, _, version in found) else None

    def _ask(self, call: Callable[..., Any], *words: Any) -> Any:
        try:
            return call(*words)
        except Exception as error:
            raise _refused(error, self.shown) from None

    def copy(self, into: Path, left: int, progress: Callable[[int, int], None] | None) -> int:
        """Copy a file to a folder, and give how many bytes it has.

        Raises
        ------
        HmtraceError
            It cannot be read, is larger than `left`, or there is no room for it.
        """
        target = into / (self.path.rstrip("/").rpartition("/")[2] or "trace")
        told, done = hashlib.sha256(), 0
        whole = self._size()
        if whole > left:
            raise _too_large(self.shown)
        with target.open("wb") as out:
            for piece in self._pieces():
                done += len(piece)
                if done > left:
                    raise _too_large(self.shown)
                told.update(piece)
                try:
                    out.write(piece)
                except OSError as error:
                    raise no_room(error, self.shown, "copied") from None
                if progress is not None:
                    progress(done, max(whole, done))
        digests[self.shown] = told.hexdigest()
        return done

    def _size(self) -> int:
        try:
            return int(self.system.size(self.path) or 0)
        except Exception:  # a server need not tell
            return 0

    def _pieces(self) -> Iterator[bytes]:
        file = self._ask(self.system.open, self.path, "rb")
        with file:
            while piece := self._ask(file.read, PIECE):
                yield piece


def _version(told: Mapping[str, Any]) -> str:
    """What changes with a file, as its file system tells it; empty: it does not."""
    return next((str(told[name]) for name in _VERSIONS if told.get(name)), "")


def fetch(
    url: str,
    choose: Callable[[list[str]], tuple[list[str], list[str]]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Copy a capture that a URL names.

    Parameters
    ----------
    url
        Of a trace file, whose machine's files are taken from beside it where its folder can be
        listed, or of a capture folder.
    choose
        Tells of the names in a folder which may be its trace, the best first, and which are the
        machine's files.
    progress
        Called with (bytes done, bytes in all) of the trace.

    Returns
    -------
    folder, path
        The temporary folder, and in it what stands for the URL.

    Raises
    ------
    HmtraceError
        It cannot be read, or is too large.
    """
    place = RemotePlace.of(url)
    folder = tempfile.TemporaryDirectory(prefix="hmtrace-", ignore_cleanup_errors=True)
    root, left = Path(folder.name), _limit()
    try:
        if place.is_folder():
            names = [name for name, is_folder in place.entries().items() if not is_folder]
            traces, facts = choose(names)
            for name in traces[:1]:
                left -= place.beside(name).copy(root, left, progress)
            _copy_facts(place, facts, root, left)
            return folder, root
        left -= place.copy(root, left, progress)
        (path,) = root.iterdir()
        if place.lists and not _is_alone(path):
            parent = place.parent()
            _, facts = choose([n for n, is_folder in parent.entries().items() if not is_folder])
            _copy_facts(parent, [name for name in facts if name != path.name], root, left)
    except BaseException:
        folder.cleanup()
        raise
    return folder, path


def _copy_facts(folder: RemotePlace, names: list[str], root: Path, left: int) -> None:
    for name in names[:_MOST_FILES]:
        left -= folder.beside(name).copy(root, left, None)


def _is_alone(path: Path) -> bool:
    """Whether a file holds what its machine said: hmtrace's own, or an archive."""
    return begins_as(path, _ALONE)


def _limit() -> int:
    told = os.environ.get(LIMIT, "")
    return (int(told) if re.fullmatch("[0-9]{1,6}", told) else _GIB) << 30


def _too_large(name: str) -> HmtraceError:
    return HmtraceError(
        f"more than {_limit() >> 30} GiB: it is not copied here",
        source=name,
        hint=f"copy it yourself, or allow more with {LIMIT}={2 * (_limit() >> 30)} (GiB)",
    )


def _refused(error: Exception, name: str) -> HmtraceError:
    """What went wrong, without a library's words: a URL with its secrets may be among them."""
    hint = None
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(error, FileNotFoundError):
        words = "no such file or folder"
    elif isinstance(error, PermissionError):
        words, hint = "access is refused", "see to the credentials of its driver"
    elif isinstance(error, TimeoutError):
        words = "it does not answer"
    elif isinstance(status, int):
        words = f"HTTP status {status}"
    else:
        words = f"{type(error).__name__}" + (
            f": {os.strerror(error.errno)}" if isinstance(error, OSError) and error.errno else ""
        )
    return HmtraceError(f"cannot be fetched: {words}", source=name, hint=hint)
