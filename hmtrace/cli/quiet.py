"""Keeping the words of a native library off stderr where its failure is expected."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def native_stderr_dropped() -> Iterator[None]:
    """Drop what is written to descriptor 2; what Python writes to ``sys.stderr`` still arrives.

    polars reads damaged Parquet files in Rust, which prints a message of its own for every panic
    before it becomes an exception here.
    """
    mine = sys.stderr
    is_native = False
    with suppress(OSError, ValueError, AttributeError):  # closed, or of no file
        is_native = mine.fileno() == 2
        mine.flush()
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    if is_native:
        sys.stderr = open(kept, "w", encoding=mine.encoding, errors=mine.errors, closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        if is_native:
            sys.stderr.flush()
            sys.stderr = mine
        os.dup2(kept, 2)
        os.close(kept)
