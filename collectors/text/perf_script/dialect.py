"""Which columns a perf script output has, and what its header says.

tools/perf/builtin-script.c: perf_sample__fprintf_start, process_event; tools/perf/util/header.c:
perf_header__fprintf_info for ``--header``.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from collectors.records import dataclass, field

_LINES: Final = 400
"""Lines that are looked at, without those of the header."""
_LEFT: Final = re.compile(
    rb"^\s{0,120}+(?P<comm>\S.{0,120}?(?=\s|$))?"
    rb"(?P<tid>(?:(?:^|\s{1,120}+)-?\d{1,10}(?:/-?\d{1,10}\s{0,40})?)(?=\s|$))?"
    rb"(?:\s{1,120}+(?P<cpu>\[\d{3,6}\]))?(?:\s{1,120}+[A-Za-z]{1,4})?\s{0,120}+$"
)
_TIME: Final = rb"(?:^|\s)\s*(?P<time>\d{1,10}\.\d{6,20}):\s+(?P<rest>\S.*)$"
_TIMED: Final = (
    # Behind the task's name, which may look like a time; or without one.
    re.compile(rb"^(?P<left>.{16,120}?)" + _TIME),
    re.compile(rb"^(?P<left>.{0,120}?)" + _TIME),
)
_REST: Final = re.compile(rb"^(?:\d+\s+)?(?P<event>[A-Za-z_][^\s:]*(?::[^\s:]*)*):(?:\s|$)")
_SIDE: Final = re.compile(rb"^PERF_RECORD_[A-Z_0-9]+\b")
_UNTIMED: Final = re.compile(
    rb"^(?P<left>.{0,120}?)\s+(?:\d+\s+)?(?P<event>[A-Za-z_][\w.-]*:[\w.:-]+):(?:\s|$)"
)
_TRACEFS: Final = b"# tracer:"
"""How the kernel's own text begins: none of its lines has to be looked at."""
_HEADER: Final = re.compile(r"^# ([a-z](?:[a-z ]{0,40}[a-z])?)\s{0,40}: (.*)$")


@dataclass(frozen=True)
class Dialect:
    """Columns of an output.

    Attributes
    ----------
    time, tid, comm, cpu
        Whether the column is there.
    header
        Lines of ``--header``: ``os release``, ``nrcpus online``, …
    """

    time: bool
    tid: bool
    comm: bool
    cpu: bool
    header: dict[str, str] = field(default_factory=dict)


def find_dialect(head: bytes) -> Dialect | None:
    """Find out what columns there are.

    Parameters
    ----------
    head
        First bytes of the text.

    Returns
    -------
    Dialect or None
        None where the text does not look like perf script's.
    """
    if b"\0" in head[:4096] or head.startswith(_TRACEFS):
        return None
    votes: Counter[tuple[bool, bool, bool, bool]] = Counter()
    others = 0
    header: dict[str, str] = {}
    for line in head.split(b"\n"):
        if line.startswith(b"#"):
            match = _HEADER.match(line.decode("utf-8", "replace"))
            if match:
                header.setdefault(match[1], match[2].strip())
            continue
        if not line.strip() or line[:1] == b"\t":
            continue
        columns = _columns(line[:400])
        if columns is None:
            others += 1
        else:
            votes[columns] += 1
        if votes.total() + others >= _LINES:
            break
    if not votes and not others and "perf version" in header:  # a header of many events
        return Dialect(time=True, tid=True, comm=True, cpu=True, header=header)
    if not votes or others > 4 * votes.total():
        return None
    time, tid, comm, cpu = votes.most_common(1)[0][0]
    return Dialect(time, tid, comm, cpu, header)


def _columns(line: bytes) -> tuple[bool, bool, bool, bool] | None:
    """Columns of one line; None where it is no sample."""
    timed = _TIMED[0].match(line) or _TIMED[1].match(line)
    if timed is not None:
        rest = _REST.match(timed["rest"])
        if rest is None and not _SIDE.match(timed["rest"]):
            return None
        left, event = timed["left"], rest["event"] if rest else b":"
    else:
        untimed = _UNTIMED.match(line)
        if untimed is None:
            return None
        left, event = untimed["left"], untimed["event"]
    match = _LEFT.match(left)
    if match is None:
        return None
    comm, tid, cpu = match["comm"], match["tid"], match["cpu"]
    if comm is not None and tid is None and re.fullmatch(rb"-?\d+(/-?\d+)?", comm.strip()):
        comm, tid = None, comm
    if comm is not None and cpu is None and re.fullmatch(rb"\[\d{3,6}\]", comm.strip()):
        comm, cpu = None, comm
    if tid is None and (b":" not in event or (timed is None and cpu is None)):
        return None  # tracefs' own lines have no group before the event's name
    return timed is not None, tid is not None, comm is not None, cpu is not None
