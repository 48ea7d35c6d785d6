"""Machines of a sweep, served in this process or in several that share the workload."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from hmtrace.cli.prepared import prepared
from replay.whatif.sweep import swept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from replay.whatif.run import Server
    from replay.whatif.sweep import Candidate, SweptMachine

_PARTS: Final = 4
"""Parts of the machines that each process gets, one after the other."""


def serve(
    server: Server, candidates: Sequence[Candidate], placement: str, timing: str
) -> Iterator[SweptMachine]:
    """What the workload comes to on each machine, in their order."""
    for candidate in candidates:
        yield swept(candidate, server.on(candidate.machine, placement=placement, timing=timing))


def serve_in_processes(
    jobs: int,
    path: str,
    costs: Path | None,
    candidates: Sequence[Candidate],
    how: tuple[str, str],
) -> Iterator[SweptMachine]:
    """The same by several processes, that map the workload in the cache.

    Parameters
    ----------
    jobs
        How many.
    path, costs
        The capture, whose workload is kept, and ``--costs``.
    candidates
        The machines. Neighbours go to one process, for they have most in common.
    how
        Placement and timing.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    size = max(1, -(-len(candidates) // (jobs * _PARTS)))
    parts = [candidates[at : at + size] for at in range(0, len(candidates), size)]
    # Threads of polars do not live on in a forked process.
    pool = ProcessPoolExecutor(
        min(jobs, len(parts)), get_context("spawn"), initializer=_begin, initargs=(path, costs)
    )
    try:
        for part in pool.map(_serve, parts, [how] * len(parts)):
            yield from part
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_here: dict[str, Server] = {}
_open = ExitStack()


def _begin(path: str, costs: Path | None) -> None:
    ready = _open.enter_context(prepared(path, costs, lambda _: None))
    _here["server"] = ready.server()


def _serve(candidates: Sequence[Candidate], how: tuple[str, str]) -> list[SweptMachine]:
    return list(serve(_here["server"], candidates, *how))
