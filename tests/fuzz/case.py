"""One input of the fuzzer: files, what is opened of them, and how."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

OPEN: Final = "open"
"""Way of a case: the library's ``open_capture``, then the whole event table."""
SPOOLED: Final = "spooled"
"""The same, piece by piece as a large trace is read, compared with the first."""
WINDOWS: Final = "windows"
"""The same in windows whose sizes follow from the content, some of them tiny."""
CONVERTED: Final = "converted"
"""``convert`` to Parquet, and the file compared with the capture."""
CUT: Final = "cut"
"""Opened, then again when it has lost its end: what is missing is told."""
SCAN: Final = "scan"
"""The reader alone, from the bytes of one file to raw events (:mod:`tests.fuzz.light`)."""
WALK: Final = "walk"
"""Read in memory and replayed on the machine of the files beside it, which are read once."""
WORDS: Final = "words"
"""A command line up to where the command would begin."""
IN_PROCESS: Final = (OPEN, SPOOLED, WINDOWS, CONVERTED, CUT)
"""Ways through the library, whose native parts may write to stderr."""

WAYS: Final[dict[str, tuple[str, ...]]] = {
    "info": ("info", "@"),
    "info-json": ("info", "@", "--format", "json"),
    "report": ("report", "@", "--color", "always"),
    "report-json": ("report", "@", "--format", "json"),
    "report-costs": ("report", "@", "--format", "json", "--costs", "@costs.toml"),
    "report-calibrate": ("report", "@", "--calibrate"),
    "validate": ("validate", "@"),
    "validate-json": ("validate", "@", "--format", "json"),
    "replay": ("replay", "@", "--split", "2g", "--color", "always"),
    "replay-json": ("replay", "@", "--ram", "4G", "--pkmap", "1024", "--format", "json"),
    "replay-fixed": (
        "replay", "@", "--cpus", "1", "--timing", "fixed", "--placement", "same-pfn",
    ),
    "replay-calibrate": ("replay", "@", "--calibrate", "--pkmap", "64", "--format", "json"),
    "replay-machine": ("replay", "@", "--machine", "@machine.toml"),
    "stdin": ("info", "-"),
    "buffer": ("info", "@:inner"),
    "csv": ("convert", "@", "--format", "csv", "-o", "-"),
    "lines": ("convert", "@", "--format", "ndjson", "-o", "-"),
    "layout": ("layout", "--machine", "@"),
    "layout-json": ("layout", "--format", "json", "--machine", "@"),
}  # fmt: skip
"""Further ways: command lines. ``@`` is the path that is opened, ``@:NAME`` a trace buffer of it,
``@NAME`` a file of the case, and ``-`` behind a command stdin, from which the path is read."""


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes
    ----------
    reader
        Name in :data:`tests.fuzz.readers.READERS`.
    files
        Content by name, below one folder.
    opened
        The file that is opened; "" opens the folder.
    way
        :data:`OPEN` or a key of :data:`WAYS`.
    """

    reader: str
    files: dict[str, bytes] = field(hash=False)
    opened: str = ""
    way: str = OPEN

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self.files.values()))

    @property
    def digest(self) -> str:
        """Name of the input: the same for the same content."""
        made = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            made.update(f"{name}\0{len(content)}\0".encode())
            made.update(content)
        return made.hexdigest()[:16]

    def with_file(self, name: str, content: bytes) -> Case:
        """The same case with another content of one file."""
        return Case(self.reader, {**self.files, name: content}, self.opened, self.way)

    def with_way(self, way: str) -> Case:
        """The same files taken another way."""
        return Case(self.reader, self.files, self.opened, way)

    def lay_out(self, folder: Path) -> Path:
        """Write the files below `folder`; give the path that is opened."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / self.opened if self.opened else folder

    def arguments(self, path: Path) -> list[str]:
        """Command line that reads the case when it lies at `path`, without the program's name."""
        folder = path.parents[len(Path(self.opened).parts) - 1] if self.opened else path

        def filled(word: str) -> str:
            if word == "@" or word.startswith("@:"):
                return f"{path}{word[1:]}"
            return str(folder / word[1:]) if word.startswith("@") else word

        return [filled(word) for word in WAYS.get(self.way, WAYS["info"])]

    def save(self, folder: Path, **remarks: Any) -> Path:
        """Keep the case in a folder of its own below `folder`; give that folder."""
        kept = folder / f"{self.reader}-{self.way}-{self.digest}"
        kept.mkdir(parents=True, exist_ok=True)
        self.lay_out(kept / "files")
        told = {"reader": self.reader, "opened": self.opened, "way": self.way, **remarks}
        (kept / "case.json").write_text(json.dumps(told, indent=1) + "\n")
        return kept

    @classmethod
    def load(cls, kept: Path) -> Case:
        """Take a case from where :meth:`save` put it."""
        told = json.loads((kept / "case.json").read_text())
        root = kept / "files"
        files = {
            str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
        }
        return cls(told["reader"], files, told["opened"], told["way"])


@dataclass
class Verdict:
    """What became of a case.

    Attributes
    ----------
    trouble
        What must not happen, in words; "" where all is well.
    ended
        ``read`` or the error that the user was told.
    lines
        Source lines that ran for the first time in this process, as ``file:line``, and what was
        said, without numbers: the compiled loops have no lines.
    grown
        Bytes by which the peak of the resident memory lay above its state before the case.
    seconds
        Time of the processor that it took.
    resident
        Bytes of resident memory afterwards.
    """

    trouble: str = ""
    ended: str = "read"
    lines: list[str] = field(default_factory=list)
    grown: int = 0
    seconds: float = 0.0
    resident: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)
