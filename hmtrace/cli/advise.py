"""`hmtrace advise`: which user/kernel split to choose, with the evidence."""

# ruff: noqa: FBT002, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmtrace.cli.fleet import FEW, Asking, FleetQuestion, gather, without_record, words_of
from hmtrace.cli.named import named
from hmtrace.cli.options import (
    CAPTURES,
    ClusterOption,
    ColorOption,
    CostsOption,
    ForceOption,
    FormatOption,
    HtmlOption,
    JobsOption,
    MachineOption,
    OutputOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat, PageFile
from hmtrace.cli.repeating import command_line

if TYPE_CHECKING:
    from hmtrace.cli.prepared import Prepared
    from hmtrace.report.advising import Advised
    from replay.machine.model import Machine

EXAMPLES = (
    "hmtrace advise captures/board-7",
    "hmtrace advise captures/*",
    "hmtrace advise captures/board-7 --machine imx6q-wandboard-2g",
    "hmtrace advise captures/board-7 --format json",
    "hmtrace advise captures/* --html advice.html",
)


def advise(
    context: typer.Context,
    captures: Annotated[
        list[str],
        typer.Argument(metavar="CAPTURE...", help=CAPTURES, show_default=False),
    ],
    machine: MachineOption = None,
    costs: CostsOption = None,
    jobs: JobsOption = 1,
    cluster: ClusterOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    html: HtmlOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say which split to choose, with highmem or without, and what speaks against the others.

    The workload is replayed under every split that its kernel can be built with. Of several
    captures each one's choice is told, and the best for all; of more than eight the page tells
    kinds of machines.
    """
    captures = named(captures)
    target = Output.create(
        output_format, color, output, force=force, captures=captures, files=[costs, machine]
    )
    page = PageFile.create(
        html, output, force=force, captures=captures, files=[costs, machine],
        command=command_line(context),
    )  # fmt: skip
    if len(captures) > FEW or jobs > 1 or cluster is not None:
        _advise_fleet(captures, target, page, Asking(jobs, cluster), machine, costs)
        return
    from hmtrace.cli.several import each

    advised = each(captures, lambda path: _advised(path, machine, costs))
    if page is not None and advised:
        from hmtrace.html.advise import advise_page

        page.write(lambda: advise_page(advised, page.command))
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


def _advise_fleet(
    captures: list[str], target: Output, page: PageFile | None, asking: Asking,
    machine: Path | None, costs: Path | None,
) -> None:  # fmt: skip
    """Many captures: one page, or one document, whose parts are written as they are there."""
    from hmtrace.report.document import schema
    from hmtrace.report.fleet import AdvisedFleet, advised_fleet_renderables

    fleet = AdvisedFleet()
    options = {"machine": words_of(machine), "costs": words_of(costs)}
    found = gather(
        captures, FleetQuestion("advise", options), asking, lambda entry: fleet.add(entry["fleet"])
    )
    unreadable = [one.path for one in found.unreadable]
    if page is not None:
        from hmtrace.html.fleet import advised_fleet_page

        records = (entry["fleet"] for entry in found)
        page.write(lambda: advised_fleet_page(fleet, records, unreadable, page.command))
    if target.is_json:
        head = {**schema("advise"), "common": fleet.document(), "unreadable": found.left_out()}
        target.documents(head, "captures", (without_record(entry) for entry in found))
    else:
        target.table(*advised_fleet_renderables(fleet, unreadable))
    if found.code:
        raise typer.Exit(found.code)


def advised_entry(path: str, machine: Path | None, costs: Path | None) -> dict[str, Any]:
    """What the document says of a capture, and under `fleet` what the page of many needs."""
    from hmtrace.report.advice_document import capture_document
    from hmtrace.report.fleet import advice_record

    advised = _advised(path, machine, costs)
    return capture_document(advised) | {"fleet": advice_record(advised)}


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

    def converts(captured: Machine) -> bool:
        other = wanted(captured)
        return other is not None and bool(other.converted)

    return asked(path, costs, ask, converts)
