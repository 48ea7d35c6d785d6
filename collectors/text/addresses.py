"""Which function an address is in: from kallsyms, or a probe's kprobe_events or name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.probes import function_of, guess
from collectors.symbols.table import Symbols

if TYPE_CHECKING:
    from collectors.input.source import Source


class Addresses:
    """Resolves the raw addresses that trace-cmd prints.

    Parameters
    ----------
    source
        The capture: its ``kallsyms`` and ``kprobe_events`` are read when the first address is
        met, not before.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kallsyms: bytes | None = None
        self._probes: dict[str, set[int | None]] | None = None
        self._known: dict[tuple[str, int], int | None] = {}
        self._table: Symbols | None = None
        self._moved = False
        self._guessed: set[str] = set()

    @property
    def notes(self) -> list[str]:
        """What the user should know about how addresses were resolved."""
        notes = []
        if self._moved:
            notes.append(
                "kallsyms does not fit the probes' addresses (another boot or kernel?): the "
                "probed functions were taken from kprobe_events"
            )
        if self._guessed:
            notes.append(
                "the trace shows probe addresses only, and there is no usable kallsyms or "
                "kprobe_events beside it: the probed functions were guessed from the event "
                f"names {', '.join(sorted(self._guessed))}"
            )
        return notes

    def function_at(self, event: str, address: int) -> int | None:
        """Index in :data:`collectors.probes.FUNCTIONS` of the function probed at an address.

        Parameters
        ----------
        event
            Name of the event, for kprobe_events and as the last resort.
        address
            Address of the probe (entry) or of the probed function (return).

        Returns
        -------
        int or None
            None for functions that hmtrace does not know and for probes inside a function.
        """
        key = event, address
        if key not in self._known:
            self._known[key] = self._resolve(event, address)
        return self._known[key]

    @property
    def symbols(self) -> Symbols:
        """The kernel's symbols; empty without a usable ``kallsyms``."""
        if self._table is None:
            self._table = Symbols.from_kallsyms(self._load()[1:])
        return self._table

    def _resolve(self, event: str, address: int) -> int | None:
        defined = self._defined(event)
        symbols = self._symbols_at(address)
        for symbol in symbols:
            function = function_of(symbol)
            if function is not None:
                return function
        if defined is not None and len(defined) == 1:
            function = next(iter(defined))
            if function is not None and self._has_kallsyms():
                self._moved = True
            return function
        if symbols or self._has_kallsyms():
            # A known table of symbols without it: a probe inside a function, or another one.
            return None
        function = guess(event)
        if function is not None:
            self._guessed.add(event)
        return function

    def _symbols_at(self, address: int) -> list[str]:
        """Symbols that begin exactly at an address."""
        text = self._load()
        found: list[str] = []
        for width in (8, 16):
            needle = b"\n%0*x " % (width, address)
            at = text.find(needle)
            while at >= 0 and len(found) < 64:
                line = text[at + 1 : text.find(b"\n", at + 1)]
                fields = line.split()
                if len(fields) >= 3:
                    found.append(fields[2].decode("ascii", "replace"))
                at = text.find(needle, at + 1)
        return found

    def _has_kallsyms(self) -> bool:
        return len(self._load()) > 1

    def _load(self) -> bytes:
        if self._kallsyms is None:
            data = self._source.read_meta("kallsyms") or b""
            # kptr_restrict: all addresses are 0
            hidden = data[:2000].count(b"\n") == (b"\n" + data[:2000]).count(b"\n00000000 ")
            self._kallsyms = b"\n" if hidden else b"\n" + data + b"\n"
        return self._kallsyms

    def _defined(self, event: str) -> set[int | None] | None:
        """Functions that kprobe_events gives to events of a name."""
        if self._probes is None:
            self._probes = {}
            for probe in self._source.facts.snapshot().probes:
                try:
                    function = function_of(probe.symbol.rpartition(":")[2])
                except ValueError:
                    function = None
                self._probes.setdefault(probe.event, set()).add(function)
        return self._probes.get(event)
