"""The build that is best for several machines together, and who loses by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replay.whatif.reasons import TinyZone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replay.whatif.reasons import Advice, Build, Option


class CommonChoice(NamedTuple):
    """A build for all.

    Attributes
    ----------
    build
        The best one.
    options
        What it is for each, in their order; None: that kernel cannot be built so.
    """

    build: Build
    options: tuple[Option | None, ...]

    @property
    def losers(self) -> tuple[int, ...]:
        """Who cannot have it, or has something against it."""
        return tuple(
            number for number, option in enumerate(self.options) if standing(option) >= LOSES
        )

    @property
    def doubted(self) -> tuple[int, ...]:
        """For whom the capture does not show enough."""
        return tuple(
            number for number, option in enumerate(self.options) if standing(option) == DOUBTED
        )

    @property
    def minded(self) -> tuple[int, ...]:
        """Who is left with a highmem zone that runs out first."""
        return tuple(
            number
            for number, option in enumerate(self.options)
            if option is not None and is_tiny(option)
        )


def is_tiny(option: Option) -> bool:
    """Whether a build leaves a highmem zone that runs out first."""
    return any(isinstance(reason, TinyZone) for reason in option.mind)


GAINS, SAME, DOUBTED, LOSES = range(4)
"""What a build may be for a machine."""


def common_choice(advices: Sequence[Advice]) -> CommonChoice | None:
    """The build that the fewest lose by; of those that most gain by, with most room for a process.

    Parameters
    ----------
    advices
        One for each capture.

    Returns
    -------
    CommonChoice or None
        None where there are no captures.
    """
    builds = [option.build for one in advices for option in one.options]
    # named after those whose kernel loses PAE by it, if there are any
    keys = {build.key: build for build in sorted(builds, key=lambda build: build.without)}
    found = [
        CommonChoice(build, tuple(advice.option(key) for advice in advices))
        for key, build in keys.items()
        if not build.proposed
    ]
    return min(found, key=_rank, default=None)


def _rank(choice: CommonChoice) -> tuple[int, int, int, int, int, int]:
    """Losers, doubted ones, tiny zones, those that gain nothing, highmem that is left, and room."""
    found = [standing(option) for option in choice.options]
    there = [option.outcome.layout for option in choice.options if option is not None]
    return (
        sum(one >= LOSES for one in found),
        found.count(DOUBTED),
        len(choice.minded),
        found.count(SAME),
        sum(layout.highmem_bytes for layout in there),
        -min((layout.user_end for layout in there), default=0),
    )


def standing(option: Option | None) -> int:
    """What a build is for one machine."""
    if option is None or option.against:
        return LOSES
    if option.doubts:
        return DOUBTED
    return GAINS if option.is_better or not option.outcome.layout.highmem_bytes else SAME
