"""`hmtrace validate`: the model beside the kernel, address by address."""

# ruff: noqa: FBT002  (typer reads annotations and defaults at run time)

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from collectors.errors import HmtraceError
from hmtrace.cli.captures import read
from hmtrace.cli.named import named
from hmtrace.cli.options import CAPTURES, ColorOption, ForceOption, FormatOption, OutputOption
from hmtrace.cli.output import Color, Output, OutputFormat
from hmtrace.cli.several import tell
from hmtrace.report.text import unglued

if TYPE_CHECKING:
    from hmtrace.report.validation import Checked


EXAMPLES = (
    "hmtrace validate captures/board-7",
    "hmtrace validate captures/a captures/b --min-exact 99.9",
    "hmtrace validate --format json trace.txt.gz",
)


def validate(
    captures: Annotated[
        list[str],
        typer.Argument(metavar="CAPTURE...", help=CAPTURES, show_default=False),
    ],
    min_exact: Annotated[
        float | None,
        typer.Option(
            "--min-exact",
            metavar="PERCENT",
            min=0,
            max=100,
            help="Exit 1 where less of a capture's addresses of one kind was predicted exactly.",
            show_default=False,
        ),
    ] = None,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Compare the model's predictions with what the traced kernel did.

    Addresses, pool flushes, waits and the layout are compared. A capture that cannot be read is
    reported and the others go on; the exit code is then 3.

    """
    captures = named(captures)
    target = Output.create(output_format, color, output, force=force, captures=captures)
    from hmtrace.report.validation import validation_table

    checked = [_check(path) for path in captures]
    if target.is_json:
        from hmtrace.report.document import validation_document

        target.document(validation_document(checked))
    else:
        target.table(*validation_table(checked))
    if code := _exit_code(checked, min_exact):
        raise typer.Exit(code)


def _check(path: str) -> Checked:
    from hmtrace.cli.progress import ProgressBar
    from hmtrace.report.source import lost_in_words
    from hmtrace.report.validation import Checked
    from replay.machine.from_facts import machine_from
    from replay.validate.run import validate as compare

    try:
        capture = read(path)
        values = capture.facts.snapshot()
        machine, _ = machine_from(values)
        sources = capture.facts.sources()
        with ProgressBar("replaying") as progress:
            result = compare(
                capture.events, machine,
                values=values, sources=sources, lost=capture.lost, progress=progress,
            )  # fmt: skip
    except HmtraceError as error:
        tell(error)
        return Checked(path, None, error=str(error))
    lost = unglued(lost_in_words(capture.lost)) if capture.lost.intervals else ""
    return Checked(path, result.as_json(), result.layout, lost)


def _exit_code(checked: list[Checked], min_exact: float | None) -> int:
    """3 if a capture was unreadable, 1 if one is below the threshold, else 0."""
    from hmtrace.report.validation import ADDRESSES, exact_share, totals

    if any(one.entry is None for one in checked):
        return 3
    if min_exact is None:
        return 0
    entries = [one.entry for one in checked if one.entry is not None]
    # The arena has no model for every kernel: its addresses count where any was predicted.
    kinds = [key for key in ADDRESSES if key != "vmap" or totals(entries, key)[1]]
    shares = [s for e in entries for k in kinds if (s := exact_share([e], k)) is not None]
    if not shares:
        sys.stderr.write("hmtrace: no address to check, so --min-exact is not met\n")
        return 1
    if min(shares) * 100 < min_exact:
        sys.stderr.write(
            f"hmtrace: {min(shares) * 100:.4f} % of a kind predicted exactly, "
            f"below --min-exact {min_exact:g}\n"
        )
        return 1
    return 0
