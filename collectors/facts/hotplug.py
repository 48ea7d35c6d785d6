"""CPUs that went offline or came online while the machine ran: the log at the capture's end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_STAMPED: Final = re.compile(
    r"(?:<\d{1,3}>)?\[ {0,12}(\d{1,9})\.(\d{6})\](?:\[ {0,12}[TC]\d{1,9}\])? "
)
_CHANGES: Final = (
    # arch/x86/kernel/smpboot.c: common_cpu_die (native_cpu_die before), do_boot_cpu
    (re.compile(r"(?:smpboot: )?CPU (\d{1,4}) is now offline"), False),
    (re.compile(r"(?:smpboot: )?Booting Node +\d{1,4},? Processor (\d{1,4}) APIC"), True),
    # arch/arm/kernel/smp.c: __cpu_die, secondary_start_kernel; arch/arm/kernel/topology.c
    (re.compile(r"CPU(\d{1,4}): shutdown"), False),
    (re.compile(r"CPU(\d{1,4}): Booted secondary processor"), True),
    (re.compile(r"CPU(\d{1,4}): thread -?\d{1,4}, cpu \d{1,4}, socket"), True),
)
_MAX_LINES: Final = 100_000
_MAX_CHANGES: Final = 10_000


def parse(text: str, sheet: Sheet) -> None:
    """Write down when which CPU went or came.

    Facts: cpu_changes (tuple of (ns since boot, CPU, online)), in the order of the log. Lines
    without a stamp tell no time and are left out.
    """
    changes: list[tuple[int, int, bool]] = []
    for raw in text.split("\n", _MAX_LINES)[:_MAX_LINES]:
        if (stamp := _STAMPED.match(raw)) is None:
            continue
        line = raw[stamp.end() : stamp.end() + 200]
        for pattern, online in _CHANGES:
            if match := pattern.match(line):
                ns = int(stamp[1]) * 1_000_000_000 + int(stamp[2]) * 1_000
                changes.append((ns, int(match[1]), online))
    sheet.add("cpu_changes", tuple(changes[-_MAX_CHANGES:]), detail="CPU … is now offline")
