"""Child process of the fuzzer: runs case after case under bounds, until its parent has no more.

Talks over the descriptors that the parent gave it on the command line: pickled lists of cases in,
JSON lists of verdicts out, each behind its length. Whatever the code under test writes to the
process's own stdout or stderr goes to a log that the parent reads.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import pickle
import resource
import signal
import struct
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from hmtrace.fatal import explain_fatal_signals
from tests.fuzz.light import in_memory
from tests.fuzz.lines import Lines
from tests.fuzz.trial import address_space, run

if TYPE_CHECKING:
    from tests.fuzz.case import Case, Verdict

ROOM: Final = 4 << 30
"""Bytes of address space beyond those of the loaded program (RLIMIT_AS): maps and arenas that
are reserved but not used count here; what is really used is bounded by trial.MAX_GROWN."""
WATCHED: Final = 8
"""Of so many inputs one is watched for new lines: that takes as long again as the reader does."""
PACKAGES: Final = ("collectors", "hmtrace", "replay")
MEMORY: Final = Path("/dev/shm")
"""Where inputs lie, if it is there: a disk would be waited for."""


def main() -> None:
    """Serve until the parent closes the pipe."""
    requests, answers = int(sys.argv[1]), int(sys.argv[2])
    faulthandler.enable(all_threads=True)
    explain_fatal_signals("the input")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    import polars  # noqa: F401
    import typer.main

    root = Path(__file__).parents[2]
    lines = Lines(tuple(f"{root / name}/" for name in PACKAGES))
    warnings.simplefilter("always", RuntimeWarning)  # each time, not once a line
    typer.main.get_command = functools.cache(typer.main.get_command)  # made for every run else
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    bounded = False
    number = 0
    with os.fdopen(requests, "rb") as source, os.fdopen(answers, "wb") as sink:
        while (message := receive(source)) is not None:
            cases: list[Case] | None = pickle.loads(message)
            if cases is None:  # warmed up: from here on the bounds hold
                limit = address_space() + ROOM
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                bounded = True
                continue
            verdicts = []
            for case in cases:
                verdict = _taken(case, None if number % WATCHED else lines, place)
                number += 1
                if not bounded and verdict.trouble.startswith("memory"):
                    verdict.trouble = ""  # loops were compiled
                verdicts.append(verdict.as_json())
            send(sink, json.dumps(verdicts).encode())


def _taken(case: Case, watch: Lines | None, place: Path | None) -> Verdict:
    """Run a case, in a folder of its own if it needs one."""
    if in_memory(case):
        return run(case, None, watch)
    with tempfile.TemporaryDirectory(prefix="hmtrace-fuzz-", dir=place) as folder:
        return run(case, Path(folder), watch)


def receive(source: BinaryIO) -> bytes | None:
    """Read one message; None where there are no more."""
    head = source.read(4)
    if len(head) < 4:
        return None
    return source.read(struct.unpack("<I", head)[0])


def send(sink: BinaryIO, message: bytes) -> None:
    """Write one message."""
    sink.write(struct.pack("<I", len(message)) + message)
    sink.flush()


if __name__ == "__main__":
    main()
