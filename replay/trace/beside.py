"""Windows that are looked at in a thread of their own, beside the main thread.

Compiled loops and polars let other threads run, so two parts of a replay that do not need each
other's results take the time of the longer one.
"""

from __future__ import annotations

from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from collectors.ahead import POLL, WAITING, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


class HasLast(Protocol):
    """A window, or something with one."""

    @property
    def last(self) -> bool:
        """Whether nothing comes behind it."""
        ...


_Window = TypeVar("_Window", bound=HasLast)


class Beside(Generic[_Window]):
    """Gives windows to a function, in their order, in a thread that the first large one starts.

    To be used in a ``with`` statement: leaving it waits for the last window, after an error only
    for the one that is being looked at.

    Parameters
    ----------
    feed
        What takes the windows. Nothing else may use what it changes until the end.
    """

    def __init__(self, feed: Callable[[_Window], object]) -> None:
        self._feed = feed
        self._waiting: Queue[_Window | None] = Queue(WAITING)
        self._error: BaseException | None = None
        self._given_up = False
        self._thread: Thread | None = None

    def give(self, window: _Window) -> None:
        """Give the next window: at once where it is the only one, for a thread costs more then.

        Raises
        ------
        BaseException
            What `feed` raised, of this window or an earlier one.
        """
        if self._thread is None:
            if window.last:
                self._feed(window)
                return
            self._thread = Thread(target=self._run, name="hmtrace-beside", daemon=True)
            self._thread.start()
        self._put(window)

    def _put(self, window: _Window | None) -> None:
        while self._thread is not None and self._thread.is_alive():
            try:
                self._waiting.put(window, timeout=POLL)
            except Full:
                continue
            break
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._given_up:
                try:
                    window = self._waiting.get(timeout=POLL)
                except Empty:
                    continue
                if window is None:
                    return
                self._feed(window)
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is None:
            return
        if kind is None:
            self._put(None)
        else:
            self._given_up = True
        wait_for(self._thread)
        if kind is None:
            self._check()
