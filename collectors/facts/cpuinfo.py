"""The processors: cpuinfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collectors.facts.arches import CPUINFO

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_FIELD = re.compile(r"^([A-Za-z][\w -]*?)\s*:\s*(.*)$")
_NUMBERED = re.compile(r"^processor \[\d{1,4}\]\s*:(?! *Offline)")  # ARC
_COUNTS = ("CPU count", "ncpus active")  # xtensa, sparc


def parse(text: str, sheet: Sheet) -> None:
    """Write down number and kind of the processors.

    Facts: cpus (online when the file was read), cpu_model, cpu_flags (frozenset), cpu_family
    (``x86``, ``arm`` or another value of :data:`collectors.facts.arches.CPUINFO`), arm_cpu
    (implementer, part, variant, revision).
    """
    cpus = 0
    fields: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        cpus += _NUMBERED.match(line) is not None
        match = _FIELD.match(line)
        if match is None:
            continue
        key = match[1]
        # "processor : 0" counts; ARM kernels before 3.8 have "Processor : ARMv7 …" as the model
        if key == "processor" and match[2].strip().isdigit():
            cpus += 1
        fields.setdefault(key, (match[2].strip(), number))
    if not fields:
        sheet.note("holds no field")
        return
    for key in _COUNTS:
        if not cpus and fields.get(key, ("", 0))[0].isdigit():
            cpus = int(fields[key][0][:4])
    if cpus:
        sheet.add("cpus", cpus, detail=f"{cpus} processor lines")
    for key in ("model name", "Processor", "Hardware", "cpu model", "cpu", "model"):
        if fields.get(key, ("", 0))[0]:
            sheet.add("cpu_model", fields[key][0][:120], line=fields[key][1], detail=key)
            break
    flags = fields.get("flags") or fields.get("Features")
    if flags is not None:
        sheet.add("cpu_flags", frozenset(flags[0].split()[:400]), line=flags[1])
    for key, family in CPUINFO.items():
        if key in fields:
            sheet.add("cpu_family", family, detail=key)
            break
    names = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")
    if all(name in fields for name in names):
        try:
            values = tuple(int(fields[name][0], 0) for name in names)
        except ValueError:
            return
        sheet.add("arm_cpu", values, line=fields["CPU part"][1])
