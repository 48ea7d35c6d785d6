"""The scenarios of `synth`, as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from collectors.synthetic.scenarios import SCENARIOS
from hmtrace.report.document import schema
from hmtrace.report.parts import heading, indented, labelled
from hmtrace.report.text import count

if TYPE_CHECKING:
    from rich.console import RenderableType


def scenario_document() -> dict[str, Any]:
    """The list as a JSON document."""
    return {
        **schema("synth"),
        "scenarios": [
            {
                "name": scenario.name,
                "title": scenario.title,
                "about": scenario.about,
                "events": scenario.events,
                "cpus": scenario.cpus,
                "options": [vars(option) for option in scenario.options],
            }
            for scenario in SCENARIOS.values()
        ],
    }


def scenario_table() -> list[RenderableType]:
    """The list for a terminal: name, title, what is to be seen, the numbers that can be set."""
    parts: list[RenderableType] = []
    for scenario in SCENARIOS.values():
        parts.append(heading(scenario.name, scenario.title))
        parts.append(indented(Text(f"{scenario.about}\n")))
        parts.append(labelled([("--events", count(scenario.events))]))
        parts.append(
            labelled((f"{o.name}={o.default}", o.about) for o in scenario.options),
        )
    return parts
