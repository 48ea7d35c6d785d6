"""A capture that is ready for what-if questions: its workload, from the cache or distilled."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from collectors import WorkloadFileError
from collectors.capture import Capture
from hmtrace.cli.captures import describe, digest, read
from hmtrace.cli.machines import captured_machine
from hmtrace.cli.packing import WorkloadFile, telling
from hmtrace.cli.progress import ProgressBar
from hmtrace.cli.workloads import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collectors.input.source import Source
    from hmtrace.cli.workloads import Kept
    from hmtrace.report.source import InputSummary
    from replay.machine.model import Machine
    from replay.outcome import Outcome
    from replay.whatif.run import Server
    from replay.whatif.workload import Workload


_Told = TypeVar("_Told")


class WorkloadGoneError(Exception):
    """A workload that was kept is not there any more."""


class Prepared(NamedTuple):
    """A capture with its workload.

    Attributes
    ----------
    capture
        The capture, perhaps without its events.
    sha256
        Of its trace, where that is known already.
    machine, assumptions
        The machine that it is from, and what its files left open.
    workload
        What it asks of a machine.
    folder
        Where the workload is kept; None: nowhere.
    is_file
        It was read from a workload file: what the trace's digest is, that file says.
    """

    capture: Capture
    sha256: str | None
    machine: Machine
    assumptions: tuple[str, ...]
    workload: Workload
    folder: Path | None
    is_file: bool = False

    def source(self) -> InputSummary:
        """What a report says of the capture."""
        if self.is_file:
            from hmtrace.report.source import InputSummary

            return InputSummary.of(self.capture, self.sha256)
        return describe(self.capture, self.sha256)

    def evidence(self, outcome: Outcome) -> dict[str, Any]:
        """What was traced, by the outcome on the captured machine."""
        from replay.rules.recorded import recorded

        capture = self.capture
        return recorded(outcome, capture.facts.snapshot(), capture.lost, capture.raw_events)

    def server(self, machine: Machine | None = None) -> Server:
        """What serves the workload; `machine` is the same with other costs."""
        return server_of(self.capture, self.workload, machine or self.machine)


def server_of(capture: Capture, workload: Workload, machine: Machine) -> Server:
    """What serves the workload of a capture, that was distilled on this machine but for costs."""
    from replay.whatif.run import Server

    return Server(
        workload,
        machine,
        values=capture.facts.snapshot(),
        lost=capture.lost,
        clock_is_ns=capture.clock_is_ns,
        span_ns=capture.span_ns,
    )


@contextmanager
def prepared(
    path: str, costs: Path | None, check: Callable[[Machine], bool], *, anew: bool = False
) -> Iterator[Prepared]:
    """Take a workload from the cache, or distil it and keep it there; gone at the end where not.

    Parameters
    ----------
    path
        The capture.
    costs
        ``--costs``.
    check
        Called with the machine as soon as it is known, to refuse a question before slow work; says
        whether calls are converted in it (:attr:`replay.machine.model.Machine.converted`).
    anew
        Whether to read the capture in any case.

    Raises
    ------
    HmtraceError
        The capture cannot be read, its facts make no machine, or the costs file is wrong.
    WorkloadGoneError
        Another process has just removed what was kept: ask again, `anew`.
    """
    place = Place.of(path)
    kept = None if anew or place is None else place.find()
    if place is not None and kept is not None:
        machine, assumptions = captured_machine(kept.capture, costs)
        if kept.is_of(machine):
            with _asked_of(kept, place, path, machine, turns=check(machine)) as served:
                if served is not None:
                    kept, folder = served
                    yield Prepared(
                        kept.capture, kept.sha256, machine, assumptions, kept.workload, folder,
                        kept.is_file,
                    )  # fmt: skip
                    return
    found = _read(path)
    if not isinstance(found, Capture):
        with _unpacked(found, place, costs, check) as ready:
            yield ready
        return
    capture = found
    machine, assumptions = captured_machine(capture, costs)
    turns = check(machine)
    with ExitStack() as stack:
        room = None if place is None else stack.enter_context(place.room())
        workload = _distilled(capture, machine, room, turns=turns)
        sha256 = folder = None
        if place is not None and room is not None:
            sha256 = describe(capture).sha256
            if place.keep(room, capture, sha256, machine, workload):
                folder = place.folder
        yield Prepared(capture, sha256, machine, assumptions, workload, folder)


@contextmanager
def _asked_of(
    kept: Kept, place: Place, path: str, machine: Machine, *, turns: bool
) -> Iterator[tuple[Kept, Path | None] | None]:
    """A workload that is kept, and where; with its turns if they are asked for.

    None: it is one of a workload file, has lost them, and is gone. Those that nobody asked for
    before are sifted from the trace; where they cannot be kept, the workload is not kept with them.
    """
    if turns:
        kept = place.with_turns(kept)
    if turns and not kept.workload.can_convert and kept.is_file:
        place.forget()
        yield None
        return
    with ExitStack() as stack:
        stack.enter_context(_still_there())
        folder: Path | None = place.folder
        if turns and not kept.workload.can_convert:
            capture = _read(path)
            if not isinstance(capture, Capture) or describe(capture).sha256 != kept.sha256:
                place.forget()
                raise WorkloadGoneError
            room = stack.enter_context(place.room())
            kept = kept._replace(workload=_sifted(capture, machine, kept.workload, room))
            if room is None or not place.keep_turns(room, kept):
                folder = None
        if kept.is_file:
            stack.enter_context(telling(path))
        yield kept, folder


def _read(path: str) -> Capture | Source:
    """The capture, or the workload file that was given in its place."""
    try:
        return read(path, described=True)
    except WorkloadFileError as error:
        return error.file


@contextmanager
def _unpacked(
    source: Source, place: Place | None, costs: Path | None, check: Callable[[Machine], bool]
) -> Iterator[Prepared]:
    """As :func:`prepared`, of a workload file."""
    file = WorkloadFile.of(source)
    capture, sha256 = file.capture, file.sha256
    machine, assumptions = captured_machine(capture, None)
    file.require(machine)
    machine, assumptions = captured_machine(capture, costs)
    check(machine)
    with ExitStack() as stack:
        room = None if place is None else stack.enter_context(place.room())
        with ProgressBar("reading"):
            workload = file.unpack(room)
        folder = None
        if place is not None and room is not None:
            own = digest(capture.origin)
            if own is not None and place.keep(room, capture, sha256, machine, workload, own):
                folder = place.folder
        with telling(source.trace):
            yield Prepared(capture, sha256, machine, assumptions, workload, folder, is_file=True)


def asked(
    path: str,
    costs: Path | None,
    ask: Callable[[Prepared], _Told],
    check: Callable[[Machine], bool] = lambda _: False,
    *,
    anew: bool = False,
) -> _Told:
    """Ask something of a capture that is prepared; parameters as of :func:`prepared`."""
    try:
        with prepared(path, costs, check, anew=anew) as ready:
            return ask(ready)
    except WorkloadGoneError:
        with prepared(path, costs, check, anew=True) as ready:
            return ask(ready)


@contextmanager
def _still_there() -> Iterator[None]:
    from polars.exceptions import PolarsError

    try:
        yield
    except (OSError, PolarsError) as error:
        raise WorkloadGoneError from error


def _distilled(capture: Capture, machine: Machine, folder: Path | None, *, turns: bool) -> Workload:
    from replay.whatif.workload import distil

    with ProgressBar("replaying") as progress:
        return distil(
            capture.events,
            machine,
            values=capture.facts.snapshot(),
            lost=capture.lost,
            clock_is_ns=capture.clock_is_ns,
            progress=progress,
            folder=folder,
            turns=turns,
        )


def _sifted(
    capture: Capture, machine: Machine, workload: Workload, folder: Path | None
) -> Workload:
    from replay.whatif.workload import sift_turns

    with ProgressBar("replaying") as progress:
        return sift_turns(
            capture.events,
            machine,
            workload,
            values=capture.facts.snapshot(),
            lost=capture.lost,
            progress=progress,
            folder=folder,
        )
