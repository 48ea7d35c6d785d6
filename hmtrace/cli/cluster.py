"""Machines of a sweep, served by the workers of a cluster: dask.distributed.

A part of the machines is a text that names the workload (:mod:`hmtrace.cli.serving`). The scheduler
gives it to a worker, and to another one where that was lost; it need not know hmtrace itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue as queues
import warnings
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from collectors.errors import HmtraceError
from collectors.opened import opened
from hmtrace.cli import progress
from hmtrace.cli.serving import question, served_from
from hmtrace.cli.several import CrewError
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from hmtrace.cli.crew import Backlog, Served, Serving, SweepWork
    from replay.whatif.sweep import Candidate

PATIENCE: Final = 8.0
"""Seconds in which a scheduler has to answer."""
_LOOK: Final = 2.0
"""Seconds of silence after which somebody looks whether there are workers."""
_AHEAD: Final = 3
"""Parts under way for each thread of the workers: none waits for this process."""
_MOST: Final = 64
"""Machines of a part."""
_PART: Final = 1.0
"""Seconds that a part should take: less than that is lost with a worker."""
_MOST_BYTES: Final = 1 << 16
"""Of a scheduler file."""
_EXTRA: Final = "pip install distributed (the extra 'cluster' of hmtrace)"
GONE: Final = (OSError, TimeoutError, CancelledError, asyncio.CancelledError)
"""What dask raises where a scheduler does not answer, or its client is closed."""


class Cluster:
    """Serves by the workers of a scheduler.

    Parameters
    ----------
    address
        Of the scheduler, as ``tcp://host:8786``, or the path of a scheduler file.

    Raises
    ------
    HmtraceError
        Exit code 2: dask.distributed is not installed, or it is no address. 3: no scheduler
        answers.
    """

    def __init__(self, address: str) -> None:
        self._address = clean(address)
        self._open = ExitStack()
        self._client = self._open.enter_context(connected(address))
        self._done: queues.SimpleQueue[Any] = queues.SimpleQueue()
        self._parts: dict[str, list[Candidate]] = {}
        self._futures: dict[str, Any] = {}
        self._seconds = 0.0
        self._threads: int | None = None
        self._run = _by_value()

    @property
    def words(self) -> str:
        """How many serve."""
        return "1 worker" if self._threads == 1 else f"{self._threads or 0} workers"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget()
        self._open.close()

    def serve(self, work: SweepWork, queue: Backlog) -> Serving:
        """As of :class:`hmtrace.cli.crew.Crew`."""
        if work.travelling is None:
            raise HmtraceError(
                "the workload of this capture is kept in no file that workers could see",
                hint="hmtrace convert CAPTURE -o board.workload makes a file that travels",
            )
        try:
            self._look()
            while queue or self._parts:
                self._give(work, queue)
                for future in self._finished():
                    yield from self._taken(future)
        except GONE as error:
            raise CrewError(
                f"the scheduler {self._address} does not answer any more",
                hint="what was served is written down: the same command goes on from there",
            ) from error
        finally:
            self._forget()

    def _forget(self) -> None:
        """Have nobody serve what is still under way."""
        futures = list(self._futures.values())
        self._parts.clear()
        self._futures.clear()
        if futures:
            with suppress(*GONE):
                self._client.cancel(futures)

    def _look(self) -> None:
        """Count the threads of the workers; say it where there are none any more."""
        threads = sum(self._client.nthreads().values())
        if not threads and self._threads != 0:
            progress.line(f"hmtrace: no worker at {self._address}: waiting for one\n")
        self._threads = threads

    def _give(self, work: SweepWork, queue: Backlog) -> None:
        """Send parts, neighbours together: they have most in common."""
        assert work.travelling is not None
        threads = max(1, self._threads or 0)
        while queue and len(self._parts) < _AHEAD * threads:
            number = int(_PART / self._seconds) if self._seconds else 1
            number = min(number, _MOST, len(queue) // (2 * threads))
            part = queue.part(number, _MOST)
            key = f"hmtrace-{uuid4().hex}"
            text = question(work.travelling, part)
            future = self._client.submit(self._run, text, key=key, pure=False)
            self._parts[key], self._futures[key] = part, future
            future.add_done_callback(self._done.put)

    def _finished(self) -> list[Any]:
        """Parts that are done, at least one; none where nothing happened for a while."""
        found = []
        with suppress(queues.Empty):
            found.append(self._done.get(timeout=_LOOK))
            while True:
                found.append(self._done.get_nowait())
        if not found:
            self._look()
        return [future for future in found if future.key in self._parts]

    def _taken(self, future: Any) -> Iterator[Served]:
        if future.status != "finished":
            self._raise(future)
        where, text = self._result(future)
        told = json.loads(text)
        if "refused" in told:
            raise CrewError(f"worker {where}: {told['refused']}", hint=told["hint"])
        part = self._parts.pop(future.key)
        del self._futures[future.key]
        seconds = told["seconds"] / len(part)
        self._seconds = (self._seconds + seconds) / 2 if self._seconds else seconds
        if not self._threads:
            self._look()
        yield from zip(part, served_from(told, part), strict=True)

    def _result(self, future: Any) -> tuple[str, str]:
        """What came of a part; where that was lost with its worker, another one serves it first."""
        while True:
            try:
                found: tuple[str, str] = future.result(timeout=PATIENCE)
            except TimeoutError:
                self._look()
            else:
                return found

    def _raise(self, future: Any) -> None:
        """Say why there is no answer."""
        if future.status != "error":
            raise CancelledError
        error = future.exception(timeout=PATIENCE)
        if type(error).__name__ == "KilledWorker":
            number = len(self._parts[future.key])
            raise CrewError(
                f"workers of {self._address} ended again and again while they served the same "
                f"{number} machines; the last is {error.last_worker.address}",
                hint="they may have too little memory: look at their logs",
            ) from error
        raise error


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of a scheduler, closed at the end; errors as of :class:`Cluster`."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # dask would tell of what is told here
    try:
        client = _connected(address)
        try:
            yield client
        finally:
            with suppress(*GONE):
                client.close(timeout=PATIENCE / 4)
    finally:
        logging.disable(disabled)


def _by_value() -> Callable[[str], tuple[str, str]]:
    """What a worker runs; made here, so that it travels as code and not as a name.

    The scheduler looks into what it hands on, and would need hmtrace for the name.
    """

    def serve_part(text: str) -> tuple[str, str]:
        import json

        from distributed import get_worker

        where = get_worker().address
        try:
            from hmtrace.cli.serving import answer
        except ImportError as error:
            told = {"refused": f"it has no hmtrace that serves ({error})"}
            return where, json.dumps({**told, "hint": "install the same hmtrace on all machines"})
        return where, answer(text)

    return serve_part


def _connected(address: str) -> Any:
    """A client of the scheduler."""
    try:
        from distributed import Client
    except ImportError as error:
        raise HmtraceError(
            f"--cluster needs dask.distributed ({error})", hint=_EXTRA, exit_code=2
        ) from error
    if address.endswith(".json") or ("/" in address and "://" not in address):
        address = _address_in(address)
    connect: Any = Client  # untyped
    try:
        with warnings.catch_warnings(record=True) as told:
            asyncio.run(_greet(address))
            client = connect(address, timeout=PATIENCE, set_as_default=False, name="hmtrace")
    except ValueError as error:
        raise HmtraceError(
            f"--cluster: {clean(address)}: {error}", hint="such as tcp://host:8786", exit_code=2
        ) from error
    except GONE as error:
        raise HmtraceError(
            f"no scheduler answers at {clean(address)}",
            hint="start it with `dask scheduler`, and workers with `dask worker ADDRESS`",
        ) from error
    for warning in told:
        if warning.category.__name__ == "VersionMismatchWarning":
            progress.line(f"hmtrace: warning: {clean(warning.message, 2000)}\n")
    return client


async def _greet(address: str) -> None:
    """Ask a scheduler who it is: for one that takes the call and says nothing, dask waits on."""
    from distributed import rpc
    from distributed.security import Security

    connect: Any = rpc  # both are untyped
    secure: Any = Security
    scheduler = connect(address, connection_args=secure().get_connection_args("client"))
    try:
        await asyncio.wait_for(scheduler.identity(), PATIENCE)
    finally:
        await scheduler.close_rpc()


def _address_in(path: str) -> str:
    """The address in a scheduler file."""
    try:
        with opened(Path(path)) as file:
            told = json.loads(file.read(_MOST_BYTES))
    except OSError as error:
        raise HmtraceError(
            error.strerror or str(error), source=path,
            hint="`dask scheduler --scheduler-file` writes it",
        ) from error  # fmt: skip
    except ValueError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("address"), str):
        raise HmtraceError("this is no scheduler file", source=path, hint="it has an address")
    return str(told["address"])
