"""Windows looked at in a thread of their own: all of them, in order, and errors come back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from collectors.ahead import ahead
from collectors.events import HmtraceError, empty
from replay.trace.beside import Beside
from replay.trace.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator


def windows(count: int) -> list[Window]:
    return [Window(empty(), n, n == count - 1, 0) for n in range(count)]


def test_all_windows_in_order() -> None:
    seen: list[tuple[int, bool]] = []
    mine = threading.current_thread()
    with Beside(
        lambda window: seen.append((window.first_row, threading.current_thread() is mine))
    ) as beside:
        for window in windows(20):
            beside.give(window)
    assert seen == [(n, False) for n in range(20)]


def test_a_single_window_needs_no_thread() -> None:
    seen = []
    with Beside(lambda _: seen.append(threading.current_thread())) as beside:
        beside.give(windows(1)[0])
        assert seen == [threading.current_thread()]


@pytest.mark.parametrize("at", [0, 3, 9])
def test_an_error_comes_back(at: int) -> None:
    def fail(window: Window) -> None:
        if window.first_row == at:
            raise HmtraceError("no")

    def run() -> None:
        with Beside(fail) as beside:
            for window in windows(10):
                beside.give(window)

    with pytest.raises(HmtraceError, match="no"):
        run()
    assert not [t for t in threading.enumerate() if t.name == "hmtrace-beside"]


def test_what_is_left_is_given_up() -> None:
    """An error of the main thread ends the other one before its next window."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def slow(window: Window) -> None:
        begun.set()
        go_on.wait(10)
        seen.append(window.first_row)

    def run() -> NoReturn:
        with Beside(slow) as beside:
            for window in windows(9)[:2]:
                beside.give(window)
            begun.wait(10)
            threading.Timer(0.3, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == [0]


def test_what_is_made_ahead_comes_in_order() -> None:
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter(()))) == []


def test_an_error_comes_behind_what_was_made() -> None:
    def made() -> Iterator[int]:
        yield 1
        yield 2
        raise HmtraceError("no")

    seen = []

    def take() -> None:
        for number in ahead(made()):
            seen.append(number)  # noqa: PERF402

    with pytest.raises(HmtraceError, match="no"):
        take()
    assert seen == [1, 2]


def test_no_more_is_made_than_is_wanted() -> None:
    made = []

    def make() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    numbers = ahead(make())
    assert next(numbers) == 0
    time.sleep(0.3)
    assert len(made) <= 3
    numbers.close()
    assert not [t for t in threading.enumerate() if t.name == "hmtrace-ahead"]
