"""`hmtrace sites`: who maps, where in the source, for how long, and whether it could be local."""

# ruff: noqa: FBT002, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from collectors.errors import HmtraceError
from hmtrace.cli.captures import warn_of_loss
from hmtrace.cli.named import named
from hmtrace.cli.options import CAPTURES, ColorOption, CostsOption, ForceOption, OutputOption
from hmtrace.cli.output import Color, Output, OutputFormat
from hmtrace.cli.several import tell

if TYPE_CHECKING:
    from collectors.dwarf.sizes import KernelSizes
    from hmtrace.cli.prepared import Prepared
    from hmtrace.report.callsites_joined import SitesOf
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
    "hmtrace sites --format csv captures/board-7 > sites.csv",
    "hmtrace sites --format folded --by hold captures/board-7 | flamegraph.pl > held.svg",
    "hmtrace sites captures/before captures/after",
    "hmtrace sites --format json captures/board-7 | jq '.sites[] | select(.api == \"kmap\")'",
)


class SiteOrder(StrEnum):
    """Value of ``--sort``: a key of :data:`hmtrace.report.callsites.ORDERS` each."""

    CALLS = "calls"
    COST = "cost"
    HELD = "held"
    P99 = "p99"
    LONGEST = "longest"
    DEPTH = "depth"
    TASKS = "tasks"
    IRQ = "irq"
    SWITCH = "switch"
    ORDER = "order"
    OTHER_TASK = "other-task"
    AT_END = "at-end"
    BYTES = "bytes"
    MODULE = "module"
    API = "api"
    SITE = "site"


class SitesForm(StrEnum):
    """Value of ``--format``."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    FOLDED = "folded"


class FoldedBy(StrEnum):
    """Value of ``--by``: a key of :data:`hmtrace.export.folded.MEASURES` each."""

    COUNT = "count"
    HOLD = "hold"
    COST = "cost"


def sites(
    captures: Annotated[
        list[str], typer.Argument(metavar="CAPTURE...", help=CAPTURES, show_default=False)
    ],
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
    form: Annotated[
        SitesForm, typer.Option("--format", help="Form of the result.")
    ] = SitesForm.TABLE,
    by: Annotated[
        FoldedBy | None,
        typer.Option(
            "--by", help="What stacks of --format folded are counted by.", show_default="count"
        ),
    ] = None,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show who maps: function, line and inlines, hold times, and whether kmap() could be local.

    Of several captures the sites are joined by symbol. One that cannot be read is named and the
    others go on; the exit code is then 3.
    """
    captures = named(captures)
    if by is not None and form is not SitesForm.FOLDED:
        raise HmtraceError("--by is for --format folded", exit_code=2)
    as_json = OutputFormat.JSON if form is SitesForm.JSON else OutputFormat.TABLE
    target = Output.create(
        as_json, color, output, force=force, captures=captures, files=[costs, vmlinux]
    )
    if len(captures) == 1:
        one = _sites_of(captures[0], vmlinux, costs, sort)
        if form is SitesForm.FOLDED:
            _fold(target, [one], by)
        else:
            _show_one(target, form, one, number)
        return
    found, failed = [], False
    for capture in captures:
        try:
            found.append(_sites_of(capture, vmlinux, costs, sort))
        except HmtraceError as error:
            tell(error)
            failed = True
    if found and form is SitesForm.FOLDED:
        _fold(target, found, by)
    elif found:
        _show_joined(target, form, found, sort, number)
    if failed:
        raise typer.Exit(3)


def _sites_of(capture: str, vmlinux: Path | None, costs: Path | None, sort: SiteOrder) -> SitesOf:
    """The call sites of a capture, and where they are in the source."""
    from collectors import site_finder
    from hmtrace.cli.prepared import asked
    from hmtrace.report.callsites import CallSites, nameless_note
    from hmtrace.report.callsites_joined import SitesOf

    finder = site_finder(capture, vmlinux)
    told = asked(capture, costs, _ask, lambda _: True)  # kmap() converted
    places = finder.of(use.site.site for use in told.callers.uses)
    sizes = told.sizes(finder.sizes())
    notes = (*finder.notes, *nameless_note(told.callers.uses))
    _warn_of_sizes(sizes)
    found = CallSites(told.callers, places, notes, sort.value, sizes)
    return SitesOf(capture, told.source, told.assumptions, found)


def _fold(target: Output, found: list[SitesOf], by: FoldedBy | None) -> None:
    """Write stacks for flame graphs; of several captures each has its own."""
    from hmtrace.export.folded import folded

    for one in found:
        warn_of_loss(one.source)
    several = len(found) > 1
    stacks = ((one.name if several else "", one.found) for one in found)
    target.text(folded(stacks, (by or FoldedBy.COUNT).value))


def _show_one(target: Output, form: SitesForm, one: SitesOf, number: int) -> None:
    """Write what one capture says."""
    if form is SitesForm.TABLE:
        from hmtrace.report.callsites import callsites_renderables

        target.table(*callsites_renderables(one.source, one.found, number))
        return
    from hmtrace.report.callsites_document import callsites_csv, callsites_document

    warn_of_loss(one.source)
    if form is SitesForm.CSV:
        target.text(callsites_csv(one.found))
        return
    from hmtrace.report.document import schema, source_document

    document = {**schema("sites"), **source_document(one.source), **callsites_document(one.found)}
    document["notes"] = [*one.source.notes, *one.found.notes]
    target.document(document | {"assumptions": list(one.assumptions)})


def _show_joined(
    target: Output, form: SitesForm, found: list[SitesOf], sort: SiteOrder, number: int
) -> None:
    """Write what several captures say."""
    from hmtrace.report.callsites_joined import joined_csv, joined_document, joined_renderables

    if form is SitesForm.TABLE:
        target.table(*joined_renderables(found, sort.value, number))
        return
    for one in found:
        warn_of_loss(one.source)
    if form is SitesForm.CSV:
        target.text(joined_csv(found, sort.value))
    else:
        target.document(joined_document(found, sort.value))


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
