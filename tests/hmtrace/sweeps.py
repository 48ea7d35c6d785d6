"""Sweeps in this process, and what they leave in the cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from hmtrace.cli import app
from hmtrace.cli.journal import NAME

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object, code: int = 0, columns: int = 80) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": str(columns)})
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def journalled(shelf: Path) -> list[str]:
    """Keys of the machines that were written down for the only workload, in this order."""
    (folder,) = shelf.iterdir()
    lines = [line for line in (folder / NAME).read_bytes().split(b"\n") if line]
    return [json.loads(line.partition(b" ")[2])["key"] for line in lines]
