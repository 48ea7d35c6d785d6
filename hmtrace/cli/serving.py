"""What a process does that serves machines for another one: texts in, texts out.

A process of ``--jobs`` runs :func:`main`; a worker of a cluster calls :func:`answer`. A text names
the workload, which both sides see, and the machines; it is small, and the workload is opened once.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replay.machine.model import Machine
    from replay.whatif.run import Server
    from replay.whatif.sweep import Candidate, SweptMachine

_FORM: Final = "hmtrace/serving/1"
_MOST_SERVERS: Final = 2
"""Workloads that are open at once: a sweep goes through its captures one after the other."""


class Terms(NamedTuple):
    """What the machines of a sweep have in common, as it travels.

    Attributes
    ----------
    workload, digest
        Where the workload is, and its digest.
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
    machine: Any
    placement: str
    timing: str
    program: tuple[str, str]
    form: str = _FORM

    @classmethod
    def of(cls, workload: str, digest: str, machine: Machine, how: tuple[str, str]) -> Terms:
        """The terms of this program; `how` is placement and timing."""
        from replay.whatif.written import encode

        return cls(workload, digest, encode(machine), *how, _program())


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
    from replay.whatif.sweep import Candidate, swept
    from replay.whatif.written import machine_from

    server, terms = _server(told["terms"])
    began = time.monotonic()
    found = []
    for changes in told["machines"]:
        record = {"Machine": terms.machine["Machine"] | changes}
        candidate = Candidate({}, machine_from(record))
        outcome = server.on(candidate.machine, placement=terms.placement, timing=terms.timing)
        found.append(swept(candidate, outcome).told())
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


_here = threading.local()
"""Of each thread its own: a server is for one at a time."""


def _server(told: dict[str, Any]) -> tuple[Server, Terms]:
    """What serves the workload of these terms, opened when it is first asked for."""
    if told.get("form") != _FORM or told["program"] != list(_program()):
        asks, serves = (" of source ".join(each) for each in (told["program"], _program()))
        raise HmtraceError(
            f"it has hmtrace {serves}, and is asked by {asks}",
            hint="install the same hmtrace on all machines",
        )
    terms = Terms(**told)
    servers: dict[str, Server] = _here.__dict__.setdefault("servers", {})
    key = json.dumps([terms.digest, terms.workload, terms.machine])
    if key not in servers:
        while len(servers) >= _MOST_SERVERS:
            del servers[next(iter(servers))]
        servers[key] = _opened(terms)
    return servers[key], terms


def _opened(terms: Terms) -> Server:
    from hmtrace.cli.prepared import server_of
    from hmtrace.cli.workloads import digest_of_workload, open_workload
    from replay.whatif.written import machine_from

    hint = "every worker has to see the workload under the same name"
    try:
        digest = digest_of_workload(terms.workload)
    except OSError as error:
        why = error.strerror or error
        message = f"it cannot read the workload {terms.workload}: {why}"
        raise HmtraceError(message, hint=hint) from error
    if digest != terms.digest:
        raise HmtraceError(f"{terms.workload} is another workload for it", hint=hint)
    kept = open_workload(terms.workload)
    return server_of(kept.capture, kept.workload, machine_from(terms.machine))


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
