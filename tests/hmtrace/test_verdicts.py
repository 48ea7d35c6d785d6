"""The advice for captures and boards of every kind, as one table: read it as a board's maker would.

Of each: what is chosen (`low`: no HIGHMEM; `-`: without PAE or LPAE), how good the evidence is,
what is worth trying where nothing is chosen, and the verdict of every build.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

FIXTURES = Path(__file__).parents[2] / "fixtures"
TABLE = {
    # 1 GiB: what patches of December 2025 would make the default
    "arm-61-1g-minix": """
        3g_opt low, fair
        3g now · 3g low no · 3g_opt low mind · 2g low mind · 2g_opt low no · 1g low mind""",
    # nothing was mapped, though all was probed, and purges over more lowmem cost more: a trial
    # would tell
    "arm-612-percpu-lpae-smp2": """
        3g, fair, try 2g low
        3g now · 3g low no · 3g_opt- maybe · 3g_opt- low no · 2g low maybe · 2g_opt- low no
        · 1g low maybe""",
    # the boards of 2 GiB, which "struggle the most"
    "arm-61-1g-minix --machine imx6q-wandboard-2g": """
        3g, fair, try 2g
        3g now · 3g low no · 3g_opt maybe · 3g_opt low no · 2g maybe · 2g low no · 2g_opt low no
        · 1g low mind""",
    # 4 GiB: no split makes all of it lowmem
    "arm-61-1g-minix --machine rpi4-4g-lpae": """
        3g, fair
        3g now · 3g low no · 3g_opt- maybe · 3g_opt- low no · 2g maybe · 2g low no · 2g_opt- no
        · 2g_opt- low no · 1g maybe · 1g low no""",
    "i386-minix-pae-smp2": """
        2g low, fair
        3g now · 3g- as now · 3g low no · 3g- low no · 3g_opt- low mind · 2g low mind · 2g- low mind
        · 2g_opt- low mind · 1g low mind · 1g- low mind""",
    "i386-minix-pae-smp2 --machine pc-4g-pae": """
        3g, fair
        3g now · 3g- no · 3g low no · 3g_opt- no · 3g_opt- low no · 2g maybe · 2g low no
        · 2g_opt- no · 2g_opt- low no · 1g maybe · 1g low no""",
    # 2 GiB with PAE, which 2g_opt would cost its no-execute pages
    "i386-arena-pae-m2048-smp2": """
        3g, fair, try 2g
        3g now · 3g- as now · 3g low no · 3g- low no · 3g_opt- maybe · 3g_opt- low no · 2g maybe
        · 2g- maybe · 2g low no · 2g- low no · 2g_opt- maybe · 2g_opt- low mind · 1g low mind
        · 1g- low mind""",
    "i386-latfmt-minix-686-smp2-global": """
        2g_opt low, fair
        3g now · 3g low no · 3g_opt maybe · 3g_opt low no · 2g maybe · 2g low no · 2g_opt maybe
        · 2g_opt low mind · 1g low mind""",
    # an arena that runs full
    "i386-hog-e-vmapfail-pae-smp1": """
        2g low, thin
        3g now · 3g- as now · 3g low no · 3g- low no · 3g_opt- low mind · 2g low mind · 2g- low mind
        · 2g_opt- low mind · 1g low mind · 1g- low mind""",
    # tasks that wait for a slot: without PAE the pool has twice as many, and less lowmem, so that
    # more may wait
    "i386-hog-a-waiters-pae-smp2": """
        2g low, fair
        3g now · 3g- maybe · 3g low no · 3g- low no · 3g_opt- low mind · 2g low mind · 2g- low mind
        · 2g_opt- low mind · 1g low mind · 1g- low mind""",
    # MIPS has one split
    "mips32-61-minix": """
        2g, fair
        2g now · 2g low no""",
}

pytestmark = pytest.mark.usefixtures("shared_shelf")


def _build(split: str, *, highmem: bool, without: bool) -> str:
    return split + "-" * without + ("" if highmem else " low")


def _told(document: dict[str, Any]) -> tuple[str, list[str]]:
    """The first line and the verdicts, as the table has them."""
    verdicts = {
        (one["split"], one["highmem_enabled"], one["pae"]): (
            _build(
                one["split"], highmem=one["highmem_enabled"], without=one["without"] is not None
            ),
            one["verdict"],
        )
        for one in document["splits"]
    }
    choice, trial = document["choice"], document["trial"]
    chosen = verdicts[choice["split"], choice["highmem"], choice["pae"]][0]
    first = f"{chosen}, {document['evidence']}"
    if trial is not None:
        tried = verdicts[trial["split"], trial["highmem"], trial["pae"]][0]
        first += f", try {tried}"
    return first, [f"{name} {verdict}" for name, verdict in verdicts.values()]


@pytest.mark.parametrize("asked", TABLE)
def test_the_verdicts(asked: str) -> None:
    name, *options = asked.split()
    result = CliRunner().invoke(app, ["advise", str(FIXTURES / name), *options, "--format", "json"])
    assert result.exit_code == 0, result.output
    (document,) = json.loads(result.stdout)["captures"]
    first, *rest = TABLE[asked].strip().split("\n")
    verdicts = " ".join(line.strip() for line in rest).split(" · ")
    assert _told(document) == (first.strip(), verdicts)
