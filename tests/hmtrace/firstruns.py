"""Caches of users who run hmtrace for the first time, or all but the first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from collectors.compiled import store
from tests.hmtrace.sweeps import run

WAITERS: Final = Path(__file__).parents[2] / "fixtures" / "i386-hog-a-waiters-pae-smp2"
LARGE: Final = ("collectors.table.pairing.pair-", "collectors.tracecmd_dat.walk.walk-")
"""Loops that take eight tenths of the time in which what reads a trace.dat is compiled."""


def all_but_first(home: Path) -> None:
    """Keep the largest loops of `info` of a trace.dat in a cache folder that has none yet."""
    run("info", WAITERS)  # else they may not be there either
    made = home / "hmtrace" / store.LOOPS.folder
    for folder in (made.parent, made):
        folder.mkdir(mode=0o700)
    for folder in store.folders(make=False):
        for name in LARGE:
            for file in folder.glob(f"{name}*.{store.LOOPS.ending}"):
                shutil.copyfile(file, made / file.name)
    assert {file.name[:20] for file in made.iterdir()} == {name[:20] for name in LARGE}
