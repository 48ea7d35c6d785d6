"""The command line: one module per command, none of which imports anything heavy by itself.

``hmtrace --help`` has to come at once, so rich, polars and numba are imported by the functions
that use them.

Adding a command: a module with a function whose options are annotations (those that others have
too are in :mod:`hmtrace.cli.options`) and with EXAMPLES for its help, and a line in the table
below. The function checks its options with :class:`hmtrace.cli.output.Output`, opens the capture
with :mod:`hmtrace.cli.captures`, and gives what came out to a report.
"""

# ruff: noqa: FBT002  (typer reads defaults of flags)

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from hmtrace import __version__
from hmtrace.cli import (
    advise,
    captures,
    check,
    compare,
    convert,
    info,
    layout,
    recorder,
    replay,
    report,
    sites,
    sweep,
    synth,
    validate,
)


class _Command(TyperCommand):
    """Writes usage as manuals do, without braces around what must be there."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Words behind the command's name."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece[1:-1] if piece.startswith("{") else piece for piece in pieces]


app = typer.Typer(
    name="hmtrace",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: importing rich for it would double the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _examples(lines: tuple[str, ...]) -> str:
    """Epilog of a command's help; the backspace keeps its lines as they are."""
    return "\b\nExamples:\n  " + "\n  ".join(lines)


for name, function, module, summary in (
    ("info", info.info, info, "what a capture holds, and what it can and cannot answer"),
    ("report", report.report, report, "what temporary mappings cost, who waits, who leaks"),
    ("sites", sites.sites, sites, "who maps, where in the source; could it be kmap_local_page()?"),
    ("replay", replay.replay, replay, "the same workload on another machine, beside the captured"),
    ("sweep", sweep.sweep, sweep, "the same workload on every machine of a grid, best first"),
    ("advise", advise.advise, advise, "which user/kernel split to choose, with the evidence"),
    ("check", check.check, check, "leaks, deadlocks, wrong order, storms: fail where one is found"),
    ("compare", compare.compare, compare, "two captures or outcomes: what changed, beyond noise"),
    ("validate", validate.validate, validate, "the model's predictions against the traced kernel"),
    ("layout", layout.layout, layout, "the address space and the zones of a machine, drawn"),
    ("convert", convert.convert, convert, "a capture as Parquet, Arrow, CSV or NDJSON"),
    ("recorder", recorder.recorder, recorder, "a shell script that makes a capture on the board"),
    ("synth", synth.synth, synth, "synthetic traces, with the true outcome beside them"),
):
    app.command(name=name, cls=_Command, short_help=summary, epilog=_examples(module.EXAMPLES))(
        function
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
