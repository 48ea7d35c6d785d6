"""The command line as data: commands, their options, examples; what man pages and docs are made of.

:func:`root` walks the commands that typer knows, so nothing of it is written down twice. What is
no option is told here: exit codes, the environment, files.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Final

from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "Fine.",
    1: "A check found something, or a threshold failed.",
    2: "Wrong usage, or an output that cannot be written.",
    3: "An input that cannot be read, or is damaged.",
    70: "A bug in hmtrace itself (EX_SOFTWARE).",
    130: "Ctrl-C.",
    141: "The reader of a pipe went away.",
}
"""Any other number is 128 and that of the signal that ended the program: 143 for SIGTERM."""
ENVIRONMENT: Final[Mapping[str, str]] = {
    "NO_COLOR": "Anything but nothing: no colour, unless --color always asks for it.",
    "FORCE_COLOR": "Anything but nothing: colour into pipes and files, too.",
    "COLUMNS": "Width of reports, at most 120; without it the terminal's, or 80 where there is "
    "none.",
    "TERM": "dumb: no colour, no pager and no progress bar.",
    "LC_ALL, LC_CTYPE, LANG": "The first that is set: C or POSIX gives a terminal ASCII alone.",
    "HMTRACE_PAGER, PAGER": "Pager of what does not fit on the terminal, the first that is set; "
    "less by default; cat, or nothing, for none.",
    "XDG_CACHE_HOME": "Where compiled loops, workloads and symbols are kept, in hmtrace/; "
    "~/.cache by default.",
    "NUMBA_CACHE_DIR": "Where compiled loops are kept instead.",
    "NUMBA_DISABLE_JIT": "1: loops are run by Python, which takes a hundred times as long.",
    "TMPDIR": "Where files lie that are needed for a while only.",
    "HMTRACE_FETCH_LIMIT": "GiB that are copied of a capture behind a URL, at most; 8 by default.",
    "HMTRACE_DEBUG": "1: a bug is shown with its traceback.",
}
"""Variables that hmtrace reads; names that stand for one another together."""
FILES: Final[Mapping[str, str]] = {
    "~/.cache/hmtrace/": "What may be made again: compiled loops, workloads that were distilled, "
    "symbols. It may be removed at any time.",
}
_UNWRAPPED: Final = "\b"
"""What typer leaves the lines of a paragraph alone for."""


@dataclass(frozen=True)
class Parameter:
    """An option, or an argument, of a command.

    Attributes
    ----------
    names
        Of an option, as typed, the short ones first; of an argument none.
    negations
        Names that say no: ``--no-pae``.
    metavar
        What stands for the value; empty where there is none.
    help
        What it is for, one paragraph.
    choices
        All values, where they are words of a list.
    bounds
        ``0 to 64``, ``at least 1``; empty where there are none.
    default
        What holds without it, where that is told.
    is_required, is_repeatable
        Whether it must be there, and may be there more than once.
    """

    names: tuple[str, ...]
    negations: tuple[str, ...]
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    bounds: str = ""
    default: str = ""
    is_required: bool = False
    is_repeatable: bool = False

    @property
    def is_argument(self) -> bool:
        """Whether it stands for itself, without a name before it."""
        return not self.names


@dataclass(frozen=True)
class Command:
    """A command, or the program itself.

    Attributes
    ----------
    path
        Words that call it: ``hmtrace report``.
    summary
        What it is in half a line, without a full stop.
    description
        What it does, by paragraphs.
    arguments, options
        In the order of its help.
    examples
        Command lines.
    commands
        What is below it.
    """

    path: str
    summary: str
    description: tuple[str, ...]
    arguments: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    examples: tuple[str, ...]
    commands: tuple[Command, ...] = ()

    @property
    def name(self) -> str:
        """Last word of its path."""
        return self.path.rpartition(" ")[2]

    @property
    def synopsis(self) -> str:
        """How it is called, in one line.

        Examples
        --------
        >>> next(c for c in root().commands if c.name == "compare").synopsis
        'hmtrace compare [OPTIONS] A B'
        """
        words = [self.path, "[OPTIONS]", *map(argument_words, self.arguments)]
        return " ".join([*words, "COMMAND ..."] if self.commands else words)

    def walk(self) -> Iterator[Command]:
        """It and all that is below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def argument_words(argument: Parameter) -> str:
    """An argument as it stands in a synopsis.

    Examples
    --------
    >>> argument_words(Parameter((), (), "SCENARIO", ""))
    '[SCENARIO]'
    """
    return argument.metavar if argument.is_required else f"[{argument.metavar}]"


def root() -> Command:
    """The program with all its commands.

    Examples
    --------
    >>> [command.name for command in root().commands][:3]
    ['info', 'report', 'sites']
    """
    import typer

    from hmtrace.cli import FIRST_STEPS, app

    group: Any = typer.main.get_command(app)
    context = group.make_context("hmtrace", [], resilient_parsing=True)
    commands = tuple(
        _command(command, f"hmtrace {name}", _examples_of(name), context)
        for name, command in group.commands.items()
    )
    return _command(group, "hmtrace", tuple(FIRST_STEPS), None, commands)


def _examples_of(name: str) -> tuple[str, ...]:
    """Of the module of a command, which has its name."""
    found: tuple[str, ...] = importlib.import_module(f"hmtrace.cli.{name}").EXAMPLES
    return found


def _command(
    command: Any,
    path: str,
    examples: tuple[str, ...],
    parent: Any,
    below: tuple[Command, ...] = (),
) -> Command:
    """A command of typer's, which has no public name for it."""
    context = command.make_context(path, [], parent=parent, resilient_parsing=True)
    parameters = [
        (parameter.param_type_name, _parameter(parameter, context))
        for parameter in command.get_params(context)
        if not parameter.hidden
    ]
    description = tuple(
        " ".join(paragraph.split())
        for paragraph in re.split(r"\n\s*\n", (command.help or "").strip())
        if not paragraph.startswith(_UNWRAPPED)
    )
    return Command(
        path,
        command.short_help or description[0].rstrip("."),
        description,
        tuple(found for kind, found in parameters if kind == "argument"),
        tuple(found for kind, found in parameters if kind == "option"),
        examples,
        below,
    )


def _parameter(parameter: Any, context: Any) -> Parameter:
    is_option = parameter.param_type_name == "option"
    choices = tuple(getattr(parameter.type, "choices", ()))
    is_flag = is_option and (parameter.is_flag or parameter.count)
    return Parameter(
        _sorted(parameter.opts) if is_option else (),
        tuple(parameter.secondary_opts),
        "" if is_flag else "|".join(choices) or parameter.make_metavar(ctx=context).strip("<>"),
        " ".join((parameter.help or "").split()),
        choices,
        _bounds(getattr(parameter.type, "min", None), getattr(parameter.type, "max", None)),
        "" if is_flag or not parameter.show_default else _told(parameter.default),
        is_required=parameter.required,
        is_repeatable=parameter.nargs == -1 or bool(getattr(parameter, "multiple", False)),
    )


def _bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def _sorted(names: list[str]) -> tuple[str, ...]:
    """Short names first, as everybody writes them."""
    return tuple(sorted(names, key=lambda name: name.startswith("--")))


def _told(default: Any) -> str:
    return "" if default is None or callable(default) else str(getattr(default, "value", default))
