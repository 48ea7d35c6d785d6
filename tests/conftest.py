"""Settings of all tests."""

from __future__ import annotations

import ctypes
from typing import Final

from hypothesis import HealthCheck, settings

# `make test` answers the same today and tomorrow; new examples are looked for on purpose,
# with `pytest --hypothesis-profile=random` (`make random`).
# A loaded machine draws slowly: that is no fault of a test, so no test has to say so.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("same")

_M_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_libc: Final = ctypes.CDLL(None)
if hasattr(_libc, "mallopt"):
    # A reader has tables by pid of some MB, of which a small trace touches a page. Once one was
    # given back glibc takes the next from memory it has kept, and clears all of it at each opening.
    _libc.mallopt(_M_MMAP_THRESHOLD, 1 << 18)
