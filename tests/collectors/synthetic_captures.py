"""Synthetic captures for tests: a scenario, simulated into a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors.synthetic.board import make_board
from collectors.synthetic.outputs.perf import PerfWriter
from collectors.synthetic.outputs.text import TextWriter
from collectors.synthetic.outputs.tracedat import TraceDatWriter
from collectors.synthetic.produce import Production
from collectors.synthetic.scenarios import SCENARIOS

if TYPE_CHECKING:
    from pathlib import Path

    from collectors.synthetic.board import Board

WRITERS = {
    "ftrace-text": lambda out, board: TextWriter(out, board, ns=True),
    "perf-script": PerfWriter,
    "trace.dat-v6": lambda out, board: TraceDatWriter(out, board, version=6),
    "trace.dat-v7": TraceDatWriter,
}


def board_of(arch: str = "i386", **more: Any) -> Board:
    return make_board(arch, **({"pae": arch == "i386"} | more))


def simulate(
    folder: Path, scenario: str, board: Board, form: str = "trace.dat-v7", **asked: Any
) -> dict[str, Any]:
    """Write a capture; give what really happened."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "trace"
    with place.open("w+b") as out:
        writer = WRITERS[form](out, board)
        production = Production(SCENARIOS[scenario], board, writer, **asked)
        truth = production.run()
    place.rename(folder / writer.file_name)
    for name, content in production.files.items():
        (folder / name).write_text(content)
    return truth
