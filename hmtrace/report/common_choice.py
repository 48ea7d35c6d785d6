"""The page of several captures: each one's choice, the build that is best for all, who loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from hmtrace.report.parts import Elided, heading, indented, labelled, plain_table
from hmtrace.report.reasons import name_of, words
from hmtrace.report.text import clean, last_part, plural, size, unglued
from replay.whatif import reasons
from replay.whatif.common import common_choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from hmtrace.report.advising import Advised
    from replay.whatif.common import CommonChoice
    from replay.whatif.reasons import Option

BEST: Final = "The best for all"
_END: Final = 16
"""Characters of a capture's name that are kept at its end."""
_NAMED: Final = 24
"""Captures of each kind that are named."""
_NO_KERNEL: Final = "none of the builds of its kernel (split, PAE)"


def fleet_renderables(advised: Sequence[Advised]) -> Iterator[RenderableType]:
    """The page.

    Yields
    ------
    RenderableType
        A line for each capture; of each architecture the best build for all, who loses by it and
        why.
    """
    yield heading(plural(len(advised), "capture"))
    table = plain_table(
        ("capture", "left"), ("now", "left"), ("choice", "left"), ("for all", "left"),
        ("evidence", "left"),
    )  # fmt: skip
    groups = by_architecture(advised)
    found = {arch: common_choice([one.advice for one in group]) for arch, group in groups.items()}
    for arch, group in groups.items():
        for number, one in enumerate(group):
            common = found[arch]
            option = None if common is None else common.options[number]
            table.add_row(
                Elided(_capture(one), _END),
                short_name(one.advice.now),
                "stay" if one.advice.choice.is_now else short_name(one.advice.choice),
                _verdict(option),
                one.advice.evidence,
            )
    yield indented(table)
    yield indented(Text("low: no HIGHMEM · for all: what the best build below is for it", "dim"))
    for arch, group in groups.items():
        common = found[arch]
        if common is not None and len(group) > 1:
            of = f"{arch}, {plural(len(group), 'capture')}"
            yield heading(f"{BEST}: {name_of(common.build)}", of)
            yield labelled(_consequences(group, common))


def by_architecture(advised: Sequence[Advised]) -> dict[str, list[Advised]]:
    """The captures by architecture: no kernel serves two of them."""
    groups: dict[str, list[Advised]] = {}
    for one in advised:
        groups.setdefault(clean(one.advice.now.outcome.machine.arch), []).append(one)
    return groups


def _verdict(option: Option | None) -> str:
    if option is None:
        return "cannot"
    return {"as now": "no gain", "mind": "better?"}.get(option.verdict, option.verdict)


def common_document(advised: Sequence[Advised]) -> list[dict[str, Any]]:
    """The same for JSON, one for each architecture of which there are several captures."""
    found = []
    for arch, group in by_architecture(advised).items():
        common = common_choice([one.advice for one in group])
        if common is not None and len(group) > 1:
            found.append(_document(arch, group, common))
    return found


def _document(arch: str, advised: Sequence[Advised], found: CommonChoice) -> dict[str, Any]:
    return {
        "arch": arch,
        "split": found.build.split,
        "highmem": found.build.highmem,
        "pae": found.build.pae,
        "captures": [
            {
                "path": one.source.origin.path,
                "verdict": None if option is None else option.verdict,
                "loses": number in found.losers,
                "doubted": number in found.doubted,
                "reason": unglued(why(option)),
            }
            for number, (one, option) in enumerate(zip(advised, found.options, strict=True))
        ],
    }


def _consequences(
    advised: Sequence[Advised], found: CommonChoice
) -> Iterator[tuple[str, str | Text]]:
    """Who loses, who is doubted, who gives a better choice of its own up."""
    for label, numbers in (("loses", found.losers), ("doubted", found.doubted)):
        for number in numbers[:_NAMED]:
            yield label, f"{_capture(advised[number])}: {why(found.options[number])}"
        if len(numbers) > _NAMED:
            yield label, f"and {len(numbers) - _NAMED} more"
    if not found.losers:
        yield "loses", "nobody"
    for number in found.minded[:_NAMED]:
        option = found.options[number]
        if option is not None and number not in found.losers:
            tiny = next(r for r in option.mind if isinstance(r, reasons.TinyZone))
            yield "mind", f"{_capture(advised[number])}: {words(tiny)}"
    elsewhere = [
        one
        for one, option in zip(advised, found.options, strict=True)
        if option is not one.advice.choice and not one.advice.choice.is_now
    ]
    for one in elsewhere[:_NAMED]:
        yield "gives up", f"{_capture(one)}: its own choice is {name_of(one.advice.choice.build)}"
    vmalloc = {o.build.vmalloc for o in found.options if o is not None and o.build.vmalloc}
    if vmalloc:
        yield "boot", f"vmalloc={min(vmalloc) >> 20}M or less where all RAM is to be reached"


def why(option: Option | None) -> str:
    """What a build is for one machine, in words."""
    if option is None:
        return _NO_KERNEL
    if option.against:
        return "; ".join(map(words, option.against))
    if option.doubts:
        return "; ".join(map(words, option.doubts))
    minded = [words(reason) for reason in option.mind if not isinstance(reason, reasons.UserSpace)]
    return "; ".join([f"a process has {size(option.outcome.layout.user_end)}", *minded])


def short_name(option: Option) -> str:
    """A build in a word or two."""
    name = name_of(option.build)
    return name.replace(", no HIGHMEM", ", low").replace(", HIGHMEM", "")


def _capture(advised: Advised) -> str:
    """The last part of a capture's path."""
    return last_part(advised.source.origin.path)
