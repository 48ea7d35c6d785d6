"""Any capture read whole and in windows of any size: the same capture."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import HmtraceError, open_capture
from tests.fuzz.readers import READERS
from tests.windows import Sizes, difference, in_windows

if TYPE_CHECKING:
    from collectors.capture import Capture
    from tests.fuzz.case import Case

PAGE_CALL = "kmap_local_page: (__kmap_local_page_prot+0x0/0x60) page=0xf6000028"
PFN_CALL = "kmap_local_pfn: (__kmap_local_pfn_prot+0x0/0x180) pfn=0x3faae"
PFN_RETURN = (
    "kmap_local_pfn_ret: (__kmap_local_page_prot+0x51/0x60 <- __kmap_local_pfn_prot) "
    "vaddr=0xfffbb000"
)
PAGE_RETURN = "kmap_local_page_ret: (clear+0x45/0x90 <- __kmap_local_page_prot) vaddr=0xfffbb000"
UNMAP = "kunmap_local: (kunmap_local_indexed+0x0/0x110) vaddr=0xfffbb000"
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
@settings(max_examples=8)
@given(data=st.data())
def test_whole_and_in_windows(reader: str, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(seeds(reader)), label="trace")
    small = st.integers(1, 40) | st.integers(41, 5000)
    sizes = data.draw(st.builds(Sizes, small, small, small), label="sizes")
    # Tiny windows are for short traces: the long ones are not cut more often than some 1 000 times.
    sizes = sizes._replace(window=max(sizes.window, case.size // 1000))
    with tempfile.TemporaryDirectory() as name:
        path = case.lay_out(Path(name))
        whole = outcome(functools.partial(open_capture, path))
        pieces = outcome(functools.partial(in_windows, path, Path(name) / "table", sizes))
        if isinstance(whole, HmtraceError) or isinstance(pieces, HmtraceError):
            assert str(whole) == str(pieces)
        else:
            assert difference(whole, pieces) == ""


@pytest.mark.parametrize(
    "bodies",
    [
        (PFN_CALL, PFN_RETURN, PAGE_RETURN),
        (UNMAP, PFN_RETURN, PAGE_RETURN, PAGE_CALL),
        (UNMAP, PFN_RETURN, PFN_CALL, PFN_RETURN, PAGE_RETURN),
        (PAGE_CALL, PFN_CALL, PFN_RETURN, PAGE_RETURN, UNMAP),
        (PAGE_CALL, PFN_CALL, PAGE_CALL, PFN_CALL, UNMAP),
    ],
)
@pytest.mark.parametrize("window", [1, 150, 5000])
@pytest.mark.parametrize("hold", [1, 2, 5000])
def test_returns_that_share_a_row(
    bodies: tuple[str, ...], window: int, hold: int, tmp_path: Path
) -> None:
    path = tmp_path / "trace"
    left = f"{'a':>16}-7       [000] .....     "
    path.write_text("".join(f"{left}1.{n:06d}: {body}\n" for n, body in enumerate(bodies)))
    pieces = in_windows(path, tmp_path / "table", Sizes(window, 1, hold))
    assert difference(open_capture(path), pieces) == ""


@pytest.mark.parametrize("window", [1, 150, 5000])
def test_an_event_of_a_task_that_an_earlier_window_showed(window: int, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(
        " 0)               |  kmap_high() {\n"
        " ------------------------------------------\n"
        " 0)  kswapd0-50   =>   bash-112   \n"
        " ------------------------------------------\n\n"
        " 0)               |  kmap_high() {\n"
        " 0)               |    /* kunmap_high: (kunmap_high+0x0/0x90) page=0xf69b9db0 */\n"
    )
    pieces = in_windows(path, tmp_path / "table", Sizes(window, 1, 5000))
    assert pieces.events.collect()["pid"].to_list() == [None, 112, 112]
