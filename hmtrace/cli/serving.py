"""What a process does that serves machines for another one: texts in, texts out.

A process of ``--jobs`` runs :func:`main`; a worker of a cluster calls :func:`answer`. A text names
the workload, which both sides see, and the machines; it is small, and the workload is opened once.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import ExitStack, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replay.machine.model import Machine
    from replay.whatif.run import Server
    from replay.whatif.sweep import Candidate, SweptMachine

_FORM: Final = "hmtrace/serving/1"
_HINT: Final = "every worker has to see the workload under the same name"
_MOST_WORKLOADS: Final = 2
"""Workloads that are open at once: a sweep goes through its captures one after the other."""


class Terms(NamedTuple):
    """What the machines of a sweep have in common, as it travels.

    Attributes
    ----------
    workload, digest
        Where the workload is, and its digest.
    is_file
        It is a workload file, which each unpacks for itself; else a folder of the cache.
    machine
        The captured machine, with the costs that are asked for, as JSON has it.
    placement, timing
        As for :meth:`replay.whatif.run.Server.on`.
    program
        Who asks: version, and digest of the source of the model.
    form
        Of the texts.
    """

    workload: str
    digest: str
    is_file: bool
    machine: Any
    placement: str
    timing: str
    program: tuple[str, str]
    form: str = _FORM

    @classmethod
    def of(
        cls,
        workload: str,
        digest: str,
        machine: Machine,
        how: tuple[str, str],
        *,
        is_file: bool = False,
    ) -> Terms:
        """The terms of this program; `how` is placement and timing."""
        from replay.whatif.written import encode

        return cls(workload, digest, is_file, encode(machine), *how, _program())


def question(terms: Terms, candidates: Sequence[Candidate]) -> str:
    """The text that asks for these machines: what they have that the captured one has not."""
    from replay.whatif.written import encode

    captured = terms.machine["Machine"]
    machines = [
        {
            name: value
            for name, value in encode(one.machine)["Machine"].items()
            if captured[name] != value
        }
        for one in candidates
    ]
    return json.dumps({"terms": terms._asdict(), "machines": machines})


def answer(text: str) -> str:
    """What came of a question.

    Parameters
    ----------
    text
        As :func:`question` wrote it.

    Returns
    -------
    str
        JSON: ``machines`` as of :meth:`replay.whatif.sweep.SweptMachine.told` and the ``seconds``
        that they took; or ``refused`` with a ``hint`` where this process cannot serve them.
    """
    from polars.exceptions import PolarsError

    try:
        return json.dumps(_answer(json.loads(text)))
    except HmtraceError as error:
        return json.dumps({"refused": str(error), "hint": error.hint})
    except (OSError, PolarsError) as error:
        told = f"it cannot read the workload any more: {error}"
        return json.dumps({"refused": told, "hint": "ask again: it is made anew"})


def _answer(told: dict[str, Any]) -> dict[str, Any]:
    from hmtrace.cli.packing import telling
    from replay.whatif.sweep import Candidate, swept
    from replay.whatif.written import machine_from

    opened, terms = _opened(told["terms"])
    began = time.monotonic()
    found = []
    with telling(terms.workload) if terms.is_file else nullcontext():
        for changes in told["machines"]:
            machine = machine_from({"Machine": terms.machine["Machine"] | changes})
            outcome = opened.server.on(machine, placement=terms.placement, timing=terms.timing)
            found.append(swept(Candidate({}, machine), outcome).told())
    return {"machines": found, "seconds": time.monotonic() - began}


def served_from(told: Mapping[str, Any], candidates: Sequence[Candidate]) -> list[SweptMachine]:
    """The machines that an answer tells of, of those that the question was about.

    Raises
    ------
    ValueError, KeyError, TypeError
        It is no answer to that.
    """
    from replay.whatif.sweep import SweptMachine

    pairs = zip(candidates, told["machines"], strict=True)
    found = [SweptMachine.of(candidate, one) for candidate, one in pairs]
    machines = [machine for machine in found if machine is not None]
    if len(machines) < len(candidates):
        msg = "other figures"
        raise ValueError(msg)
    return machines


class _Opened(NamedTuple):
    """A workload that is served, and what ends when it is not any more."""

    server: Server
    stack: ExitStack


_here = threading.local()
"""Of each thread its own: a server is for one at a time."""


def _opened(told: dict[str, Any]) -> tuple[_Opened, Terms]:
    """The workload of these terms, opened when it is first asked for."""
    if told.get("form") != _FORM or told["program"] != list(_program()):
        asks, serves = (" of source ".join(each) for each in (told["program"], _program()))
        raise HmtraceError(
            f"it has hmtrace {serves}, and is asked by {asks}",
            hint="install the same hmtrace on all machines",
        )
    terms = Terms(**told)
    known: dict[str, _Opened] = _here.__dict__.setdefault("known", {})
    key = json.dumps([terms.digest, terms.workload, terms.machine])
    if key not in known:
        while len(known) >= _MOST_WORKLOADS:
            known.pop(next(iter(known))).stack.close()
        known[key] = _open_file(terms) if terms.is_file else _open_folder(terms)
    return known[key], terms


def _open_file(terms: Terms) -> _Opened:
    from hmtrace.cli.captures import digest
    from hmtrace.cli.prepared import prepared, server_of
    from replay.whatif.written import machine_from

    with ExitStack() as stack:
        try:
            ready = stack.enter_context(prepared(terms.workload, None, lambda _: True))
        except HmtraceError as error:
            error.hint = error.hint or _HINT
            raise
        if digest(ready.capture.origin) != terms.digest:
            raise _another(terms)
        server = server_of(ready.capture, ready.workload, machine_from(terms.machine))
        return _Opened(server, stack.pop_all())


def _open_folder(terms: Terms) -> _Opened:
    from hmtrace.cli.prepared import server_of
    from hmtrace.cli.workloads import digest_of_workload, open_workload
    from replay.whatif.written import machine_from

    try:
        digest = digest_of_workload(terms.workload)
    except OSError as error:
        why = error.strerror or error
        message = f"it cannot read the workload {terms.workload}: {why}"
        raise HmtraceError(message, hint=_HINT) from error
    if digest != terms.digest:
        raise _another(terms)
    kept = open_workload(terms.workload)
    server = server_of(kept.capture, kept.workload, machine_from(terms.machine))
    return _Opened(server, ExitStack())


def _another(terms: Terms) -> HmtraceError:
    return HmtraceError(f"it sees another workload at {terms.workload}", hint=_HINT)


@cache
def _program() -> tuple[str, str]:
    from hmtrace import __version__
    from hmtrace.cli.workloads import source_digest

    return __version__, source_digest()[:12]


def main() -> None:
    """Answer a question a line, until there is none; the first line out says that all is ready."""
    from hmtrace.memory import keep_freed_memory
    from replay.whatif import run  # noqa: F401  (what takes a second to import)

    keep_freed_memory()
    lines = sys.stdout
    sys.stdout = sys.stderr  # nobody else's words get between the answers
    lines.write("ready\n")
    lines.flush()
    for text in sys.stdin:
        lines.write(answer(text) + "\n")
        lines.flush()


if __name__ == "__main__":
    main()
