"""Opening a capture for a command: progress, digest, warning about losses."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from collectors.ahead import wait_for
from collectors.input.remote import digests
from collectors.opened import forget, opened
from hmtrace.cli.progress import ProgressBar
from hmtrace.cli.quiet import native_stderr_dropped
from hmtrace.report.text import unglued

if TYPE_CHECKING:
    from collectors.capture import Capture, Origin
    from hmtrace.report.source import InputSummary
    from replay.cost.calibrate import Calibration
    from replay.machine.model import Machine


_command = ""


def note_command(name: str) -> None:
    """Remember which command the captures are opened for."""
    global _command  # noqa: PLW0603  (set once, when the command line is read)
    _command = name
    forget()


def read(path: str, *, described: bool = False) -> Capture:
    """Open a capture, with a progress bar where it takes long.

    Parameters
    ----------
    path
        File, folder, or ``-`` for stdin.
    described
        Whether :func:`describe` will be asked for it: its digest is begun then, beside what comes
        in between.

    Raises
    ------
    HmtraceError
        The capture cannot be read.
    """
    from collectors import open_capture

    _explain(path)
    with native_stderr_dropped(), ProgressBar("reading", in_bytes=True) as progress:
        capture = open_capture(path, progress=progress, counted=progress.count)
    if described:
        _begun[capture.origin] = TraceDigest(capture.origin)
    return capture


def convert_to_capture(path: str, target: Path, form: str) -> Capture:
    """Write a capture as a file that is one itself.

    Parameters
    ----------
    path
        File, folder, or ``-`` for stdin.
    target
        File to write.
    form
        ``parquet`` or ``arrow``: see :func:`collectors.write_parquet` and
        :func:`collectors.write_arrow`.

    Raises
    ------
    HmtraceError
        The capture cannot be read, or the file not be written.
    """
    from collectors import write_arrow, write_parquet

    write = write_arrow if form == "arrow" else write_parquet
    _explain(path)
    with native_stderr_dropped(), ProgressBar("converting", in_bytes=True) as progress:
        return write(path, target, progress=progress, counted=progress.count)


def _explain(path: str) -> None:
    from hmtrace.cli.compiling import explain_compiling
    from hmtrace.fatal import explain_fatal_signals
    from hmtrace.memory import keep_freed_memory

    keep_freed_memory()
    explain_fatal_signals(path)
    explain_compiling(_command)


def calibration_of(capture: Capture, machine: Machine) -> Calibration:
    """Costs that the capture's own entry and return times tell."""
    from replay.measure import measure

    with ProgressBar("calibrating") as progress:
        return measure(
            capture.events,
            machine,
            values=capture.facts.snapshot(),
            lost=capture.lost,
            clock_is_ns=capture.clock_is_ns,
            progress=progress,
        )


def describe(capture: Capture, sha256: str | None = None) -> InputSummary:
    """Source of a capture, with the digest of its trace where that is not known yet."""
    from hmtrace.report.source import InputSummary

    if sha256 is None:
        sha256 = (_begun.pop(capture.origin, None) or TraceDigest(capture.origin)).wait()
    return InputSummary.of(capture, sha256)


def digest(origin: Origin) -> str | None:
    """SHA-256 of the trace file as it lies on the disk, in hexadecimal.

    Returns
    -------
    str or None
        None for a stream or a member of an archive.
    """
    if origin.trace in digests:
        return digests[origin.trace]
    path = Path(origin.path)
    for candidate in (path / origin.trace, Path(origin.trace), path):
        try:
            if candidate.is_file():
                with opened(candidate) as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue
    return None


class TraceDigest:
    """Digest of a trace, made in a thread of its own: of 10 GB it takes seconds."""

    def __init__(self, origin: Origin) -> None:
        self._made: str | None = None
        self._error: Exception | None = None
        self._origin = origin
        self._thread = Thread(target=self._run, name="hmtrace-digest", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made = digest(self._origin)
        except Exception as error:
            self._error = error

    def wait(self) -> str | None:
        """The digest, when it is there.

        Raises
        ------
        Exception
            What making it ended in.
        """
        wait_for(self._thread)
        if self._error is not None:
            raise self._error
        return self._made


_begun: dict[Origin, TraceDigest] = {}


def warn_of_loss(source: InputSummary) -> None:
    """Say on stderr what a JSON reader might not look at."""
    if source.lost.intervals:
        from hmtrace.report.source import lost_in_words

        sys.stderr.write(f"hmtrace: warning: {unglued(lost_in_words(source.lost))}\n")
