"""Where a synthetic trace goes: a capture folder, or one file with the true outcome beside it.

What is written appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TRUTH: Final = "truth.json"
"""The true outcome. No reader opens a file of this name: it is for tests to compare with."""

FILE_SUFFIXES: Final = (".txt", ".dat", ".parquet")
"""An output with one of these is a file, any other a folder."""

_MACHINE: Final = (
    "version", "cmdline", "config", "iomem", "zoneinfo", "meminfo", "cpuinfo", "kallsyms",
    "kprobe_events", "trace_clock", "vmallocinfo.start", "pkmap.start", "state.json",
)  # fmt: skip
_TRACES: Final = ("trace.txt", "perf-script.txt", "trace.dat")


def is_file(target: Path) -> bool:
    """Whether an output is to be one file."""
    return target.suffix in FILE_SUFFIXES


def check_target(target: Path, *, force: bool) -> None:
    """Refuse a target before any work is done.

    Raises
    ------
    HmtraceError
        Exit code 2: it exists and may not be replaced, or there is no folder for it.
    """
    if not target.parent.is_dir():
        raise _refused("folder of the output does not exist", target.parent)
    places = (target, _truth_of(target)) if is_file(target) else (target,)
    for place in places:
        if not place.exists():
            continue
        if not force:
            raise _refused("output exists", place, "--force replaces it")
        if not (place.is_file() if is_file(target) else place.is_dir()):
            raise _refused("is of another kind than the output", place)
        if place.is_dir() and any(place.iterdir()) and not (place / TRUTH).exists():
            raise _refused(
                f"holds files but no {TRUTH}: hmtrace synth has not made it", place,
                "--force replaces only folders that hmtrace synth has made",
            )  # fmt: skip
        if place.is_dir() and (strange := _strangers(place)):
            raise _refused(
                f"holds {strange[0]}, which is not of a synthetic capture", place,
                "--force replaces only folders that hmtrace synth has made",
            )  # fmt: skip


@contextlib.contextmanager
def new_capture(target: Path, trace_name: str, *, force: bool) -> Iterator[FolderWriter]:
    """Write a capture beside its place, and move it there in the end.

    Parameters
    ----------
    target
        Folder, or file (:func:`is_file`).
    trace_name
        Name of the trace in a folder.
    force
        Replace what is there, where :func:`check_target` allows it.

    Raises
    ------
    HmtraceError
        Exit code 2: as for :func:`check_target`, or the system refuses.
    """
    check_target(target, force=force)
    try:
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
        try:
            name = target.name if is_file(target) else trace_name
            capture = FolderWriter(work, name)
            yield capture
            check_target(target, force=force)
            if is_file(target):
                (work / name).replace(target)
                (work / TRUTH).replace(_truth_of(target))
            else:
                _put_in_place(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise _refused(f"cannot be written: {error.strerror or error}", target) from error


class FolderWriter:
    """A capture under construction.

    Attributes
    ----------
    folder
        A working folder. Of one that becomes a file only trace and truth are kept.
    trace
        Where its trace goes.
    """

    def __init__(self, folder: Path, trace_name: str) -> None:
        self.folder = folder
        self.trace = folder / trace_name

    def add(self, files: Mapping[str, str]) -> None:
        """Write the machine's files."""
        for name, content in files.items():
            (self.folder / name).write_text(content, encoding="utf-8")

    def add_truth(self, document: dict[str, Any]) -> None:
        """Write the true outcome."""
        text = json.dumps(document, indent=2) + "\n"
        (self.folder / TRUTH).write_text(text, encoding="utf-8")


def _truth_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.{TRUTH}")


def _strangers(folder: Path) -> list[str]:
    known = {*_MACHINE, *_TRACES, TRUTH}
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in known)


def _put_in_place(work: Path, target: Path) -> None:
    """Rename the finished folder; an old one is gone only when the new one is there."""
    work.chmod(0o755)
    if not target.exists():
        work.rename(target)
        return
    old = work.with_suffix(".old")
    target.rename(old)
    try:
        work.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refused(message: str, place: Path, hint: str | None = None) -> HmtraceError:
    return HmtraceError(message, source=str(place), hint=hint, exit_code=2)
