"""Before anything imports numba: its cache follows the source, as in the program."""

from __future__ import annotations

from hmtrace.compiled import use_cache_folder

use_cache_folder()
