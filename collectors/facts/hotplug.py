"""CPUs that went offline or came online while the machine ran: the log at the capture's end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts import version
from collectors.facts.loglines import since_boot

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_CHANGES: Final = (
    # arch/x86/kernel/smpboot.c: common_cpu_die (native_cpu_die before), do_boot_cpu
    (re.compile(r"(?:smpboot: )?CPU (\d{1,4}) is now offline"), False),
    (re.compile(r"(?:smpboot: )?Booting Node +\d{1,4},? Processor (\d{1,4}) APIC"), True),
    # arch/arm/kernel/smp.c: __cpu_die, secondary_start_kernel; arch/arm/kernel/topology.c
    (re.compile(r"CPU(\d{1,4}): shutdown"), False),
    (re.compile(r"CPU(\d{1,4}): Booted secondary processor"), True),
    (re.compile(r"CPU(\d{1,4}): thread -?\d{1,4}, cpu \d{1,4}, socket"), True),
)
_MAX_CHANGES: Final = 10_000


def parse(text: str, sheet: Sheet) -> None:
    """Write down when which CPU went or came.

    Facts: cpu_changes (tuple of (ns since boot, CPU, online)), in the order of the log. Lines
    without a stamp tell no time and are left out; of several boots the last one counts.
    """
    changes: list[tuple[int, int, bool]] = []
    for ns, line in since_boot(text):
        if version.PROC.match(line):
            changes.clear()
        for pattern, online in _CHANGES:
            if match := pattern.match(line):
                changes.append((ns, int(match[1]), online))
    sheet.add("cpu_changes", tuple(changes[-_MAX_CHANGES:]), detail="CPU … is now offline")
