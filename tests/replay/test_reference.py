"""The compiled loops against the same source run by Python (NUMBA_DISABLE_JIT)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from replay.machine.layout import layout_of
from replay.machine.model import Machine
from tests.replay.oracle import BASE, simulate
from tests.replay.whole_local import replay_locals
from tests.replay.whole_pool import replay_pool

ROOT = Path(__file__).parents[2]


def digest() -> str:
    """Everything that order, replay and gauges compute of two simulated traces."""
    machine = Machine(arch="i386", pae=True, pkmap_slots=32)
    layout = layout_of(machine)
    assert layout.pkmap_base == BASE
    sums = hashlib.sha256()
    for seed in (1, 2):
        run = simulate(seed, slots=32, tasks=40, pages=90, rounds=12, most=1, jitter=12)
        done = replay_pool(run.events, layout, span=(0, int(run.events["ts"].max() or 0)))
        for array in (done.sequence.operations, done.result, done.scanned, done.freed):
            sums.update(np.ascontiguousarray(array).tobytes())
        sums.update(repr(done.outcome).encode())
        sums.update(replay_locals(run.events, layout).vaddr.tobytes())
    return sums.hexdigest()


def test_compiled_and_interpreted_agree() -> None:
    env = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    code = "from tests.replay.test_reference import digest; print(digest())"
    slow = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert slow.stdout.strip() == digest()
