"""What the first addresses of a trace tell of the pool before it, on short pieces of captures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app

CASES = Path(__file__).parents[2] / "fixtures" / "cases"


def verdict(name: str) -> dict[str, Any]:
    """What `validate` says of a case."""
    result = CliRunner().invoke(app, ["validate", "--format", "json", str(CASES / name)])
    assert result.exit_code == 0, (result.exception, result.stderr)
    (entry,) = json.loads(result.stdout)["captures"]
    return entry  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "total", "flushes"),
    [("kmap-was-there", 8, (0, 0, 0)), ("kmap-was-there-flush", 591, (2, 2, 1))],
)
def test_a_lower_slot_that_returns_later_may_have_been_mapped_first(
    name: str, total: int, flushes: tuple[int, int, int]
) -> None:
    """Slot 42 returns before slot 41, whose call had entered earlier: neither was there before.

    The first call tells where the cursor stands, and the order of the two is told by their slots.
    What the first flush freed was mapped before the trace: no model can know that it freed any.
    """
    found = verdict(name)
    inferred = found["inferred"]
    assert found["kmap"] == {"total": total, "exact": total - 1}
    assert (inferred["initial_state"], inferred["ordering"]) == (1, 1)
    assert found["first_divergence"] is None
    told = found["pool_flushes"]
    assert (told["observed"], told["predicted"], told["matched"]) == flushes
