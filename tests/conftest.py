"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# `make test` answers the same today and tomorrow; new examples are looked for on purpose,
# with `pytest --hypothesis-profile=random` (`make random`).
# A loaded machine draws slowly: that is no fault of a test, so no test has to say so.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("same")
