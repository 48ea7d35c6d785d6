"""Large arrays use memory again that others have given up."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys, threading
import numpy as np
from hmtrace.memory import keep_freed_memory

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: one fault a page
if sys.argv[1] == "kept":
    keep_freed_memory()


def use():
    for _ in range(50):
        np.ones(3 << 17)  # of 3 MiB each


before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
threads = [threading.Thread(target=use) for _ in range(6)]
for thread in threads:
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of the GNU C library")
def test_freed_memory_is_used_again() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how]))
        for how in ("kept", "given back")
    }
    assert faults["kept"] < faults["given back"] // 2
