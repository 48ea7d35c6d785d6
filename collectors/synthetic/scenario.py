"""What a scenario is: a name, options, and the tasks that it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.errors import HmtraceError, one_of
from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collectors.synthetic.kernel import Kernel


@dataclass(frozen=True)
class ScenarioOption:
    """A number that a scenario can be given.

    Attributes
    ----------
    name, about
        For the user.
    default, low, high
        Value without it; least and greatest allowed.
    """

    name: str
    default: int
    about: str
    low: int = 1
    high: int = 100_000


@dataclass(frozen=True)
class Scenario:
    """A workload, declared.

    Attributes
    ----------
    name, title
        For the user.
    about
        What is to be seen in it.
    options
        Its numbers.
    setup
        Starts the tasks: called with the kernel and the options' values.
    events
        Events after which tasks wind down, where the user does not say.
    cpus
        CPUs of the machine, where the user does not say.
    """

    name: str
    title: str
    about: str
    setup: Callable[[Kernel, Mapping[str, int]], None]
    options: tuple[ScenarioOption, ...] = ()
    events: int = 20_000
    cpus: int = 2

    def values(self, given: Mapping[str, int]) -> dict[str, int]:
        """Values of all options.

        Raises
        ------
        HmtraceError
            Exit code 2: there is no such option, or the value is not allowed.
        """
        known = {option.name: option for option in self.options}
        for name, value in given.items():
            option = known.get(name)
            if option is None:
                raise HmtraceError(
                    f"scenario {self.name} has no option {name!r}",
                    hint=one_of(name, known) if known else "it has none",
                    exit_code=2,
                )
            if not option.low <= value <= option.high:
                raise HmtraceError(
                    f"{name}={value} is outside {option.low} to {option.high}", exit_code=2
                )
        return {name: given.get(name, option.default) for name, option in known.items()}
