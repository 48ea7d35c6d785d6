"""``perf script`` text: default, ``--ns``, any choice of ``-F`` that leaves event and payload.

The machinery is that of :mod:`collectors.text`; here are the grammar of the left half
(:mod:`line`), the scanner (:mod:`scan`), and what the first lines say about the columns
(:mod:`dialect`). Importing this package is cheap; what is compiled is loaded when a trace is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.input.source import Source
    from collectors.reading import Reading, Stream

__all__ = ["read", "sniff", "stream"]


def sniff(head: bytes) -> bool:
    """Tell perf script's output by the form of its first lines."""
    from collectors.text.perf_script.dialect import find_dialect

    return find_dialect(head) is not None


def read(source: Source, progress: Callable[[int, int], None] | None = None) -> Reading:
    """Read the text; see :func:`collectors.text.perf_script.capture.read`."""
    from collectors.text.perf_script import capture

    return capture.read(source, progress)


def stream(source: Source, progress: Callable[[int, int], None] | None = None) -> Stream:
    """Read the text piece by piece; see :func:`collectors.text.perf_script.capture.stream`."""
    from collectors.text.perf_script import capture

    return capture.stream(source, progress)
