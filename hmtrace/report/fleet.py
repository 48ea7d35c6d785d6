"""A fleet on one page: what is best for most, who loses by it, by kind of machine.

What is shown is counted up as the captures come in, one small record each
(:func:`advice_record`, :func:`sweep_record`), so memory grows with the kinds of machines and the
builds, not with the captures.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from collectors.records import dataclass, field
from hmtrace.report.common_choice import BEST, short_name, why
from hmtrace.report.parts import Cut, elide, heading, indented, labelled, plain_table
from hmtrace.report.sweep import NONE, TITLES, figure_in_words
from hmtrace.report.text import clean, count, last_part, plural
from replay.whatif.common import DOUBTED, GAINS, LOSES, SAME, is_tiny, standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from hmtrace.report.advising import Advised
    from hmtrace.report.sweep import Sweep
    from replay.outcome import Outcome
    from replay.whatif.reasons import Build

_MOST_KINDS: Final = 24
"""Kinds of machines that are shown, those with most captures."""
_MOST_REASONS: Final = 6
_NAMED: Final = 3
"""Captures that are named for each reason."""
_NUMBERS: Final = re.compile(r"[0-9]+(?:[.,  ][0-9]+)*(?: ?(?:[KMGT]i)?B)?")
_GIB: Final = 1 << 30
_ROWS: Final = 8
"""Builds, and captures that could not be read, that are listed."""


def kind_of(outcome: Outcome, release: str | None) -> str:
    """The kind of a machine: what has to be the same for one kernel to be built for all."""
    machine = outcome.machine
    ram = sum(end - start for start, end in machine.ram)
    nominal = -(-ram * 8 // _GIB) / 8  # what firmware keeps is no other board
    memory = f"{nominal:g} GiB" if nominal >= 1 else f"{nominal * 1024:g} MiB"
    wide = " PAE" if machine.pae else ""
    return clean(f"{machine.arch}{wide} {memory}, {release or machine.generation}", 60)


def advice_record(one: Advised) -> dict[str, Any]:
    """What the page of a fleet needs of the advice for a capture."""
    advice = one.advice
    own = [option.build for option in advice.options if not option.build.proposed]
    # with HIGHMEM a kernel that leaves no highmem is what one without it is
    builds = {build.key: build for build in own}
    builds |= {
        build.key: build
        for build in (one._replace(highmem=True) for one in own)
        if build.key not in builds
    }
    found = [(build, advice.option(key)) for key, build in builds.items()]
    return {
        "path": one.source.origin.path,
        "arch": advice.now.outcome.machine.arch,
        "kind": kind_of(one.baseline, one.source.release),
        "now": short_name(advice.now),
        "choice": "stay" if advice.choice.is_now else short_name(advice.choice),
        "evidence": advice.evidence,
        "builds": [
            {
                "key": list(build.key),
                "name": _name_of(build),
                "standing": standing(option),
                "tiny": is_tiny(option),
                "why": why(option),
                "highmem": option.outcome.layout.highmem_bytes,
                "user": option.outcome.layout.user_end,
            }
            for build, option in found
            if option is not None
        ],
    }


def _name_of(build: Build) -> str:
    """A build in a word or two; with PAE or without is part of it, as kernels of both come in."""
    wide = " PAE" if build.pae else ""
    return f"{clean(build.split)}{wide}{'' if build.highmem else ', low'}"


@dataclass
class _Why:
    """A reason, with an example of its words, and who has it."""

    words: str
    captures: int = 0
    named: list[str] = field(default_factory=list)


@dataclass
class _Build:
    """What a build is for many captures."""

    name: str
    captures: int = 0
    standing: Counter[int] = field(default_factory=Counter)
    tiny: int = 0
    highmem: int = 0
    user: int = 1 << 62
    reasons: dict[tuple[int, str], _Why] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any], build: Mapping[str, Any]) -> None:
        self.captures += 1
        self.standing[build["standing"]] += 1
        self.tiny += build["tiny"]
        self.highmem += build["highmem"]
        self.user = min(self.user, build["user"])
        if build["standing"] in (LOSES, DOUBTED):
            key = build["standing"], _NUMBERS.sub("#", build["why"])
            reason = self.reasons.setdefault(key, _Why(build["why"]))
            reason.captures += 1
            if len(reason.named) < _NAMED:
                reason.named.append(last_part(record["path"]))


@dataclass
class _Kind:
    """Machines of one kind."""

    captures: int = 0
    now: Counter[str] = field(default_factory=Counter)
    choice: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)
    builds: dict[tuple[Any, ...], Counter[int]] = field(default_factory=dict)


@dataclass
class AdvisedFleet:
    """The advice for many captures, counted up."""

    captures: int = 0
    kinds: dict[str, dict[str, _Kind]] = field(default_factory=dict)
    builds: dict[str, dict[tuple[Any, ...], _Build]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a capture."""
        self.captures += 1
        kind = self.kinds.setdefault(record["arch"], {}).setdefault(record["kind"], _Kind())
        kind.captures += 1
        kind.now[record["now"]] += 1
        kind.choice[record["choice"]] += 1
        kind.evidence[record["evidence"]] += 1
        builds = self.builds.setdefault(record["arch"], {})
        for build in record["builds"]:
            key = tuple(build["key"])
            builds.setdefault(key, _Build(build["name"])).add(record, build)
            kind.builds.setdefault(key, Counter())[build["standing"]] += 1

    def total(self, arch: str) -> int:
        """Captures of an architecture."""
        return sum(kind.captures for kind in self.kinds[arch].values())

    def lose(self, arch: str, key: tuple[Any, ...]) -> int:
        """How many lose by a build, those among them that cannot have it."""
        build = self.builds[arch][key]
        return build.standing[LOSES] + self.total(arch) - build.captures

    def best(self, arch: str) -> list[tuple[Any, ...]]:
        """The builds of an architecture, the best for all first.

        Most that gain less those that lose or are doubted, then least highmem and most room for a
        process: of a thousand machines one that cannot have a build must not decide for all.
        """
        builds = self.builds[arch]

        def rank(key: tuple[Any, ...]) -> tuple[int, ...]:
            one = builds[key]
            doubtful = self.lose(arch, key) + one.standing[DOUBTED]
            gained = one.standing[GAINS] - doubtful
            return -gained, doubtful, one.tiny, one.highmem, -one.user

        return sorted(builds, key=rank)

    def document(self) -> list[dict[str, Any]]:
        """Of each architecture the build that is best for all, for JSON."""
        found = []
        for arch in self.kinds:
            key = self.best(arch)[0]
            build = self.builds[arch][key]
            found.append(
                {
                    "arch": arch,
                    "build": build.name,
                    "captures": self.total(arch),
                    "gain": build.standing[GAINS],
                    "gain_nothing": build.standing[SAME],
                    "doubted": build.standing[DOUBTED],
                    "lose": self.lose(arch, key),
                    "kinds": {name: kind.captures for name, kind in self.kinds[arch].items()},
                }
            )
        return found


def advised_fleet_renderables(
    fleet: AdvisedFleet, left_out: Sequence[str]
) -> Iterator[RenderableType]:
    """The page of `advise` for a fleet.

    Yields
    ------
    RenderableType
        Of each architecture the build that is best for all, who loses by it and why, the other
        builds, and the kinds of machines; what could not be read.
    """
    kinds = sum(map(len, fleet.kinds.values()))
    yield Text.assemble(
        ("hmtrace advise", "bold"),
        f"  {plural(fleet.captures, 'capture')} of {plural(kinds, 'kind')} of machine",
    )
    for arch in sorted(fleet.kinds, key=lambda arch: -fleet.total(arch)):
        best, *others = fleet.best(arch)
        build = fleet.builds[arch][best]
        total = plural(fleet.total(arch), "capture")
        yield heading(f"{BEST}: {build.name}", f"{clean(arch)}, {total}")
        yield indented(Text(_standing_in_words(fleet, arch, best)))
        yield labelled(list(_reasons(fleet, arch, best)))
        yield heading("By machine", clean(arch))
        yield indented(_kinds_table(fleet, arch, best))
        if len(fleet.kinds[arch]) > _MOST_KINDS:
            yield indented(Text(f"and {len(fleet.kinds[arch]) - _MOST_KINDS} more kinds", "dim"))
        yield heading("Other builds", clean(arch))
        yield indented(_builds_table(fleet, arch, others))
        if len(others) > _ROWS:
            yield indented(Text(f"and {len(others) - _ROWS} more, none of them better", "dim"))
    yield from _unreadable(left_out)
    yield Text()
    words = (
        "low: no HIGHMEM · choice: the best for it alone, + others for some · user: MiB for a "
        "process\nhmtrace advise CAPTURE shows one with all its reasons, --format json has all"
    )
    yield Text(words, "dim")


def _standing_in_words(fleet: AdvisedFleet, arch: str, key: tuple[Any, ...]) -> str:
    standing_of = fleet.builds[arch][key].standing
    parts = [
        f"{count(number)} {words}"
        for number, words in (
            (standing_of[GAINS], "gain"),
            (standing_of[SAME], "gain nothing"),
            (standing_of[DOUBTED], "doubted"),
            (fleet.lose(arch, key), "lose"),
        )
        if number
    ]
    return " · ".join(parts)


def _reasons(
    fleet: AdvisedFleet, arch: str, key: tuple[Any, ...]
) -> Iterator[tuple[str, str | Text]]:
    build = fleet.builds[arch][key]
    ranked = sorted(build.reasons.items(), key=lambda one: (-one[0][0], -one[1].captures))
    for (kind, _), reason in ranked[:_MOST_REASONS]:
        label = f"{count(reason.captures)} {'lose' if kind == LOSES else 'doubted'}"
        rest = reason.captures - len(reason.named)
        more = f" and {count(rest)} more" if rest else ""
        such = " (or the like)" if reason.captures > 1 and _NUMBERS.search(reason.words) else ""
        yield label, f"{reason.words}{such}: {', '.join(reason.named)}{more}"
    if len(ranked) > _MOST_REASONS:
        yield "", f"and {len(ranked) - _MOST_REASONS} more reasons"
    cannot = fleet.total(arch) - build.captures
    if build.tiny:
        yield f"{count(build.tiny)} to mind", "a highmem zone so small that it runs out first"
    if cannot:
        yield f"{count(cannot)} lose", "their kernels cannot be built so"
    elif not build.standing[LOSES]:
        yield "loses", "nobody"


def _kinds_table(fleet: AdvisedFleet, arch: str, key: tuple[Any, ...]) -> RenderableType:
    table = plain_table(
        ("machine, kernel", "left"), ("of it", "right"), ("now", "left"), ("choice", "left"),
        ("gain", "right"), ("lose", "right"), ("evidence", "left"),
    )  # fmt: skip
    ranked = sorted(fleet.kinds[arch].items(), key=lambda one: (-one[1].captures, one[0]))
    for name, kind in ranked[:_MOST_KINDS]:
        told = kind.builds.get(key, Counter())
        lost = kind.captures - told.total() + told[LOSES]
        table.add_row(
            Cut(name, 29, 14), count(kind.captures), _most(kind.now), _most(kind.choice),
            count(told[GAINS]) if told[GAINS] else NONE, count(lost) if lost else NONE,
            _most(kind.evidence),
        )  # fmt: skip
    return table


def _most(counter: Counter[str]) -> str:
    """The commonest, with a plus where there are others."""
    (word, _), *rest = counter.most_common(2)
    return f"{word} +" if rest else word


def _builds_table(
    fleet: AdvisedFleet, arch: str, keys: Sequence[tuple[Any, ...]]
) -> RenderableType:
    table = plain_table(
        ("build", "left"), ("gain", "right"), ("same", "right"), ("doubt", "right"),
        ("lose", "right"), ("user", "right"), ("mostly because", "left"),
    )  # fmt: skip
    for key in keys[:_ROWS]:
        build = fleet.builds[arch][key]
        cells = (
            build.standing[GAINS], build.standing[SAME], build.standing[DOUBTED],
            fleet.lose(arch, key),
        )  # fmt: skip
        reason = max(build.reasons.values(), key=lambda one: one.captures, default=None)
        table.add_row(
            build.name, *(count(cell) if cell else NONE for cell in cells),
            count(build.user >> 20),
            Cut("" if reason is None else reason.words.partition(";")[0], 30, 0),
        )  # fmt: skip
    return table


def _unreadable(left_out: Sequence[str]) -> Iterator[RenderableType]:
    if left_out:
        yield heading(f"{plural(len(left_out), 'capture')} left out", "could not be read")
        rest = len(left_out) - _ROWS
        more = [("", f"and {count(rest)} more")] if rest > 0 else []
        yield labelled([*(("", elide(clean(path), 60, 40)) for path in left_out[:_ROWS]), *more])


def sweep_record(sweep: Sweep) -> dict[str, Any]:
    """What the page of a fleet needs of the sweep of a capture."""
    return {
        "path": sweep.source.origin.path,
        "kind": kind_of(sweep.baseline, sweep.source.release),
        "machines": [
            [list(one.words.values()), one.figures[sweep.by], one.bound] for one in sweep.machines
        ],
        "left_out": [[list(one.words.values()), one.reason] for one in sweep.left_out],
        "without": sweep.without,
    }


@dataclass
class _Machine:
    """A machine of the grid, for many captures."""

    captures: int = 0
    total: float = 0.0
    most: float = -1.0
    worst: str = ""
    bounds: Counter[str | None] = field(default_factory=Counter)
    unknown: int = 0

    def add(self, value: float | None, bound: str | None, path: str) -> None:
        self.captures += 1
        self.bounds[bound] += 1
        if value is None:
            self.unknown += 1
            return
        self.total += value
        if value > self.most:
            self.most, self.worst = value, last_part(path)

    @property
    def mean(self) -> float:
        return self.total / max(self.captures - self.unknown, 1)


@dataclass
class SweptFleet:
    """The sweeps of many captures, counted up.

    Attributes
    ----------
    axes
        Names of the axes.
    by
        The figure that machines are ranked by.
    """

    axes: tuple[str, ...]
    by: str
    captures: int = 0
    machines: dict[tuple[str, ...], _Machine] = field(default_factory=dict)
    kinds: dict[str, dict[tuple[str, ...], _Machine]] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    without: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a capture."""
        self.captures += 1
        self.sizes[record["kind"]] += 1
        self.without += record["without"]
        kind = self.kinds.setdefault(record["kind"], {})
        for words, value, bound in record["machines"]:
            for machines in (self.machines, kind):
                machines.setdefault(tuple(words), _Machine()).add(value, bound, record["path"])
        for _, reason in record["left_out"]:
            self.reasons[reason] += 1

    def ranked(self) -> list[tuple[str, ...]]:
        """The machines, those that most captures can have first, the least figure before others."""
        machines = self.machines
        return sorted(machines, key=lambda key: (-machines[key].captures, machines[key].mean))


def swept_fleet_renderables(
    fleet: SweptFleet, left_out: Sequence[str], most: int
) -> Iterator[RenderableType]:
    """The page of `sweep` for a fleet.

    Yields
    ------
    RenderableType
        The machines over all captures, the best of each kind of machine, what no kernel can have.
    """
    yield Text.assemble(
        ("hmtrace sweep", "bold"),
        f"  {plural(fleet.captures, 'capture')} of {plural(len(fleet.sizes), 'kind')} of machine",
    )
    figure = TITLES.get(fleet.by, fleet.by)
    yield heading(f"{plural(len(fleet.machines), 'machine')}, least {fleet.by} first")
    yield indented(_machines_table(fleet, most, figure))
    asides = [f"mean, most: of {fleet.by} over the captures; signs: a bound for some of them"]
    if len(fleet.machines) > most:
        asides.append(f"and {count(len(fleet.machines) - most)} more: -n 0 shows all")
    if fleet.without:
        asides.append(f"{plural(fleet.without, 'machine')} do not meet --where")
    yield indented(Text("\n".join(asides), style="dim"))
    yield heading("The best of each kind")
    yield indented(_best_table(fleet, figure))
    if len(fleet.sizes) > _MOST_KINDS:
        yield indented(Text(f"and {len(fleet.sizes) - _MOST_KINDS} more kinds", "dim"))
    if fleet.reasons:
        combinations = plural(fleet.reasons.total(), "combination")
        yield heading(f"{combinations} left out", "no kernel can have them")
        told = fleet.reasons.most_common(_MOST_REASONS)
        yield labelled([(f"{count(number)} ×", clean(reason)) for reason, number in told])
    yield from _unreadable(left_out)


def _machines_table(fleet: SweptFleet, most: int, figure: str) -> RenderableType:
    table = plain_table(
        *((name, "left") for name in fleet.axes), ("captures", "right"),
        (f"{figure}, mean", "right"), ("most", "right"), ("of", "left"),
    )  # fmt: skip
    for key in fleet.ranked()[:most]:
        one = fleet.machines[key]
        table.add_row(
            *map(clean, key), count(one.captures), _figure(fleet.by, one.mean, one),
            _figure(fleet.by, max(one.most, 0), one), Cut(one.worst, 20, 10),
        )  # fmt: skip
    return table


def _best_table(fleet: SweptFleet, figure: str) -> RenderableType:
    table = plain_table(
        ("machine, kernel", "left"), ("captures", "right"),
        *((name, "left") for name in fleet.axes), (f"{figure}, mean", "right"),
    )  # fmt: skip
    for kind, number in fleet.sizes.most_common(_MOST_KINDS):
        machines = fleet.kinds[kind]
        if machines:
            key = min(machines, key=lambda key: (-machines[key].captures, machines[key].mean))
            cells = (*map(clean, key), _figure(fleet.by, machines[key].mean, machines[key]))
        else:
            cells = (*("none" for _ in fleet.axes), "")
        table.add_row(Cut(kind, 29, 14), count(number), *cells)
    return table


def _figure(by: str, value: float, one: _Machine) -> str:
    bounds = {bound for bound in one.bounds if bound is not None}
    bound = bounds.pop() if len(bounds) == 1 else None
    return ("≈ " if bounds else "") + figure_in_words(by, round(value), bound)
