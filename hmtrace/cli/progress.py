"""A progress bar on stderr, for work that turns out to be slow."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, ProgressColumn, Task, TaskID

PATIENCE = 0.5
"""Seconds of silence before a bar appears."""
_bars: list[ProgressBar] = []
"""Those of the work that is going on, the innermost last."""


def line(words: str) -> None:
    """Write lines to stderr, above the bar where there is one."""
    if _bars:
        _bars[-1].line(words)
    else:
        sys.stderr.write(words)


def aside(words: str) -> None:
    """Say in the bar, where there is one, what its work has to wait for; empty: for nothing."""
    if _bars:
        _bars[-1].aside(words)


class ProgressBar:
    """Says how far some work is: silent for half a second, and for good without a terminal.

    Call it with ``(done, in all)``, or :meth:`count` with the number of events so far.
    Both are cheap. A timer opens the bar, so it appears even in the middle of a long step.

    Parameters
    ----------
    label
        What is going on: ``reading``.
    in_bytes
        Whether it is counted in bytes; else only the share is said.
    unit
        What it is counted in, if in things: ``machines``.
    """

    def __init__(self, label: str, *, in_bytes: bool = False, unit: str = "") -> None:
        self._label = label
        self._in_bytes = in_bytes
        self._unit = unit
        self._aside = ""
        self._note = ""
        self._done: tuple[int, int | None] = (0, None)
        self._events = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._bar: Progress | None = None
        self._tasks: tuple[TaskID, TaskID]  # the work, and what stands for it while it waits

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say how far the work is, and something beside it."""
        self._done = (done, max(total, 1))
        self._note = note
        self._show()

    def count(self, events: int) -> None:
        """Say how many events there are so far."""
        self._events = events

    def aside(self, words: str) -> None:
        """Say what the work has to wait for, in place of its own name."""
        self._aside = words
        self._show()

    def line(self, words: str) -> None:
        """Write lines above the bar."""
        with self._lock:
            if self._bar is None:
                sys.stderr.write(words)
            else:
                self._bar.console.print(words, end="", markup=False, highlight=False)

    def _show(self) -> None:
        """Put down how far the work is: a bar, or while that says nothing, that it goes on.

        A bar stands still while the work waits, and is full while what was read is put in order.
        """
        if self._bar is None:
            return
        done, total = self._done
        goes_on = bool(self._aside) or total is None or done >= total
        speed = self._note
        if self._events:
            rate = self._events / max(time.monotonic() - self._began, 1e-3)
            speed = f"{rate / 1e6:.1f} M events/s"
        work, wait = self._tasks
        if not goes_on:
            self._bar.update(work, completed=done, total=total, figures=speed)
        self._bar.update(work, visible=not goes_on)
        self._bar.update(
            wait,
            visible=goes_on,
            description=self._aside or self._label,
            figures="" if self._aside else speed,
        )

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        with self._lock:
            if self._timer is None:  # the work is done
                return
            self._bar = Progress(
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=20),
                _left_column(self._unit, in_bytes=self._in_bytes),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._tasks = (
                self._bar.add_task(self._label, visible=False, figures=""),
                self._bar.add_task(self._label, total=None, figures=""),
            )
            self._bar.start()
        self._show()

    def __enter__(self) -> Self:
        _bars.append(self)
        if sys.stderr.isatty():
            self._timer = threading.Timer(PATIENCE, self._open)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _bars.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._timer = None
            if self._bar is not None:
                self._bar.stop()
                self._bar = None


def left_in_words(seconds: float) -> str:
    """For how long something still goes on.

    Examples
    --------
    >>> left_in_words(95), left_in_words(400), left_in_words(20_000)
    ('95 s left', '7 min left', '6 h left')
    """
    if seconds < 100:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 6000 else f"{seconds / 3600:.0f} h left"


def _left_column(unit: str, *, in_bytes: bool) -> ProgressColumn:
    """Column of how much of how much is done, and for how long it still goes on like that."""
    from rich.filesize import decimal
    from rich.progress import ProgressColumn
    from rich.text import Text

    class LeftColumn(ProgressColumn):
        """Empty where there is no bar."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            if task.total is None:
                return Text()
            words = f"{task.percentage:.0f} %"
            if in_bytes:
                words = f"{decimal(int(task.completed))} of {decimal(int(task.total))}"
            elif unit:
                words = f"{task.completed:.0f} of {task.total:.0f} {unit}"
            left = task.time_remaining
            return Text(words if left is None else f"{words}, {left_in_words(left)}")

    return LeftColumn()
