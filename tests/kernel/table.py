"""docs/support-matrix.md: a row for each guest of the matrix, as it was last booted.

Rows of guests that were not booted this time stay as they are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kernel.checks import Outcome
    from tests.kernel.matrix import Guest

PAGE = Path(__file__).parents[2] / "docs/support-matrix.md"
RUNS = (
    "| kernel | machine | workloads | verdict | events | kmap | kmap_local | arena | flushes "
    "| lost, missed | overhead | date |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)
ABSENT = ("| kernel | not probed |", "|---|---|")
_NONE = "–"


def written(page: str, guests: list[Guest], outcomes: dict[str, Outcome]) -> str:
    """The page with the rows of guests that were booted renewed."""
    runs: dict[str, str] = {}
    probes: dict[str, str] = {}
    for guest in guests:
        outcome = outcomes.get(guest.name)
        runs[" | ".join(_key(guest))] = ""
        probes.setdefault(_kernel(guest), "")
        if outcome and not outcome.skipped:
            runs[" | ".join(_key(guest))] = row(guest, outcome)
            if outcome.events:
                names = ", ".join(f"`{name}`" for name in outcome.absent) or "all were"
                probes[_kernel(guest)] = f"| {_kernel(guest)} | {names} |"
    return _table(_table(page, RUNS, runs), ABSENT, probes)


def _table(page: str, head: tuple[str, str], rows: dict[str, str]) -> str:
    """Put rows below a head; an empty one stands for that which the page has already."""
    found = re.search(re.escape("\n".join(head)) + r"\n((?:\|.*\n)*)", page)
    if found is None:
        raise ValueError(f"the page has no table {head[0]}")
    for line in found[1].splitlines():
        for key, new in rows.items():
            # the version behind the kernel's name may be another one
            if not new and re.sub(r" `[^`|]*`(?= \| )", "", line, count=1).startswith(f"| {key} |"):
                rows[key] = line
    table = "\n".join((*head, *(row for row in rows.values() if row), ""))
    return page[: found.start()] + table + page[found.end() :]


def row(guest: Guest, outcome: Outcome) -> str:
    """One row."""
    verdict = f"{len(outcome.failures)} wrong" if outcome.failures else "exact"
    overhead = _NONE if outcome.overhead is None else f"{outcome.overhead:+.0%}"
    matched, flushes = outcome.flushes
    cells = (
        f"{_kernel(guest)} `{_release(outcome)}`",
        *_key(guest)[1:],
        verdict,
        _number(outcome.events),
        *(_share(outcome, kind) for kind in ("kmap", "kmap_local", "arena")),
        f"{_number(matched)} of {_number(flushes)}" if flushes else _NONE,
        f"{_number(outcome.lost)}, {_number(outcome.missed)}",
        overhead,
        datetime.now(tz=UTC).strftime("%Y-%m-%d"),
    )
    return f"| {' | '.join(cells)} |"


def _key(guest: Guest) -> tuple[str, str, str]:
    memory = f"{guest.ram} MiB, {guest.cpus} CPU{'s' * (guest.cpus > 1)}"
    boot = f", `{guest.boot}`" if guest.boot else ""
    recorder = f", recorder `{guest.recorder}`" if guest.recorder else ""
    return _kernel(guest), memory + boot + recorder, ", ".join(guest.works)


def _kernel(guest: Guest) -> str:
    return f"{guest.kernel.architecture} {guest.kernel.suite} {guest.kernel.flavour}"


def _release(outcome: Outcome) -> str:
    """Version of the package, which is the kernel's own and Debian's."""
    return re.sub(r"^.* ", "", outcome.package)


def _share(outcome: Outcome, kind: str) -> str:
    exact, total = outcome.kinds.get(kind, (0, 0))
    return f"{_number(exact)} of {_number(total)}" if total else _NONE


def _number(number: int) -> str:
    return f"{number:,}".replace(",", " ")
