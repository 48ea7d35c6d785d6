"""Run every benchmark of this folder: ``python -m tests.benchmarks [NAME…]``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(wanted: list[str]) -> None:
    """Call ``main([])`` of the modules ``bench_*.py``, or of those that are named."""
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        if wanted and path.stem.removeprefix("bench_") not in wanted:
            continue
        importlib.import_module(f"tests.benchmarks.{path.stem}").main([])


if __name__ == "__main__":
    main(sys.argv[1:])
