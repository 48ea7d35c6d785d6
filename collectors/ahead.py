"""Things that are made in a thread of their own, one or two ahead of what is asked for.

Compiled loops and polars let other threads run, so the making and the use of a piece take the time
of the longer of the two.
"""

from __future__ import annotations

from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

_Made = TypeVar("_Made")
WAITING: Final = 1
"""Things that wait: what is kept in memory."""
POLL: Final = 0.1
"""Seconds between two looks at whether the other thread lives; signals are taken meanwhile."""


def ahead(made: Iterator[_Made]) -> Iterator[_Made]:
    """Make things in a thread of its own, one or two ahead of what is asked for.

    Parameters
    ----------
    made
        Makes them.

    Yields
    ------
    The same.

    Raises
    ------
    BaseException
        What `made` raised, behind what it gave before.
    """
    ready: Queue[_Made | _End] = Queue(WAITING)
    given_up = Event()

    def put(thing: _Made | _End) -> None:
        while not given_up.is_set():
            try:
                ready.put(thing, timeout=POLL)
            except Full:
                continue
            return

    def run() -> None:
        error = None
        try:
            for thing in made:
                put(thing)
                if given_up.is_set():
                    return
        except BaseException as raised:
            error = raised
        put(_End(error))

    thread = Thread(target=run, name="hmtrace-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                thing = ready.get(timeout=POLL)
            except Empty:
                continue
            if isinstance(thing, _End):
                break
            yield thing
    finally:
        given_up.set()
        wait_for(thread)
    if thing.error is not None:
        raise thing.error


def wait_for(thread: Thread) -> None:
    """Wait until a thread has ended; with a timeout: signals are taken between two waits."""
    while thread.is_alive():
        thread.join(POLL)


class _End(NamedTuple):
    """Nothing comes any more, and why."""

    error: BaseException | None
