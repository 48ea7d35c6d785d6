"""What tracing lost, as the replay needs to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Gap(Protocol):
    """A stretch of time in which events are missing."""

    @property
    def after_seq(self) -> int:
        """The first event after the gap has this `seq` or a higher one."""
        ...

    @property
    def cpu(self) -> int | None:
        """The CPU whose events are missing; None where it is not one alone."""
        ...

    @property
    def start_ts(self) -> int | None:
        """Time of the last event before the gap; None where there is none."""
        ...

    @property
    def end_ts(self) -> int | None:
        """Time of the first event after it; None where there is none."""
        ...


class Loss(Protocol):
    """Everything that tracing lost; :class:`collectors.capture.Lost` is one."""

    @property
    def events(self) -> int:
        """Number known to be lost."""
        ...

    @property
    def unknown(self) -> int:
        """Number of gaps of unknown size."""
        ...

    @property
    def intervals(self) -> Sequence[Gap]:
        """The gaps."""
        ...


def gaps_of(lost: Loss | None) -> tuple[int, ...]:
    """`seq` of the first event after each gap, ascending."""
    return tuple(sorted({gap.after_seq for gap in lost.intervals})) if lost else ()
