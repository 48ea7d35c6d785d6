"""Before anything imports numba: its cache follows the source, as in the program."""

from __future__ import annotations

from hypothesis import settings

from hmtrace.compiled import use_cache_folder

use_cache_folder()

# `make test` answers the same today and tomorrow; new examples are looked for on purpose,
# with `pytest --hypothesis-profile=random` (`make random`).
settings.register_profile("random", settings.default)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")
