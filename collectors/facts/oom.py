"""Requests that found no memory: the page allocator's reports in the kernel's log.

========================== ============================================================
line                       of
========================== ============================================================
``… invoked oom-killer:``  mm/oom_kill.c: dump_header
``… page allocation        mm/page_alloc.c: warn_alloc (warn_alloc_failed, __alloc_pages before)
failure``
``Normal free:…kB min:…``  a zone: mm/page_alloc.c, since 6.3 mm/show_mem.c: show_free_areas
``lowmem_reserve[]: …``    what it keeps from requests that could have had a higher one, there
``Normal: 3*4kB … =``      its free blocks, there
``Killed process …``       mm/oom_kill.c: __oom_kill_process
========================== ============================================================
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts import version
from collectors.facts.loglines import stamped
from collectors.snapshot import OomReport, OomZone

if TYPE_CHECKING:
    from collectors.facts.model import Sheet
    from collectors.snapshot import FactName

_BEGIN: Final = re.compile(
    r"(.{1,64}?)(?: invoked oom-killer: gfp_mask=|: page allocation failure[:.] order:)(.{1,300})"
)
_GFP: Final = re.compile(r"(?:^|mode: ?)0x([0-9a-f]{1,8})")
_ORDER: Final = re.compile(r"(?:order=|^)(\d{1,2})\b")
_NODE = r"(?:Node \d{1,4} )?"
_ZONE: Final = re.compile(
    rf"{_NODE}(\w{{1,16}}) free:(\d{{1,12}})kB (?:boost:\d{{1,12}}kB )?"
    r"min:(\d{1,12})kB low:(\d{1,12})kB high:(\d{1,12})kB(.{0,2000})"
)
_MANAGED: Final = re.compile(r" managed:(\d{1,12})kB")
_PRESENT: Final = re.compile(r" present:(\d{1,12})kB")
_CMA: Final = re.compile(r" free_cma:(\d{1,12})kB")
_BLOCKS: Final = re.compile(
    rf"{_NODE}(\w{{1,16}}): (\d{{1,9}}\*\d{{1,9}}kB.{{0,1000}}) = \d{{1,12}}kB"
)
_BLOCK: Final = re.compile(r"(\d{1,9})\*(\d{1,9})kB")
_RESERVE: Final = re.compile(r"lowmem_reserve\[\]:((?: \d{1,9}){1,16})")
_KILLED: Final = re.compile(
    r"(?:.{0,40}?)\b[Kk]ill(?:ed)? process \d{1,9}[ ,:]{1,2}\(?([^),]{1,64})"
)
KEPT: Final = 32
"""Reports that are kept, the last of the log: machines in need make many."""


class _Report:
    """A report as its lines come."""

    def __init__(self, at: int | None, task: str, rest: str, *, is_oom: bool) -> None:
        self.at, self.task, self.killed = at, task, ""
        gfp, order = _GFP.search(rest), _ORDER.search(rest)
        # a page fault that was turned down elsewhere comes with an empty mask
        self.gfp = int(gfp[1], 16) or None if gfp else None
        self.order = int(order[1]) if order else 0
        self.is_oom = is_oom
        self._zones: dict[str, OomZone] = {}
        self._reserves: dict[str, int] = {}
        self._last = ""
        self._page = 4096

    def see(self, line: str) -> None:
        """Look at a line behind the first."""
        if match := _ZONE.match(line):
            name, free, least, low, high, rest = match.groups()
            managed = _MANAGED.search(rest) or _PRESENT.search(rest)
            cma = _CMA.search(rest)
            zone = OomZone(
                name, _kib(free), _kib(least), _kib(low), _kib(high),
                0, _kib(managed[1]) if managed else None, _kib(cma[1]) if cma else None, None,
            )  # fmt: skip
            self._zones.setdefault(name, zone)
            self._last = name
        elif self._last and (match := _RESERVE.match(line)):
            kept = next(filter(None, map(int, match[1].split())), 0)
            self._reserves.setdefault(self._last, kept)
        elif match := _BLOCKS.match(line):
            blocks = _BLOCK.findall(match[2])
            self._page = int(blocks[0][1]) << 10
            largest = max((int(size) for number, size in blocks if int(number)), default=0)
            zone_of = self._zones.get(match[1])
            if zone_of is not None and zone_of.largest is None:
                self._zones[match[1]] = zone_of._replace(largest=largest << 10)
        elif not self.killed and (match := _KILLED.match(line)):
            self.killed = match[1].strip()

    def told(self) -> OomReport:
        """The report."""
        zones = tuple(
            zone._replace(reserve=self._reserves.get(zone.name, 0) * self._page)
            for zone in self._zones.values()
            if zone.managed != 0
        )
        return OomReport(self.at, self.task, self.gfp, self.order, self.is_oom, self.killed, zones)


def parse_before(text: str, sheet: Sheet) -> None:
    """Write down the reports of the log before the capture. Fact: ooms_before."""
    _parse(text, sheet, "ooms_before")


def parse_end(text: str, sheet: Sheet) -> None:
    """Write down those of the log at its end. Fact: ooms, empty where there are none."""
    _parse(text, sheet, "ooms")


def _parse(text: str, sheet: Sheet, name: FactName) -> None:
    """Of several boots the last one counts; a report whose zones are not told is left out."""
    reports: list[_Report] = []
    for at, line in stamped(text):
        if version.PROC.match(line):
            reports.clear()
        if match := _BEGIN.match(line):
            reports.append(_Report(at, match[1], match[2], is_oom="oom-killer" in line))
        elif reports:
            reports[-1].see(line)
    found = [report.told() for report in reports]
    found = [report for report in found if report.zones][-KEPT:]
    if found or name == "ooms":
        sheet.add(name, tuple(found), detail=f"{len(found)} reports of too little memory")


def _kib(text: str) -> int:
    return int(text) << 10
