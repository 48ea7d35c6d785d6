"""Rooms, floors, arrows and circles of the house, told from the source alone.

``python -m tests.rooms`` prints them for this checkout, ``python -m tests.rooms FOLDER`` for
another one (``git worktree add`` gives an older state); ``--draw`` draws the floors, ``--why``
names the imports behind every circle. tests/test_architecture.py forbids what is printed as a
circle.

- A *room* is a folder or a single module at the top level of a package; the package's own
  ``__init__`` is one (its door) where it imports or is imported.
- An *arrow* leads from a room to one that it imports, wherever in a file the import stands: what
  is imported for types only, or late, has to be known to the reader, too.
- A *circle* is a set of rooms each of which imports every other one, over others or itself.
- Arrows *back* are the fewest that have to go so that no circle is left; the *floors* are the
  longest way from the ground up when they are gone.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cycles import without_search

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

ROOT = Path(__file__).parents[1]
PACKAGES = ("collectors", "replay", "hmtrace")
MOST = 16
"""Rooms of one circle up to which the fewest arrows back are sought: there are 2 ** n sets."""

Arrow = tuple[str, str]


def name_of(path: Path, root: Path = ROOT) -> str:
    """Full name of a module; a package's is that of its folder."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def parsed(path: Path) -> ast.Module:
    """A file, parsed once."""
    with without_search():
        return ast.parse(path.read_text())


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements of a file, without the expressions in them, which are nearly all its nodes."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        for inside in ("body", "orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, inside, ())


def imported(tree: ast.AST, modules: Set[str]) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in the file.

    Parameters
    ----------
    tree
        The parsed file.
    modules
        Full names that are modules: ``from a import b`` imports ``a.b`` if that is one, else a
        thing that ``a`` defines.
    """
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"relative import of {node.module!r}")
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)


def room_of(module: str) -> str:
    """Room that a module lies in: the first two parts of its name."""
    return ".".join(module.split(".")[:2])


@dataclass(frozen=True)
class House:
    """One package, seen as a graph.

    Attributes
    ----------
    package
        Its name.
    lines
        Lines of each module.
    imports
        Modules of the package that each module imports.
    """

    package: str
    lines: Mapping[str, int]
    imports: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, package: str, root: Path = ROOT) -> House:
        """Read the source of a package below `root`."""
        files = {name_of(path, root): path for path in sorted((root / package).rglob("*.py"))}
        names = files.keys()
        return cls(
            package,
            {name: path.read_text().count("\n") for name, path in files.items()},
            {
                name: frozenset(imported(parsed(path), names)) & names
                for name, path in files.items()
            },
        )

    def arrows(self) -> dict[Arrow, list[Arrow]]:
        """Arrows between rooms, each with the imports (module, module) that make it."""
        found: dict[Arrow, list[Arrow]] = defaultdict(list)
        for module, others in sorted(self.imports.items()):
            for other in sorted(others):
                if room_of(module) != room_of(other):
                    found[room_of(module), room_of(other)].append((module, other))
        return dict(found)

    def weights(self) -> dict[Arrow, int]:
        """Arrows between rooms, and how many imports make each."""
        return {arrow: len(imports) for arrow, imports in self.arrows().items()}

    def file_arrows(self) -> set[Arrow]:
        """Arrows between single modules."""
        return {(a, b) for a, others in self.imports.items() for b in others if a != b}

    def rooms(self) -> list[str]:
        """Rooms by name; the door only if an arrow begins or ends there."""
        ends = {end for arrow in self.arrows() for end in arrow}
        every = {room_of(module) for module in self.lines}
        return sorted(r for r in every if r != self.package or r in ends)


def circles(arrows: Set[Arrow]) -> list[list[str]]:
    """Sets of two and more nodes that lead to each other, each sorted (Tarjan, 1972).

    Examples
    --------
    >>> circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")})
    [['a', 'b', 'c']]
    """
    after: dict[str, list[str]] = defaultdict(list)
    for tail, head in sorted(arrows):
        after[tail].append(head)
    seen: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        seen[node] = lowest[node] = len(seen)
        path.append(node)
        for other in after.get(node, ()):
            if other not in seen:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], seen[other])
        if lowest[node] == seen[node]:
            at = path.index(node)
            circle, path[at:] = sorted(path[at:]), []
            if len(circle) > 1:
                found.append(circle)

    for node in sorted(after):
        if node not in seen:
            visit(node)
    return sorted(found)


def back_arrows(arrows: Mapping[Arrow, int]) -> set[Arrow]:
    """Fewest arrows without which there is no circle; of as many, those made by fewest imports.

    Parameters
    ----------
    arrows
        The arrows, and how many imports make each.

    Raises
    ------
    ValueError
        If a circle has more than :data:`MOST` rooms.

    Examples
    --------
    >>> back_arrows({("a", "b"): 1, ("b", "a"): 2, ("a", "c"): 1, ("c", "b"): 1})
    {('b', 'a')}
    """
    found: set[Arrow] = set()
    for circle in circles(arrows.keys()):
        if len(circle) > MOST:
            raise ValueError(f"a circle of {len(circle)} rooms")
        inside = {a: n for a, n in arrows.items() if a[0] in circle and a[1] in circle}
        height = {room: i for i, room in enumerate(_stacked(circle, inside))}
        found |= {(tail, head) for tail, head in inside if height[tail] < height[head]}
    return found


def _stacked(circle: list[str], arrows: Mapping[Arrow, int]) -> list[str]:
    """The rooms of a circle from the ground up, in the order in which fewest arrows lead up.

    The best stack of every set of rooms is the best of the set without its top one, and that one.
    """
    number = {room: i for i, room in enumerate(circle)}
    importers: list[list[tuple[int, int]]] = [[] for _ in circle]
    for (tail, head), imports in arrows.items():
        importers[number[head]].append((1 << number[tail], 10_000 + imports))
    sets = 1 << len(circle)
    best: list[tuple[int, int]] = [(0, 0)] + [(sets * 10_000, 0)] * (sets - 1)
    for below in range(sets):
        for room, tails in enumerate(importers):
            if not below >> room & 1:
                up = best[below][0] + sum(cost for bit, cost in tails if below & bit)
                best[below | 1 << room] = min(best[below | 1 << room], (up, room))
    stack, left = [], sets - 1
    while left:
        top = best[left][1]
        stack.append(circle[top])
        left ^= 1 << top
    return stack[::-1]


def floors(arrows: Set[Arrow], nodes: Set[str]) -> dict[str, int]:
    """Floor of every node where there is no circle: 0 for who imports nobody.

    Examples
    --------
    >>> floors({("a", "b"), ("b", "c"), ("a", "c")}, {"a", "b", "c"}) == {"a": 2, "b": 1, "c": 0}
    True
    """
    after: dict[str, set[str]] = defaultdict(set)
    for tail, head in arrows:
        after[tail].add(head)
    height: dict[str, int] = {}

    def climb(node: str) -> int:
        if node not in height:
            height[node] = 1 + max((climb(other) for other in after.get(node, ())), default=-1)
        return height[node]

    return {node: climb(node) for node in sorted(nodes)}


def table(houses: list[House]) -> str:
    """The figures of every package, one a line."""
    head = ("package", "lines", "files", "rooms", "floors", "arrows", "back", "circles", "of files")
    rows = [head]
    for house in houses:
        arrows = house.arrows().keys()
        back = back_arrows(house.weights())
        height = floors(arrows - back, set(house.rooms()))
        rows.append(
            (
                house.package,
                str(sum(house.lines.values())),
                str(len(house.lines)),
                str(len(height)),
                str(1 + max(height.values(), default=-1)),
                str(len(arrows)),
                str(len(back)),
                _sizes(circles(arrows)),
                _sizes(circles(house.file_arrows())),
            )
        )
    return "\n".join(
        "  ".join(f"{word:<10}" if i == 0 else f"{word:>8}" for i, word in enumerate(row)).rstrip()
        for row in rows
    )


def _sizes(found: list[list[str]]) -> str:
    """Sizes of circles, as ``2+8``."""
    return "+".join(str(len(circle)) for circle in found) or "none"


def drawing(house: House) -> str:
    """The rooms of a package, the highest floor first, each with those that it imports."""
    arrows = house.arrows().keys()
    height = floors(arrows - back_arrows(house.weights()), set(house.rooms()))
    lines = [house.package]
    for floor in range(max(height.values(), default=-1), -1, -1):
        for room in (r for r, at in height.items() if at == floor):
            down = [h.rpartition(".")[2] for t, h in sorted(arrows) if t == room]
            lines.append(f"  {floor:>2}  {room.rpartition('.')[2]:<14}{' '.join(down)}".rstrip())
    return "\n".join(lines)


def reasons(house: House, only: Set[Arrow] | None = None) -> list[str]:
    """The imports behind arrows, as ``room -> room: module imports module``.

    Parameters
    ----------
    house
        The package.
    only
        The arrows that are asked for; None: those that lead back.
    """
    arrows = house.arrows()
    chosen = back_arrows(house.weights()) if only is None else only
    return [
        f"{tail} -> {head}: {module} imports {other}"
        for tail, head in sorted(chosen)
        for module, other in arrows.get((tail, head), [])
    ]


def main() -> None:
    """Print the figures, and what was asked for besides."""
    parser = argparse.ArgumentParser(prog="python -m tests.rooms", description=table.__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--draw", action="store_true", help="draw the floors")
    parser.add_argument("--why", action="store_true", help="name the imports behind the circles")
    asked = parser.parse_args()
    houses = [House.read(package, asked.root) for package in PACKAGES]
    print(table(houses))  # noqa: T201
    for house in houses:
        if asked.draw:
            print(f"\n{drawing(house)}")  # noqa: T201
        if asked.why and (why := reasons(house)):
            print("\n" + "\n".join(why))  # noqa: T201


if __name__ == "__main__":
    main()
