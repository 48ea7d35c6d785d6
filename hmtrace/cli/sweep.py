"""`hmtrace sweep`: the same workload on every machine of a grid, or the least that suffices."""

# ruff: noqa: FBT002  (typer reads annotations and defaults at run time)

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from collectors.errors import HmtraceError
from hmtrace.cli.axes import parse_axes
from hmtrace.cli.fleet import FEW, Asking, FleetQuestion, gather, words_of
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
    Placement,
    PlacementOption,
    Timing,
    TimingOption,
)
from hmtrace.cli.output import Color, Output, OutputFormat, PageFile, check_target
from hmtrace.cli.repeating import command_line
from hmtrace.cli.several import check_who_serves, each
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hmtrace.cli.axes import Axis
    from hmtrace.cli.crew import Crew
    from hmtrace.cli.finding import Goal
    from hmtrace.cli.grid import Grid

EXAMPLES = (
    "hmtrace sweep captures/board-7 --axis split=3g,2g,1g --axis ram=512M..4G*2",
    "hmtrace sweep captures/board-7 --axis pkmap=64..1024*2 --by waits -o pools.parquet",
    "hmtrace sweep captures/board-7 --axis split=3g,2g --axis ram=1G..4G*2 --html map.html",
    "hmtrace sweep captures/a captures/b --axis split=3g,2g --format json",
    "hmtrace sweep captures/board-7 --find min:vmalloc --where failures=0",
    "hmtrace sweep captures/board-7 --find min:pkmap --where waits=0 --axis cpus=1,2,4",
)
_TABLES: Final = (".parquet", ".csv")
"""Endings of files that get one row per machine; what is on the terminal stays a report."""


def sweep(
    context: typer.Context,
    captures: Annotated[
        list[str],
        typer.Argument(metavar="CAPTURE...", help=CAPTURES, show_default=False),
    ],
    axis: Annotated[
        list[str] | None,
        typer.Option(
            "--axis",
            metavar="NAME=VALUES",
            help="Values of an option of the machine: split=3g,2g, ram=1G,2G, pkmap=64..1024*2, "
            "vmalloc=128M..512M+64M. May be given several times.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="FIGURE", help="What ranks the machines.")
    ] = "cost_ns",
    find: Annotated[
        str | None,
        typer.Option(
            "--find",
            metavar="min:NAME|max:NAME",
            help="Search the least or greatest value of an axis that meets --where.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="FIGURE=N",
            help="Machines that meet this: failures=0, waits<=10. May be given several times.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("-n", metavar="N", min=0, help="Machines to list; 0: all.")
    ] = 40,
    jobs: JobsOption = 1,
    cluster: ClusterOption = None,
    machine: MachineOption = None,
    costs: CostsOption = None,
    placement: PlacementOption = Placement.CLASS,
    timing: TimingOption = Timing.CLOSED,
    output_format: FormatOption = OutputFormat.TABLE,
    output: OutputOption = None,
    html: HtmlOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Replay a workload on every machine of a grid, best first.

    Every option that describes a machine can be an axis. What no kernel can have is left out and
    counted. With --find the values of one axis are searched instead.
    """
    from hmtrace.cli.grid import Grid
    from hmtrace.cli.where import parse_figure, parse_where

    captures = named(captures)
    files = [costs, machine]
    table = output if output is not None and output.suffix in _TABLES else None
    if table is not None:
        check_target(table, force=force, captures=captures, files=files)
    target = Output.create(
        output_format, color, None if table else output,
        force=force, captures=captures, files=files,
    )  # fmt: skip
    page = PageFile.create(
        html, output, force=force, captures=captures, files=files, command=command_line(context)
    )
    axes = parse_axes(axis or ())
    goal = _goal(find, axes)
    _require_values(axes, goal)
    conditions = parse_where(where or ())
    if goal is not None and not conditions:
        raise HmtraceError("--find needs --where", hint="such as --where failures=0", exit_code=2)
    if goal is None and not axes:
        raise HmtraceError(
            "there is nothing to sweep over", hint="such as --axis split=3g,2g", exit_code=2
        )
    ranked_by = parse_figure(by)
    if len(captures) > FEW and goal is None:
        options = {
            "axis": list(axis or ()), "by": ranked_by, "where": list(where or ()),
            "machine": words_of(machine), "costs": words_of(costs),
            "placement": placement.value, "timing": timing.value,
        }  # fmt: skip
        asking = Asking(jobs, cluster)
        _sweep_fleet(captures, options, asking, target, table, page, rows, force=force)
        return
    with _crew(jobs, cluster) as crew:
        grid = Grid(
            axes, machine, costs, placement.value, timing.value, ranked_by, conditions, crew
        )
        if goal is not None:
            _find(grid, goal, captures, target, page)
        else:
            _sweep(grid, captures, target, table, page, rows, force=force)


def _sweep_fleet(
    captures: list[str], options: dict[str, Any], asking: Asking, target: Output,
    table: Path | None, page: PageFile | None, rows: int, *, force: bool,
) -> None:  # fmt: skip
    """Many captures: each is swept for itself, and one page tells of all."""
    from hmtrace.report.document import schema
    from hmtrace.report.fleet import SweptFleet, swept_fleet_renderables

    axes = {axis.name: list(axis.words) for axis in parse_axes(options["axis"])}
    fleet = SweptFleet(tuple(axes), options["by"])
    found = gather(
        captures, FleetQuestion("sweep", options), asking, lambda entry: fleet.add(entry["fleet"])
    )
    if table is not None:
        rows_of = (row for entry in found for row in entry["machines"])
        _write_table(rows_of, tuple(axes), table, force=force)
    unreadable = [one.path for one in found.unreadable]
    if page is not None:
        from hmtrace.html.fleet import swept_fleet_page

        page.write(lambda: swept_fleet_page(fleet, unreadable, page.command))
    if target.is_json:
        head = {
            **schema("sweep"), "axes": axes, "unreadable": found.left_out(),
            "captures": [entry["capture"] for entry in found],
            "left_out": [one for entry in found for one in entry["left_out"]],
        }  # fmt: skip
        machines = (row for entry in found for row in entry["machines"])
        target.documents(head, "machines", machines)
    else:
        target.table(*swept_fleet_renderables(fleet, unreadable, rows or sys.maxsize))
    if found.code:
        raise typer.Exit(found.code)


def swept_entry(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """What the document says of a capture, and under `fleet` what the page of many needs."""
    from hmtrace.cli.crew import Alone
    from hmtrace.cli.grid import Grid
    from hmtrace.cli.where import parse_where
    from hmtrace.report.fleet import sweep_record
    from hmtrace.report.sweep import sweep_document

    paths = [options["machine"], options["costs"]]
    machine, costs = (None if path is None else Path(path) for path in paths)
    grid = Grid(
        parse_axes(options["axis"]), machine, costs, options["placement"], options["timing"],
        options["by"], parse_where(options["where"]), Alone(),
    )  # fmt: skip
    swept = grid.sweep(path)
    document = sweep_document([swept], {})
    return {
        "capture": document["captures"][0],
        "machines": document["machines"],
        "left_out": document["left_out"],
        "fleet": sweep_record(swept),
    }


@contextmanager
def _crew(jobs: int, cluster: str | None) -> Iterator[Crew]:
    """Who serves the machines."""
    check_who_serves(jobs, cluster)
    if cluster is not None:
        from hmtrace.cli.cluster import Cluster

        with Cluster(cluster) as workers:
            yield workers
    elif jobs > 1:
        from hmtrace.cli.jobs import Processes

        with Processes(jobs) as processes:
            yield processes
    else:
        from hmtrace.cli.crew import Alone

        yield Alone()


def _sweep(
    grid: Grid, captures: list[str], target: Output, table: Path | None, page: PageFile | None,
    rows: int, *, force: bool,
) -> None:  # fmt: skip
    sweeps = each(captures, grid.sweep)
    if table is not None:
        from hmtrace.report.sweep import machine_rows

        rows_of = (row for one in sweeps for row in machine_rows(one))
        _write_table(rows_of, tuple(axis.name for axis in grid.axes), table, force=force)
    if page is not None and sweeps:
        from hmtrace.html.sweep import sweep_page

        page.write(lambda: sweep_page(sweeps, page.command))
    if target.is_json:
        from hmtrace.report.sweep import sweep_document

        target.document(sweep_document(sweeps, {axis.name: axis.words for axis in grid.axes}))
    else:
        from hmtrace.report.sweep import sweep_renderables

        most = rows or sys.maxsize
        target.table(*(part for one in sweeps for part in sweep_renderables(one, most)))
    if len(sweeps) < len(captures):
        raise typer.Exit(3)


def _goal(find: str | None, axes: tuple[Axis, ...]) -> Goal | None:
    if find is None:
        return None
    from hmtrace.cli.finding import parse_goal

    return parse_goal(find, axes)


def _require_values(axes: tuple[Axis, ...], goal: Goal | None) -> None:
    """Refuse ranges without steps, but for the axis that is searched."""
    for axis in axes:
        if axis.ends is not None and (goal is None or axis.name != goal.name):
            raise HmtraceError(
                f"--axis: {axis.name} is a range without steps",
                hint="64..1024*2 doubles, 64M..256M+32M adds; --find searches a range",
                exit_code=2,
            )


def _find(
    grid: Grid, goal: Goal, captures: list[str], target: Output, page: PageFile | None
) -> None:
    searches = each(captures, lambda path: grid.find(path, goal))
    if page is not None and searches:
        from hmtrace.html.search import search_page

        page.write(lambda: search_page(searches, page.command))
    if target.is_json:
        from hmtrace.report.searching import search_document

        target.document(search_document(searches, goal.words))
    else:
        from hmtrace.report.searching import search_renderables

        target.table(*(part for one in searches for part in search_renderables(one)))
    if len(searches) < len(captures):
        raise typer.Exit(3)


def _write_table(
    rows: Iterable[dict[str, Any]], axes: tuple[str, ...], path: Path, *, force: bool
) -> None:
    """Write a row per machine as Parquet or CSV."""
    import polars as pl

    from hmtrace.cli.output import complete_file
    from replay.whatif.figures import FIGURES

    flat = []
    for row in rows:
        figures = row.pop("figures")
        caveats = row.pop("caveats")
        words = {f"axis_{name}": row.pop(name) for name in axes}
        flat.append(words | row | figures | {"caveats": "; ".join(caveats)})
    kinds: dict[str, Any] = {
        name: pl.Int64 if figure.is_whole else pl.Float64 for name, figure in FIGURES.items()
    }
    frame = pl.DataFrame(flat, schema_overrides=kinds, infer_schema_length=None)
    with complete_file(path, force=force) as temporary, temporary.open("wb") as file:
        if path.suffix == ".csv":
            frame.write_csv(file)
        else:
            frame.write_parquet(file)
    sys.stderr.write(f"wrote {clean(path)}\n")
