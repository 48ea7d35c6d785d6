"""Settings of all tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.tmpdir import TempPathFactory

# `make test` answers the same today and tomorrow; new examples are looked for on purpose,
# with `pytest --hypothesis-profile=random` (`make random`).
# A loaded machine draws slowly: that is no fault of a test, so no test has to say so.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: TempPathFactory) -> Path:
    """A folder that all workers of a run have together."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
