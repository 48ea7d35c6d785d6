"""The command line that asks the same again."""

from __future__ import annotations

import shlex
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from hmtrace.report.text import clean

if TYPE_CHECKING:
    import typer

_HERE_ALONE: Final = ("output", "html", "force", "output_format", "color", "jobs", "cluster")
"""Parameters that say who answers and where the answer goes."""


def command_line(context: typer.Context) -> list[str]:
    """Words of the command that runs, quoted for a shell and safe to print.

    Parameters
    ----------
    context
        Of that command.

    Returns
    -------
    list of str
        ``hmtrace``, the command, what it was given, in the order of its help.
    """
    words = ["hmtrace", str(context.info_name)]
    arguments = []
    for parameter in context.command.params:
        name = str(parameter.name)
        value = context.params.get(name)
        if name in _HERE_ALONE or value == parameter.get_default(context) or value is None:
            continue
        if parameter.param_type_name == "argument":
            arguments += _texts(value)
        elif isinstance(value, bool):
            words.append(parameter.opts[0])
        else:
            for text in _texts(value):
                words += [parameter.opts[0], text]
    return [shlex.quote(clean(word, 1000)) for word in [*words[:2], *arguments, *words[2:]]]


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [str(one.value if isinstance(one, Enum) else one) for one in values]
