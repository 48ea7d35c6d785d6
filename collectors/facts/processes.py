"""Address space of processes: /proc/PID/status of all of them, one behind the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.snapshot import Process

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_LINE = re.compile(r"^(Name|Pid|VmPeak):\s{1,40}(\S.{0,120})$")
_KIB = re.compile(r"(\d{1,12}) kB")
_PID = re.compile(r"\d{1,9}")
KEPT: Final = 16
"""Processes that are kept, the largest first."""


def parse(text: str, sheet: Sheet) -> None:
    """Write down the processes that had the most addresses in use.

    Fact: processes. `VmPeak` is the most that a process ever had mapped (fs/proc/task_mmu.c:
    task_mem); kernel threads have none.
    """
    found: list[Process] = []
    name, pid = "", 0
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match is None:
            continue
        if match[1] == "Name":
            name, pid = match[2], 0
        elif match[1] == "Pid" and _PID.fullmatch(match[2]):
            pid = int(match[2])
        elif match[1] == "VmPeak" and (size := _KIB.fullmatch(match[2])):
            found.append(Process(name, pid, int(size[1]) << 10))
    if not found:
        sheet.note("holds no process with a VmPeak")
        return
    found.sort(key=lambda process: -process.vm_peak)
    sheet.add("processes", tuple(found[:KEPT]), detail=f"{len(found)} processes")
