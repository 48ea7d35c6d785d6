"""`hmtrace sites`: who maps, where in the source, for how long, and whether it could be local."""

# ruff: noqa: FBT002, TC001, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from hmtrace.cli.captures import warn_of_loss
from hmtrace.cli.options import (
    CaptureArgument,
    ColorOption,
    CostsOption,
    ForceOption,
    FormatOption,
    OutputOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat

if TYPE_CHECKING:
    from collectors.dwarf.sizes import KernelSizes
    from hmtrace.cli.prepared import Prepared
    from hmtrace.report.source import InputSummary
    from hmtrace.report.vmlinux import SizeCheck
    from replay.machine.model import Layout, Machine
    from replay.outcome import Outcome
    from replay.whatif.callers import Callers
    from replay.whatif.convert import Conversion

EXAMPLES = (
    "hmtrace sites captures/board-7",
    "hmtrace sites --vmlinux /usr/lib/debug/boot/vmlinux-6.1.0-50-686-pae captures/board-7",
    "hmtrace sites --sort longest -n 5 captures/board-7",
    "hmtrace sites --format json captures/board-7 | jq '.sites[] | select(.api == \"kmap\")'",
)


class SiteOrder(StrEnum):
    """Value of ``--sort``."""

    CALLS = "calls"
    COST = "cost"
    HELD = "held"
    LONGEST = "longest"
    SITE = "site"


def sites(
    capture: CaptureArgument,
    vmlinux: Annotated[
        Path | None,
        typer.Option(
            "--vmlinux",
            metavar="FILE",
            help="The kernel's vmlinux with debugging information; those of modules (.ko.debug, "
            ".ko) are looked for below its folder. Or a System.map.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[SiteOrder, typer.Option("--sort", help="What comes first.")] = SiteOrder.CALLS,
    number: Annotated[
        int, typer.Option("-n", "--number", metavar="N", min=1, help="Sites in the table.")
    ] = 20,
    costs: CostsOption = None,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show who maps: function, line and inlines, hold times, and whether kmap() could be local."""
    target = Output.create(
        output_format, color, output, force=force, captures=[capture], files=[costs, vmlinux]
    )
    from collectors import site_finder
    from hmtrace.cli.prepared import asked
    from hmtrace.report.callsites import (
        CallSites,
        callsites_document,
        callsites_renderables,
        nameless_note,
    )

    finder = site_finder(capture, vmlinux)
    told = asked(capture, costs, _ask, lambda _: True)  # kmap() converted
    source, callers = told.source, told.callers
    places = finder.of(use.site.site for use in callers.uses)
    sizes = told.sizes(finder.sizes())
    notes = (*finder.notes, *nameless_note(callers.uses))
    found = CallSites(callers, places, notes, sort.value, sizes)
    _warn_of_sizes(sizes)
    if target.is_json:
        from hmtrace.report.document import schema, source_document

        warn_of_loss(source)
        document = {**schema("sites"), **source_document(source), **callsites_document(found)}
        target.document(document | {"assumptions": list(told.assumptions)})
    else:
        target.table(*callsites_renderables(source, found, number))


class _Asked(NamedTuple):
    """What a capture says of its call sites, and its machine."""

    source: InputSummary
    assumptions: tuple[str, ...]
    callers: Callers
    machine: Machine
    layout: Layout

    def sizes(self, vmlinux: KernelSizes | None) -> tuple[SizeCheck, ...]:
        """What a vmlinux says of sizes beside it."""
        from hmtrace.report.vmlinux import size_checks

        if vmlinux is None:
            return ()
        return size_checks(vmlinux, self.layout, self.machine.page_struct)


def _warn_of_sizes(sizes: tuple[SizeCheck, ...]) -> None:
    from hmtrace.report.vmlinux import size_warning

    if warning := size_warning(sizes):
        sys.stderr.write(f"hmtrace: warning: {warning}\n")


def _ask(ready: Prepared) -> _Asked:
    """The call sites of a capture that is prepared."""
    from hmtrace.cli.machines import target_machine
    from replay.whatif.callers import callers_of

    server = ready.server()

    def converted(text: str) -> tuple[Outcome, Conversion]:
        machine = target_machine(ready.machine, None, convert=[text])
        calls = server.converted(machine)
        assert calls is not None  # it was asked for
        return server.on(machine), calls.outcome

    lossy = bool(ready.capture.lost.intervals)
    callers = callers_of(server, ready.workload, converted, lossy=lossy)
    layout = server.baseline.layout
    return _Asked(ready.source(), ready.assumptions, callers, ready.machine, layout)
