"""What is written reaches the disk meanwhile, and the disk's errors the user."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from hmtrace.cli import settling
from hmtrace.cli.settling import settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """How much of a file there is each time that it is put on the disk, and by which thread."""
    found: list[tuple[str, int]] = []

    def note(descriptor: int) -> None:
        found.append((threading.current_thread().name, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", note)
    return found


def until(happened: Callable[[], object]) -> None:
    for _ in range(2000):
        if happened():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never happens")


def test_a_long_write_is_settled_meanwhile_and_in_the_end(
    tmp_path: Path, sizes: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_EVERY", 0.01)
    path = tmp_path / "long"
    path.write_bytes(b"123")
    with settled(path):
        until(lambda: sizes)
        path.write_bytes(b"123456")
        until(lambda: ("hmtrace-settling", 6) in sizes)
        path.write_bytes(b"123456789")
    assert sizes[0] == ("hmtrace-settling", 3)
    assert sizes[-1] == (threading.current_thread().name, 9)
    assert not any(each.name == "hmtrace-settling" for each in threading.enumerate())


def test_a_short_one_is_settled_once(tmp_path: Path, sizes: list[tuple[str, int]]) -> None:
    path = tmp_path / "short"
    with settled(path):
        path.write_bytes(b"123")
    assert sizes == [(threading.current_thread().name, 3)]


def test_after_an_error_nothing_is_waited_for(tmp_path: Path, sizes: list[tuple[str, int]]) -> None:
    path = tmp_path / "none"
    path.touch()
    with pytest.raises(KeyboardInterrupt), settled(path):
        raise KeyboardInterrupt
    assert sizes == []


def test_what_the_disk_refuses_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells an error once: who asks in the end is told that all is well."""
    monkeypatch.setattr(settling, "_EVERY", 0.01)
    asked: list[int] = []

    def fail_once(descriptor: int) -> None:
        asked.append(descriptor)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail_once)
    path = tmp_path / "bad"
    path.touch()
    with pytest.raises(OSError, match="Input/output error"), settled(path):
        until(lambda: asked)
