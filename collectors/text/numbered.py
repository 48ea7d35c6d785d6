"""tracefs text with option ``raw`` or ``hex``: events by their numbers.

Such a text has task, CPU, time and the number of the event's type, nothing else: no name and no
argument. Which event a number stands for (``common_type``) is another one at every boot for probes;
what was recorded beside the text knows it: :class:`Catalogue`. The lines are read by
:mod:`collectors.text.numbered_scan`.
"""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING, Final

from collectors.errors import HmtraceError
from collectors.facts.reading import read_bytes
from collectors.opened import opened
from collectors.probes import (
    FUNCTION_OF,
    KIND_MARK,
    KIND_STACK,
    TRACEPOINTS,
    base_name,
    label_of,
)
from collectors.records import dataclass, field
from collectors.symbols.table import Symbols
from collectors.text.forms import DECIMAL
from collectors.text.heads import HeadMeaning
from collectors.text.layout import PLAIN, Space
from collectors.text.tables import SharedNames
from collectors.traceevent.formats import EventFormat, parse_event
from collectors.traceevent.meaning import Interpreter as Events
from collectors.traceevent.meaning import probe_functions
from collectors.traceevent.symbols import function_around

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from collectors.input.source import Source
    from collectors.text.addresses import Addresses
    from collectors.traceevent.metadata import Metadata

_FORMATS: Final = 64 << 20
"""Bytes of a compressed trace or of a text that are searched for descriptions of events."""
_TRACER_TYPES: Final = {1: "function", 4: "kernel_stack", 5: "print", 6: "bprint"}
"""enum trace_type (kernel/trace/trace.h), as far as it never changed."""
_LAST_TRACER_TYPE: Final = 32
_SUFFIXES: Final = ("", ".gz", ".xz", ".zst")
_COMMAND: Final = re.compile(r"^(\d+) (.+)$", re.MULTILINE)


@dataclass
class Catalogue:
    """What the numbers in a text stand for.

    Attributes
    ----------
    events
        Descriptions by ``common_type``.
    comms
        Task names by pid.
    symbols
        Of the kernel.
    origin
        Name of the file that the descriptions are from; "" without.
    """

    events: dict[int, EventFormat] = field(default_factory=dict)
    comms: dict[int, str] = field(default_factory=dict)
    symbols: Symbols = field(default_factory=Symbols.empty)
    origin: str = ""

    @classmethod
    def beside(cls, source: Source) -> Catalogue:
        """Gather what lies beside a trace.

        Descriptions of events are looked for in a trace.dat, a perf.data, and texts whose names
        hold ``format`` (files ``events/*/*/format`` one behind the other); task names in
        ``saved_cmdlines`` and the trace.dat; symbols in ``kallsyms``. Damaged files are passed
        over.
        """
        found = cls(symbols=Symbols.from_kallsyms(source.read_meta("kallsyms") or b""))
        for path in _candidates(source.folder):
            meta = _metadata(path)
            if meta is None or not meta.events:
                continue
            found.events, found.origin = meta.events, path.name
            found.comms = dict(meta.comms)
            if not len(found.symbols):
                found.symbols = Symbols.from_kallsyms(meta.kallsyms)
            break
        saved = (source.read_meta("saved_cmdlines") or b"").decode("utf-8", "replace")
        found.comms |= {int(pid[:9]): comm for pid, comm in _COMMAND.findall(saved)}
        return found


def _candidates(folder: Path | None) -> Iterator[Path]:
    """Files that may describe events, best first."""
    if folder is None:
        return
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    for name in ("trace.dat", "perf.data"):
        yield from (files[name + suffix] for suffix in _SUFFIXES if name + suffix in files)
    yield from (path for name, path in files.items() if "format" in name)


def _metadata(path: Path) -> Metadata | None:
    """Descriptions of events in a file; None where there are none to be read."""
    from collectors.perf_data import container as perf
    from collectors.perf_data import sniff as is_perf
    from collectors.tracecmd_dat import container as dat
    from collectors.tracecmd_dat import sniff as is_dat

    try:
        with opened(path) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = memoryview(mapped)
        if not (is_dat(mapped[:16]) or is_perf(mapped[:16])):
            data = memoryview(read_bytes(path, _FORMATS)[0])
        if is_dat(bytes(data[:16])):
            return dat.open_container(data, name=path.name).meta
        if is_perf(bytes(data[:16])):
            return perf.open_container(data, name=path.name).features.meta
        return _described(bytes(data))
    except (OSError, ValueError, HmtraceError):
        return None


def _described(text: bytes) -> Metadata:
    """Read files ``format``, one behind the other; they do not name the events' groups."""
    from collectors.traceevent.metadata import Metadata

    found = Metadata(word=4)
    for piece in re.split(rb"^(?=name:)", text, flags=re.MULTILINE)[1:]:
        event = parse_event("", piece, found.word)
        if event is not None:
            group = "sched" if event.name == "sched_switch" else ""
            if event.name in TRACEPOINTS and "__probe_" not in event.text:
                group = "tlb" if event.name.startswith("tlb") else "vmalloc"
            elif event.id < _LAST_TRACER_TYPE:
                group = "ftrace"
            found.events[event.id] = EventFormat(group, event.name, event.id, event.text, 4)
    return found


class NumberedNames(SharedNames):
    """Meanings of type numbers and addresses, and names of tasks by their pids.

    Parameters
    ----------
    source
        The text.
    addresses
        As of :class:`collectors.text.tables.SharedNames`.
    base
        :data:`collectors.text.forms.DECIMAL` or HEXADECIMAL.
    """

    def __init__(self, source: Source, addresses: Addresses, base: int) -> None:
        super().__init__(addresses)
        self._base = base
        self._catalogue = Catalogue.beside(source)
        defined = (source.read_meta("kprobe_events") or b"").decode("utf-8", "replace")
        # The text has no probe's address: symbols would not tell them apart.
        self._events = Events(self._catalogue.events, Symbols.empty(), probe_functions(defined))
        self._unnamed: set[int] = set()

    def comm(self, name: str) -> int:
        """Number of the name of the task whose pid is given, as the kernel would show it."""
        pid = int(name, self._base)
        unknown = "<idle>" if pid == 0 else "<...>"
        return super().comm(self._catalogue.comms.get(pid, unknown))

    def meaning(self, space: int, text: bytes) -> HeadMeaning:
        """Meaning of ``type: NUMBER``, of a marker's head, of a traced function's address."""
        words = text.decode("ascii", "replace")
        if space == Space.FUNCTION:
            return self._function(int(words, 16))
        if words.startswith("type: "):
            return self._type(int(words[6:]))
        if words == "#":
            return HeadMeaning(PLAIN, "raw_data")
        is_mark, address = words.startswith("#"), int(words[2:], 16)
        symbol = function_around(self._catalogue.symbols, address)
        if is_mark and symbol in (None, "tracing_mark_write"):
            return HeadMeaning(KIND_MARK, symbol or "print")
        return HeadMeaning(PLAIN, symbol or "trace_printk")

    def _function(self, address: int) -> HeadMeaning:
        """Meaning of an event of the function tracer."""
        symbol = function_around(self._catalogue.symbols, address)
        if symbol is None:
            return HeadMeaning(PLAIN, "function")
        function = FUNCTION_OF.get(base_name(symbol))
        if function is None:
            return HeadMeaning(PLAIN, symbol)
        return HeadMeaning(2 * function, label_of(2 * function))

    def _type(self, number: int) -> HeadMeaning:
        """Meaning of a type's number; what tells nothing without its text is counted only."""
        if number in _TRACER_TYPES and number not in self._catalogue.events:
            return HeadMeaning(PLAIN, _TRACER_TYPES[number])
        if number not in self._catalogue.events:
            self._unnamed.add(number)
        label, plan = self._events.of(number, 0)
        if plan is None or plan.kind in (KIND_MARK, KIND_STACK):
            return HeadMeaning(PLAIN, label)
        return HeadMeaning(plan.kind, label)

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        option = "raw" if self._base == DECIMAL else "hex"
        notes = [
            f"the text (option {option}) has no arguments: counts, times and tasks are known, "
            f"pages and addresses are not. Read the trace again with `no{option}`"
        ]
        if self._catalogue.origin:
            notes.append(
                f"the text has numbers instead of the events' names: {self._catalogue.origin} "
                "beside it says which they are"
            )
        if self._unnamed:
            listed = ", ".join(str(n) for n in sorted(self._unnamed)[:8])
            more = f" and {len(self._unnamed) - 8} more" if len(self._unnamed) > 8 else ""
            notes.append(
                f"nothing beside the text tells which events have the numbers {listed}{more}: put "
                "the same boot's trace.dat there, or `cat events/*/*/format > event_formats`"
            )
        return [*notes, *self._told(), *super().notes]

    def _told(self) -> list[str]:
        """What the decoder of event descriptions has to say about probes."""
        return [note for note in self._events.notes if not note.startswith("events of types")]
