"""Several captures, one after the other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from collectors.errors import HmtraceError
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

_Told = TypeVar("_Told")


class CrewError(HmtraceError):
    """Those who serve cannot go on, whatever the capture."""


def check_who_serves(jobs: int, cluster: str | None) -> None:
    """Refuse processes of this machine beside the workers of a scheduler (exit code 2)."""
    if cluster is not None and jobs > 1:
        raise HmtraceError(
            "--jobs and --cluster exclude each other",
            hint="the number of workers is the cluster's",
            exit_code=2,
        )


def each(captures: list[str], ask: Callable[[str], _Told]) -> list[_Told]:
    """What came of each capture; one that cannot be read is named, and the others go on."""
    found = []
    for path in captures:
        try:
            found.append(ask(path))
        except HmtraceError as error:
            if error.exit_code != 3 or len(captures) == 1 or isinstance(error, CrewError):
                raise
            tell(error)
    return found


def tell(error: HmtraceError) -> None:
    """Say on stderr why a capture cannot be read, where the others go on."""
    sys.stderr.write(f"hmtrace: {clean(error, 2000)}\n")
    if error.hint:
        sys.stderr.write(f"  hint: {clean(error.hint, 2000)}\n")
