"""Workload files: a distilled trace as one file that travels, written and read.

The container is :mod:`collectors.container`; what its tables have to be is told by
:mod:`replay.whatif.checked`. A file may come from anybody: what it says is checked before anything
is computed from it, and no more is believed than of a trace.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.errors import HmtraceError
from hmtrace import __version__
from hmtrace.cli.workloads import capture_of, machine_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collectors.capture import Capture
    from collectors.container import ContainerFile
    from collectors.input.source import Source
    from hmtrace.cli.prepared import Prepared
    from replay.machine.model import Machine
    from replay.whatif.workload import Workload

_AGAIN: Final = "convert the trace again"
_OTHER_VERSION: Final = (
    "written by another version of hmtrace, or changed since: convert the trace again with this one"
)
_FAULTS: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
    RecursionError,
)  # fmt: skip
"""What computing with values that contradict each other ends in."""


def pack(ready: Prepared, write: Callable[[bytes], object]) -> None:
    """Write a workload as a file.

    Parameters
    ----------
    ready
        The capture with its workload, which has its turns where the trace tells them: whoever has
        the file has no trace to sift them from.
    write
        Takes the bytes, in their order.
    """
    from collectors.container import ContainerWriter
    from collectors.parquet.metadata import encode
    from replay.whatif.calls import COLUMNS
    from replay.whatif.written import record_of

    workload, capture = ready.workload, ready.capture
    packer = ContainerWriter(write)
    columns = {f"{workload.pool}-{name}": name for name in COLUMNS}
    calls = workload.calls()
    for name in sorted(workload.names()):
        if name in columns:
            packer.numbers(name, calls[columns[name]].view())
        else:
            packer.table(name, workload.table(name))
    name = Path(capture.origin.trace).name
    record = record_of(workload)
    del record["files"]
    packer.finish(
        {
            "made_by": __version__,
            "sha256": ready.source().sha256,
            "capture": encode(_without_path(capture, name), 0),
            "format": capture.origin.format,
            "bytes": capture.origin.bytes,
            "trace": name,
            "machine": machine_words(ready.machine),
            "workload": record,
        }
    )


def _without_path(capture: Capture, name: str) -> Capture:
    """The capture as if its trace had lain here: where it lay is nobody's business."""
    trace = capture.origin.trace
    facts = {
        key: replace(fact, source=fact.source.replace(trace, name))
        for key, fact in capture.facts.items()
    }
    return replace(
        capture,
        origin=replace(capture.origin, path=name, trace=name),
        facts=replace(capture.facts, facts=MappingProxyType(facts)),
    )


class WorkloadFile(NamedTuple):
    """What a workload file says, before its tables are read.

    Attributes
    ----------
    packed
        The tables.
    capture
        The capture, without its events; its origin is the file, of the trace's form and size.
    sha256
        Of the trace; None where it was a stream.
    trace
        Name of the trace's file.
    machine
        The machine that it was distilled on, as :func:`hmtrace.cli.workloads.machine_words` has it.
    made_by
        Version of hmtrace.
    record
        As of :func:`replay.whatif.written.record_of`, without its tables.
    """

    packed: ContainerFile
    capture: Capture
    sha256: str | None
    trace: str
    machine: str
    made_by: str
    record: dict[str, Any]

    @classmethod
    def of(cls, source: Source) -> WorkloadFile:
        """Read the document of a file.

        Raises
        ------
        HmtraceError
            The file is damaged or of another form.
        """
        from collectors.capture import Origin
        from collectors.container import ContainerFile
        from collectors.fitting import fits

        packed = ContainerFile(source.data, source.trace)
        told = packed.document
        wanted: dict[str, Any] = {
            "made_by": str, "sha256": str | None, "capture": str, "bytes": int, "trace": str,
            "format": str, "machine": str, "workload": dict,
        }  # fmt: skip
        for name, kind in wanted.items():
            if name not in told or not (
                isinstance(told[name], dict) if kind is dict else fits(told[name], kind)
            ):
                raise _damaged(source, f"its document lacks {name!r}")
        origin = Origin(source.path, source.trace, told["format"], told["bytes"])
        capture = capture_of(told["capture"], origin)
        return cls(
            packed,
            capture,
            told["sha256"],
            told["trace"],
            told["machine"],
            told["made_by"],
            told["workload"],
        )

    def require(self, machine: Machine) -> None:
        """Refuse a workload that was distilled on another machine than its facts tell.

        Raises
        ------
        HmtraceError
            With exit code 3.
        """
        if not _is_alike(self.machine, machine_words(machine)):
            raise HmtraceError(
                f"the workload was distilled by hmtrace {self.made_by} for a machine that is "
                "another one by what is known now",
                source=self.capture.origin.trace,
                hint=_OTHER_VERSION,
            )

    def unpack(self, folder: Path | None) -> Workload:
        """Read the tables, and check them.

        Parameters
        ----------
        folder
            Where to keep them; None: in memory while they are few, else in a temporary folder.

        Raises
        ------
        HmtraceError
            They are damaged, or contradict each other.
        """
        from replay.trace.parts import Parts
        from replay.whatif.calls import COLUMNS
        from replay.whatif.checked import check
        from replay.whatif.turns import is_of_turns, knows_holders, turn_parts
        from replay.whatif.written import workload_from

        parts, packed = Parts(folder), self.packed
        name = self.capture.origin.trace
        with telling(name):
            workload = workload_from(self.record, parts)
            turns = parts
            if knows_holders(workload.found):
                turns = turn_parts(folder)
                workload = replace(workload, turns=turns)
            columns = {f"{workload.pool}-{column}": kind for column, kind in COLUMNS.items()}
            for table in packed.rows:
                if packed.is_column(table) != (table in columns):
                    msg = f"the table {table} is none of a workload"
                    raise ValueError(msg)
                if table not in columns:
                    (turns if is_of_turns(table) else parts).put(table, packed.table(table))
                    continue
                if packed.kind_of(table) != columns[table]:
                    msg = f"{table} is of another type"
                    raise TypeError(msg)
                column = parts.column(table, _dtype(columns[table]))
                for values in packed.numbers(table):
                    column.append(values)
            parts.finish()
            check(workload)
        return workload


def _is_alike(one: str, other: str) -> bool:
    """Whether machines are the same in all that both versions of hmtrace know, but for costs."""
    import json

    try:
        told = [json.loads(text)["Machine"] for text in (one, other)]
        known = (told[0].keys() & told[1].keys()) - {"costs"}
        return "arch" in known and all(told[0][name] == told[1][name] for name in known)
    except _FAULTS:
        return False


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Say of a file that it contradicts itself where computing with what it says fails."""
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    except (*_FAULTS, PolarsError, PanicException) as error:
        words = str(error)[:200] or type(error).__name__
        msg = f"damaged workload: it contradicts itself ({words})"
        raise HmtraceError(msg, source=name, hint=_AGAIN) from error


def _damaged(source: Source, words: str) -> HmtraceError:
    return HmtraceError(f"damaged workload: {words}", source=source.trace, hint=_AGAIN)


def _dtype(kind: str) -> Any:
    import numpy as np

    return np.dtype(kind)
