"""The kernel's name: version (/proc/version) or the output of uname -a."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_PROC = re.compile(r"^Linux version (\S+) (.*)$", re.MULTILINE)
_UNAME = re.compile(r"^Linux \S+ (\d\S*) (.*)$", re.MULTILINE)
_MACHINE = re.compile(r"\b(i[3-6]86|armv[4-8]\w*|x86_64|aarch64)\b")
_ARCHES = {"i": "i386", "a": "arm", "x": "x86_64"}


def parse(text: str, sheet: Sheet) -> None:
    """Write down the release.

    Facts: release (as ``uname -r``), smp, machine_arch (from ``uname -a`` only; a 64-bit name
    may be that of the kernel under a 32-bit user space, so it does not become `arch`).
    """
    match = _PROC.search(text) or _UNAME.search(text)
    if match is None:
        sheet.note("names no kernel release")
        return
    line = text.count("\n", 0, match.start()) + 1
    sheet.add("release", match[1][:80], line=line, detail=match[0])
    sheet.add("smp", " SMP" in match[2], line=line)
    machine = _MACHINE.search(match[2]) if match.re is _UNAME else None
    if machine is not None and machine[1] != "aarch64":
        sheet.add("machine_arch", _ARCHES[machine[1][0]], line=line, detail=machine[1])
