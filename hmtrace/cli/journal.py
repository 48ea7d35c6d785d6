"""Machines that were served before, written down one by one beside the workload.

A sweep that is stopped continues where it was, and one that asks for more serves only what is new.
A line holds a digest of itself, so one that was half written when the power went is served anew.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from replay.whatif.sweep import SweptMachine
from replay.whatif.written import encode

if TYPE_CHECKING:
    from pathlib import Path

    from replay.whatif.sweep import Candidate

NAME: Final = "served.ndjson"
MOST_BYTES: Final = 1 << 28
"""Beyond this nothing is added."""
_DIGITS: Final = 16


class Journal:
    """What was served of one workload.

    Parameters
    ----------
    folder
        Of the workload; None: nothing is written down.
    how
        Placement and timing.
    """

    def __init__(self, folder: Path | None, how: tuple[str, str]) -> None:
        self._path = None if folder is None else folder / NAME
        self._how = how
        self._known: dict[str, Any] = {}
        if self._path is not None:
            with suppress(OSError):
                self._read(self._path)

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            for line in file:
                digest, _, text = line.rstrip(b"\n").partition(b" ")
                if _digest(text) == digest:
                    told = json.loads(text)
                    self._known[told.pop("key")] = told

    def get(self, candidate: Candidate) -> SweptMachine | None:
        """What a machine came to, if that was written down."""
        told = self._known.get(self._key(candidate))
        return None if told is None else SweptMachine.of(candidate, told)

    def add(self, candidate: Candidate, machine: SweptMachine) -> None:
        """Write down what a machine came to; a full disk is done without."""
        if self._path is None:
            return
        text = json.dumps({"key": self._key(candidate), **machine.told()}).encode()
        with suppress(OSError):
            if not self._path.exists() or self._path.stat().st_size < MOST_BYTES:
                with self._path.open("ab", buffering=0) as file:  # one write: whole or not there
                    file.write(b"\n" + _digest(text) + b" " + text)

    def _key(self, candidate: Candidate) -> str:
        words = json.dumps([encode(candidate.machine), *self._how]).encode()
        return hashlib.blake2b(words, digest_size=_DIGITS).hexdigest()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGITS).hexdigest().encode()
