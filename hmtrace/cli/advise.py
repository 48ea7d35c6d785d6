"""`hmtrace advise`: which user/kernel split to choose, with the evidence."""

# ruff: noqa: FBT002, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmtrace.cli.named import named
from hmtrace.cli.options import (
    CAPTURES,
    ColorOption,
    CostsOption,
    ForceOption,
    FormatOption,
    MachineOption,
    OutputOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat

if TYPE_CHECKING:
    from hmtrace.cli.prepared import Prepared
    from hmtrace.report.advising import Advised
    from replay.machine.model import Machine

EXAMPLES = (
    "hmtrace advise captures/board-7",
    "hmtrace advise captures/*",
    "hmtrace advise captures/board-7 --machine imx6q-wandboard-2g",
    "hmtrace advise captures/board-7 --format json",
)


def advise(
    captures: Annotated[
        list[str],
        typer.Argument(metavar="CAPTURE", help=CAPTURES, show_default=False),
    ],
    machine: MachineOption = None,
    costs: CostsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say which split to choose, with highmem or without, and what speaks against the others.

    The workload is replayed under every split that its kernel can be built with. Of several
    captures each one's choice is told, and the best for all.
    """
    captures = named(captures)
    target = Output.create(
        output_format, color, output, force=force, captures=captures, files=[costs, machine]
    )
    from hmtrace.cli.several import each

    advised = each(captures, lambda path: _advised(path, machine, costs))
    if target.is_json:
        from hmtrace.report.advice_document import advice_document

        target.document(advice_document(advised))
    else:
        from hmtrace.report.advising import advice_renderables
        from hmtrace.report.common_choice import fleet_renderables

        pages = [part for one in advised for part in advice_renderables(one)]
        target.table(*pages, *(fleet_renderables(advised) if len(advised) > 1 else ()))
    if len(advised) < len(captures):
        raise typer.Exit(3)


def _advised(path: str, machine: Path | None, costs: Path | None) -> Advised:
    from hmtrace.cli.machines import target_machine
    from hmtrace.cli.prepared import asked
    from hmtrace.report.advising import Advised
    from replay.whatif.advise import advise as choose

    def wanted(captured: Machine) -> Machine | None:
        return None if machine is None else target_machine(captured, machine)

    def ask(ready: Prepared) -> Advised:
        server = ready.server()
        advice = choose(
            server, ready.machine, ready.capture.facts.snapshot(),
            lost=bool(ready.capture.lost.intervals), target=wanted(ready.machine),
        )  # fmt: skip
        source = ready.source()
        return Advised(source, ready.assumptions, server.baseline, advice)

    return asked(path, costs, ask, wanted)
