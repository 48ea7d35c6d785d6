"""Stack traces at the borders of pieces, where the event above them stands in another piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import collectors
from tests.windows import Sizes, difference, in_windows

if TYPE_CHECKING:
    from pathlib import Path

KEPT = "  a-8   [000] .....  1.000100: kmap_high <-f"
UNKEPT = "  a-8   [000] .....  1.000200: clear_user <-g"
STACK = "  a-8   [000] .....  1.000201: <stack trace>\n => h"
OTHER = "  b-9   [001] .....  1.000200: kmap_high <-f"


@pytest.mark.parametrize(
    ("lines", "stacks"),
    [
        ([KEPT, UNKEPT, OTHER, STACK, KEPT], [None, None, None]),
        ([KEPT, OTHER, STACK, KEPT], ["h", None, None]),
        ([KEPT, UNKEPT, "no event", STACK, OTHER], [None, None]),
        ([KEPT, UNKEPT, OTHER, STACK, STACK, OTHER], [None, None, None]),
    ],
)
@pytest.mark.parametrize("window", [1, 50, 100, 150, 5000])
def test_a_stack_belongs_to_its_own_event(
    tmp_path: Path, lines: list[str], stacks: list[str | None], window: int
) -> None:
    trace = tmp_path / "trace"
    trace.write_text("# tracer: nop\n" + "\n".join(lines) + "\n")
    whole = collectors.open_capture(trace)
    assert whole.events.collect()["stack"].to_list() == stacks
    pieces = in_windows(trace, tmp_path / "table", Sizes(window, window, window))
    assert difference(whole, pieces) == ""


@pytest.mark.parametrize("window", [1, 50, 100])
def test_a_stack_that_was_cut_off_is_the_same_in_any_windows(tmp_path: Path, window: int) -> None:
    trace = tmp_path / "trace"
    trace.write_text(f"{OTHER}\n{KEPT}\n{STACK}\n => k\n => dir_g")
    whole = collectors.open_capture(trace)
    assert whole.events.collect()["stack"].to_list() == [None, "h<-k"]
    pieces = in_windows(trace, tmp_path / "table", Sizes(window, window, window))
    assert difference(whole, pieces) == ""
