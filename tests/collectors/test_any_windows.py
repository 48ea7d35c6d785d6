"""Any capture read whole and in windows of any size: the same capture."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import HmtraceError, open_capture
from tests.fuzz.readers import READERS
from tests.windows import Sizes, difference, in_windows

if TYPE_CHECKING:
    from collectors.capture import Capture
    from tests.fuzz.case import Case

NAMES = ("ftrace-text", "trace-cmd-report", "perf-script", "trace.dat", "perf.data")


@functools.cache
def seeds(reader: str) -> list[Case]:
    """Traces of a format: excerpts of the fixtures, and written ones."""
    return list(next(r for r in READERS if r.name == reader).seeds())


def outcome(read: functools.partial[Capture]) -> Capture | HmtraceError:
    try:
        return read()
    except HmtraceError as error:
        return error


@pytest.mark.parametrize("reader", NAMES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whole_and_in_windows(reader: str, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(seeds(reader)), label="trace")
    small = st.integers(1, 40) | st.integers(41, 5000)
    sizes = data.draw(st.builds(Sizes, small, small, small), label="sizes")
    with tempfile.TemporaryDirectory() as name:
        path = case.lay_out(Path(name))
        whole = outcome(functools.partial(open_capture, path))
        pieces = outcome(functools.partial(in_windows, path, Path(name) / "table", sizes))
        if isinstance(whole, HmtraceError) or isinstance(pieces, HmtraceError):
            assert str(whole) == str(pieces)
        else:
            assert difference(whole, pieces) == ""
