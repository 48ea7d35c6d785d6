"""The command line: one module per command, none of which imports anything heavy by itself.

``hmtrace --help`` has to come at once, so rich, polars and numba are imported by the functions
that use them.

Adding a command: a module with a function of the same name, whose options are annotations (those
that others have too are in :mod:`hmtrace.cli.options`), and with EXAMPLES for its help; and a line
in the table below. The function checks its options with :class:`hmtrace.cli.output.Output`, opens
the capture with :mod:`hmtrace.cli.captures`, and gives what came out to a report.
"""

# ruff: noqa: FBT002  (typer reads defaults of flags)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from hmtrace import __version__
from hmtrace.cli import captures

COMMANDS: Final = {
    "info": "what a capture holds, and what it can and cannot answer",
    "report": "what temporary mappings cost, who waits, who leaks",
    "sites": "who maps, where in the source; could it be kmap_local_page()?",
    "replay": "the same workload on another machine, beside the captured",
    "sweep": "the same workload on every machine of a grid, best first",
    "advise": "which user/kernel split to choose, with the evidence",
    "check": "leaks, deadlocks, wrong order, storms: fail where one is found",
    "compare": "two captures or outcomes: what changed, beyond noise",
    "validate": "the model's predictions against the traced kernel",
    "layout": "the address space and the zones of a machine, drawn",
    "convert": "a capture as Parquet, Arrow, CSV, NDJSON or Perfetto trace",
    "recorder": "a shell script that makes a capture on the board",
    "synth": "synthetic traces, with the true outcome beside them",
}
"""What each command tells; module and function have its name."""


class _Command(TyperCommand):
    """Writes usage as manuals do, without braces around what must be there."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Words behind the command's name."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece[1:-1] if piece.startswith("{") else piece for piece in pieces]


class _Commands(Mapping[str, Any]):
    """The commands by name, each made when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            summary = COMMANDS[name]
            module = import_module(f"hmtrace.cli.{name}")
            told = CommandInfo(
                name=name,
                cls=_Command,
                callback=getattr(module, name),
                short_help=summary,
                epilog=_examples(module.EXAMPLES),
            )
            self._made[name] = get_command_from_info(
                told, pretty_exceptions_short=False, rich_markup_mode=None
            )
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Program(TyperGroup):
    """Knows its commands by name before they are made."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Names in the order in which help has them."""
        return [*COMMANDS]


def _examples(lines: tuple[str, ...]) -> str:
    """Epilog of a command's help; the backspace keeps its lines as they are."""
    return "\b\nExamples:\n  " + "\n  ".join(lines)


app = typer.Typer(
    name="hmtrace",
    cls=_Program,
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: importing rich for it would double the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(value: bool) -> None:  # noqa: FBT001
    if value:
        typer.echo(f"hmtrace {__version__}")
        raise typer.Exit


FIRST_STEPS: Final = {
    "hmtrace info CAPTURE": "what is in a capture",
    "hmtrace report CAPTURE": "what its temporary mappings cost, and who waits",
    "hmtrace replay CAPTURE --split 2g": "the same workload under another split",
    "hmtrace advise CAPTURE": "which split to choose, and why",
    "hmtrace check CAPTURE": "leaks, deadlocks, storms: exit 1 where one is found",
    "hmtrace compare A B": "what changed between two captures",
    "hmtrace validate CAPTURE": "is the model right for this kernel?",
    "hmtrace synth pool-full -o FOLDER": "a made-up trace, to see all of it without a board",
}
"""Command lines for who is here for the first time, and what each answers."""
_STEPS = "\n".join(f"  {line:35}  {words}" for line, words in FIRST_STEPS.items())
_EPILOG = f"""\b
First steps:
{_STEPS}

Exit codes: 0 fine, 1 a check or threshold failed, 2 wrong usage, 3 unreadable input."""


@app.callback(short_help="highmem mappings of 32-bit Linux, from traces", epilog=_EPILOG)
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  (its callback has it)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Analyse kmap, kmap_local and vmap of 32-bit Linux from traces of the real machine."""
    captures.note_command(context.invoked_subcommand or "")
