"""Pages of the commands, from the tree that man pages are made of, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace.cli.tree import ENVIRONMENT, EXIT_CODES, root
from tests.docsite.markdown import code, table, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hmtrace.cli.tree import Command, Parameter


def pages() -> Iterator[tuple[str, str]]:
    """Path in docs/ and text of each: the list, one for each command, and what holds for all."""
    program = root()
    rows = [
        [f"[{code(command.path)}](#command-{command.name})", words(command.summary)]
        for command in program.commands
    ]
    names = "\n".join(command.name for command in program.commands)
    yield (
        "reference/commands/index.md",
        f"""# Commands

Every option of every command, as the program itself has them. Exit codes and variables of the
environment: [exit codes](../exit-codes.md).

{table(["command", ""], rows)}
```{{toctree}}
:hidden:

{names}
```
""",
    )
    for command in program.commands:
        yield f"reference/commands/{command.name}.md", _page(command)
    yield "reference/exit-codes.md", _around()


_TOLD: Final = {"info": "formats", "recorder": "capture"}
"""Pages in docs/ of commands that do not have a page of their name."""


def _page(command: Command) -> str:
    paragraphs = "\n\n".join(map(words, command.description))
    examples = "\n".join(command.examples)
    told = _TOLD.get(command.name, command.name)
    parts = [
        f"(command-{command.name})=\n# hmtrace {command.name}\n",
        f"{paragraphs}\n",
        f"With examples and what it prints: [{told}](../../{told}.md).\n",
        f"```\n{command.synopsis}\n```\n",
        f"## Examples\n\n```sh\n{examples}\n```\n" if examples else "",
    ]
    for title, parameters in (("Arguments", command.arguments), ("Options", command.options)):
        if parameters:
            parts.append(f"## {title}\n\n{table(['', '', 'default'], map(_row, parameters))}")
    return "\n".join(part for part in parts if part)


def _row(parameter: Parameter) -> list[str]:
    metavar = "" if parameter.choices else parameter.metavar
    names = [*parameter.names, *parameter.negations] or [parameter.metavar]
    told = ", ".join(map(code, names))
    if parameter.names and metavar:
        told += f" {code(metavar)}"
    more = [
        f"One of {', '.join(map(code, parameter.choices))}." if parameter.choices else "",
        f"{code(parameter.bounds)}." if parameter.bounds else "",
        "May be given again." if parameter.is_repeatable else "",
        "Must be given." if parameter.is_required else "",
    ]
    text = " ".join([words(parameter.help), *filter(None, more)])
    return [told, text, code(parameter.default)]


def _around() -> str:
    codes = [[str(number), words(meaning)] for number, meaning in EXIT_CODES.items()]
    variables = [
        [", ".join(code(name) for name in names.split(", ")), words(meaning)]
        for names, meaning in ENVIRONMENT.items()
    ]
    return f"""# Exit codes and environment

{table(["exit code", "means"], codes)}
Any other number is 128 and that of the signal that ended the program: 143 for SIGTERM.

## Environment

{table(["variable", "what it does"], variables)}"""
