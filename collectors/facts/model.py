"""What a fact is: a value, and the file that said so."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from collectors.facts.ranges import beyond
from collectors.records import dataclass, field
from collectors.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, Mapping

    from collectors.snapshot import FactName

_NAMES: Final = frozenset(field.name for field in fields(Snapshot))
_MOST_NOTES: Final = 20
"""Remarks about one file."""


@dataclass(frozen=True)
class Fact:
    """One thing that the machine said about itself.

    Attributes
    ----------
    value
        As the field of :class:`collectors.snapshot.Snapshot`.
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
        By the names of :class:`collectors.snapshot.Snapshot`.
    contradictions
        Where two files disagree, in words; the first named file was believed.
    notes
        Files that could not be used, and why.
    """

    facts: Mapping[FactName, Fact] = field(default_factory=lambda: MappingProxyType({}))
    contradictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: FactName) -> Fact:
        return self.facts[name]

    def __contains__(self, name: object) -> bool:
        return name in self.facts

    def __iter__(self) -> Iterator[FactName]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    def keys(self) -> KeysView[FactName]:
        """Names of the facts that are known."""
        return self.facts.keys()

    def items(self) -> ItemsView[FactName, Fact]:
        """Pairs of name and fact."""
        return self.facts.items()

    def get(self, name: FactName, default: Any = None) -> Any:
        """Value (not the fact) of `name`, or `default` where it is unknown."""
        fact = self.facts.get(name)
        return default if fact is None else fact.value

    def snapshot(self) -> Snapshot:
        """Values alone, as the model takes them; what only a later version knows is left out."""
        return self._snapshot

    @cached_property
    def _snapshot(self) -> Snapshot:
        known = {name: fact.value for name, fact in self.facts.items() if name in _NAMES}
        return Snapshot(**known)

    def sources(self) -> dict[FactName, str]:
        """Where each fact was said, by its name."""
        return {name: fact.source for name, fact in self.facts.items()}

    def with_facts(self, more: Mapping[FactName, Fact]) -> Facts:
        """Add facts from elsewhere, such as the trace's header.

        A fact that is known already stays; where the two differ, that is a contradiction. One that
        cannot be is left out with a note.

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
        notes = list(self.notes)
        for name, fact in more.items():
            if wrong := beyond(name, fact.value):
                notes.append(f"{fact.source}: {name} is not understood and ignored: {wrong}")
                continue
            have = facts.setdefault(name, fact)
            if have.value != fact.value:
                contradictions.append(disagreement(name, have, fact))
        return Facts(MappingProxyType(facts), tuple(contradictions), tuple(notes))


class Sheet:
    """What one file says: the parsers write on it.

    Parameters
    ----------
    source
        Name of the file.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.facts: dict[FactName, Fact] = {}
        self.notes: list[str] = []

    def add(self, name: FactName, value: Any, *, line: int | None = None, detail: str = "") -> None:
        """Write a fact down; the first of a name stays, and none that cannot be."""
        where = self.source if line is None else f"{self.source}, line {line}"
        if wrong := beyond(name, value):
            at = "" if line is None else f"line {line}: "
            self.note(f"{at}{name} is not understood and ignored: {wrong}")
            return
        self.facts.setdefault(name, Fact(value, where, detail.strip()[:200]))

    def note(self, text: str) -> None:
        """Remark about the file; of very many the last are left out."""
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(f"{self.source}: {text}")
        elif len(self.notes) == _MOST_NOTES:
            self.notes.append(f"{self.source}: more of it is not understood")


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
