"""The kernel's name: version (/proc/version), the output of uname -a, the boot log's first line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts.arches import UNAME

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

PROC: Final = re.compile(r"^Linux version (\d\S*)(.*)$", re.MULTILINE)
"""What /proc/version and the first line of a boot log say (init/version.c: linux_banner)."""
REALTIME: Final = re.compile(r" PREEMPT[_ ]RT(?:_FULL)?\b")
"""In the version of a kernel with PREEMPT_RT (scripts/mkcompile_h: UTS_VERSION); ``PREEMPT RT`` in
the patches for kernels up to 5.4."""
_UNAME = re.compile(r"^Linux \S+ (\d\S*) (.*)$", re.MULTILINE)


def parse(text: str, sheet: Sheet) -> None:
    """Write down the release.

    Facts: release (as ``uname -r``), smp, realtime, machine_arch (from ``uname -a`` only).
    """
    match = PROC.search(text) or _UNAME.search(text)
    if match is None:
        sheet.note("names no kernel release")
        return
    line = text.count("\n", 0, match.start()) + 1
    sheet.add("release", match[1][:80], line=line, detail=match[0])
    sheet.add("smp", " SMP" in match[2], line=line)
    _tell_realtime(match[2], sheet, line)
    machine = UNAME.search(match[2]) if match.re is _UNAME else None
    if machine is not None and machine.lastgroup is not None:
        sheet.add("machine_arch", machine.lastgroup, line=line, detail=machine[0])


def tell(line: str, sheet: Sheet, number: int) -> None:
    """Write down release, smp and realtime where a line of the boot log is the kernel's banner."""
    match = PROC.match(line)
    if match is not None:
        sheet.add("release", match[1][:80], line=number, detail=line)
        if " #" in match[2]:
            version = match[2].rpartition(" #")[2]
            sheet.add("smp", " SMP" in version, line=number)
            _tell_realtime(version, sheet, number)


def _tell_realtime(version: str, sheet: Sheet, line: int) -> None:
    """Write down what only these kernels say."""
    if is_realtime := REALTIME.search(version) is not None:
        sheet.add("realtime", is_realtime, line=line)
