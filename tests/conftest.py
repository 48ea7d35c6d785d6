"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# `make test` answers the same today and tomorrow; new examples are looked for on purpose,
# with `pytest --hypothesis-profile=random` (`make random`).
settings.register_profile("random", settings.default)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")
