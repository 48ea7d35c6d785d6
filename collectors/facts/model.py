"""What a fact is: a value, and the file that said so."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, Mapping


@dataclass(frozen=True)
class Fact:
    """One thing that the machine said about itself.

    Attributes
    ----------
    value
        See the table in :mod:`collectors.facts`.
    source
        File that it came from, with the line where there is one (``zoneinfo, line 42``), or
        the rule that derived it.
    detail
        The words of the file, or what the derivation rests on.
    """

    value: Any
    source: str
    detail: str = ""


@dataclass(frozen=True)
class Facts:
    """Immutable mapping from a name to a :class:`Fact`.

    Attributes
    ----------
    facts
        The table of names is in :mod:`collectors.facts`.
    contradictions
        Where two files disagree, in words; the first named file was believed.
    notes
        Files that could not be used, and why.
    """

    facts: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))
    contradictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Fact:
        return self.facts[name]

    def __contains__(self, name: object) -> bool:
        return name in self.facts

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    def keys(self) -> KeysView[str]:
        """Names of the facts that are known."""
        return self.facts.keys()

    def items(self) -> ItemsView[str, Fact]:
        """Pairs of name and fact."""
        return self.facts.items()

    def get(self, name: str, default: Any = None) -> Any:
        """Value (not the fact) of `name`, or `default` where it is unknown."""
        fact = self.facts.get(name)
        return default if fact is None else fact.value

    def values(self) -> dict[str, Any]:
        """Values alone, for :func:`replay.machine.from_facts.machine_from`."""
        return {name: fact.value for name, fact in self.facts.items()}

    def with_facts(self, more: Mapping[str, Fact]) -> Facts:
        """Add facts from elsewhere, such as the trace's header.

        A fact that is known already stays; where the two differ, that is a contradiction.

        Parameters
        ----------
        more
            Facts by name.

        Returns
        -------
        Facts
        """
        facts = dict(self.facts)
        contradictions = list(self.contradictions)
        for name, fact in more.items():
            have = facts.setdefault(name, fact)
            if have.value != fact.value:
                contradictions.append(disagreement(name, have, fact))
        return Facts(MappingProxyType(facts), tuple(contradictions), self.notes)


class Area(NamedTuple):
    """One line of /proc/vmallocinfo (mm/vmalloc.c: s_show, show_purge_info).

    `kind` is ``vmalloc``, ``ioremap``, ``vmap``, ``user``, ``dma-coherent``, ``vm_map_ram``,
    ``unpurged`` (freed, not yet flushed) or ``other``; `end` includes the guard page;
    `phys` is None where the line names no physical address.
    """

    start: int
    end: int
    kind: str
    caller: str
    pages: int | None
    phys: int | None


class Zone(NamedTuple):
    """One zone of /proc/zoneinfo (mm/vmstat.c: zoneinfo_show_print), in page frames.

    `marks` are the watermarks min, low and high; `protection` what is kept from requests that
    could have had each zone, in the kernel's order of zones; both empty where the file is cut off.
    """

    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    node: int = 0
    free: int = 0
    marks: tuple[int, ...] = ()
    protection: tuple[int, ...] = ()


class Probe(NamedTuple):
    """One line of kprobe_events (kernel/trace/trace_kprobe.c: trace_kprobe_show)."""

    is_return: bool
    group: str
    event: str
    symbol: str
    arguments: tuple[str, ...]
    maxactive: int | None


class Sheet:
    """What one file says: the parsers write on it.

    Parameters
    ----------
    source
        Name of the file.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.facts: dict[str, Fact] = {}
        self.notes: list[str] = []

    def add(self, name: str, value: Any, *, line: int | None = None, detail: str = "") -> None:
        """Write a fact down; the first of a name stays."""
        where = self.source if line is None else f"{self.source}, line {line}"
        self.facts.setdefault(name, Fact(value, where, detail.strip()[:200]))

    def note(self, text: str) -> None:
        """Remark about the file."""
        self.notes.append(f"{self.source}: {text}")


def disagreement(name: str, believed: Fact, other: Fact) -> str:
    """Words for two sources that differ, the believed one first."""

    def shown(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0xFFFF:
            return f"{value:#x}"
        return str(value) if len(str(value)) <= 60 else f"{str(value)[:57]}…"

    return (
        f"{name}: {believed.source} says {shown(believed.value)}, "
        f"{other.source} says {shown(other.value)}; the first is believed"
    )
