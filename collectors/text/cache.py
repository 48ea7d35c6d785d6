"""Keeps numba's on-disk cache honest when a kernel's code is spread over modules."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = Path(__file__).parent


def cached(*modules: str) -> Callable[[Any], Any]:
    """Make a compiled function's cache depend on further modules of this package.

    numba compares the time stamp of the file that holds the function; a change in a module that
    it was linked with goes unnoticed. The stamp is widened by a hash of those files. Where
    numba's inner workings differ, the function stays as it is.

    Parameters
    ----------
    modules
        Modules whose functions or constants are compiled in, as paths from
        :mod:`collectors.text` without suffix: ``line``, ``../probes``.
    """

    def widen(dispatcher: Any) -> Any:
        digest = hashlib.sha256()
        for name in modules:
            source = _HERE / f"{name}.py"
            digest.update(source.read_bytes() if source.is_file() else b"")
        index: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
        stamp = getattr(index, "_source_stamp", None)
        if stamp is not None:
            index._source_stamp = (stamp, digest.hexdigest())
        return dispatcher

    return widen
