"""The processors: cpuinfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collectors.facts.arches import CPUINFO
from collectors.facts.numbers import decimal, whole

if TYPE_CHECKING:
    from collectors.facts.model import Sheet

_KEY = re.compile(r"[A-Za-z][\w -]{0,60}")
_NUMBERED = re.compile(r"^processor \[\d{1,4}\]\s*:(?! *Offline)")  # ARC
_COUNTS = ("CPU count", "ncpus active")  # xtensa, sparc


def parse(text: str, sheet: Sheet) -> None:
    """Write down number and kind of the processors.

    Facts: cpus (online when the file was read), cpu_model, cpu_flags (frozenset), cpu_family
    (``x86``, ``arm`` or another value of :data:`collectors.facts.arches.CPUINFO`), arm_cpu
    (implementer, part, variant, revision), tlb_entries (MIPS).
    """
    cpus = 0
    fields: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        cpus += _NUMBERED.match(line) is not None
        before, colon, value = line.partition(":")
        key, value = before.rstrip(), value.strip()
        if not colon or not _KEY.fullmatch(key):
            continue
        # "processor : 0" counts; ARM kernels before 3.8 have "Processor : ARMv7 …" as the model
        if key == "processor" and decimal(value) is not None:
            cpus += 1
        fields.setdefault(key, (value, number))
    if not fields:
        sheet.note("holds no field")
        return
    for key in _COUNTS:
        if not cpus:
            cpus = decimal(fields.get(key, ("", 0))[0]) or 0
    if cpus:
        sheet.add("cpus", cpus, detail=f"{cpus} processor lines")
    for key in ("model name", "Processor", "Hardware", "cpu model", "cpu", "model"):
        if fields.get(key, ("", 0))[0]:
            sheet.add("cpu_model", fields[key][0][:120], line=fields[key][1], detail=key)
            break
    entries, number = fields.get("tlb_entries", ("", 0))
    if decimal(entries) is not None:
        sheet.add("tlb_entries", decimal(entries), line=number)
    flags = fields.get("flags") or fields.get("Features")
    if flags is not None:
        sheet.add("cpu_flags", frozenset(flags[0].split()[:400]), line=flags[1])
    for key, family in CPUINFO.items():
        if key in fields:
            sheet.add("cpu_family", family, detail=key)
            break
    names = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")
    if all(name in fields for name in names):
        values = tuple(whole(fields[name][0]) for name in names)
        if all(value is not None and 0 <= value < 1 << 16 for value in values):
            sheet.add("arm_cpu", values, line=fields["CPU part"][1])
        else:
            sheet.note(f"line {fields['CPU part'][1]}: the numbers of the CPU are not understood")
