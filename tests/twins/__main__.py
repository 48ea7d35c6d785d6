"""Foretells each twin of the other; exit 1 where a difference is not explained."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.twins.measure import FIXTURES, both_ways, find, recorded
from tests.twins.pairs import PAIRS, RECORDED
from tests.twins.table import as_markdown, legend, summary


def main() -> int:
    """Measure the pairs that a folder has."""
    parser = argparse.ArgumentParser(prog="python -m tests.twins", description=__doc__)
    parser.add_argument("--captures", type=Path, default=FIXTURES, help="folder of the captures")
    parser.add_argument("--summary", action="store_true", help="the table of docs/twins.md")
    told = parser.parse_args()
    found = [
        one
        for pair in PAIRS
        if find(told.captures, pair.one) and find(told.captures, pair.other)
        for one in both_ways(pair, told.captures)
    ]
    found += [recorded(pair, told.captures) for pair in RECORDED if find(told.captures, pair.one)]
    text = summary(found) if told.summary else f"{as_markdown(found)}\n{legend()}"
    sys.stdout.write(f"{text}\n")
    return int(any(row.verdict == "off" for one in found for row in one.rows))


if __name__ == "__main__":
    sys.exit(main())
