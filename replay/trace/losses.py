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
