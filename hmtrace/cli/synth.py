"""`hmtrace synth`: synthetic traces with their true outcome."""

# ruff: noqa: FBT002, TC001, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from collectors.errors import HmtraceError, one_of
from hmtrace.cli import completion
from hmtrace.cli.options import ColorOption, ForceOption, PaeOption, RamOption, SplitOption
from hmtrace.cli.output import Color, Output, OutputFormat, stdout_errors
from hmtrace.cli.words import arch_name, split_name
from hmtrace.report.text import clean

if TYPE_CHECKING:
    from collectors.synthetic.board import Board
    from collectors.synthetic.produce import Writer
    from collectors.synthetic.scenario import Scenario

EXAMPLES = (
    "hmtrace synth --list",
    "hmtrace synth pool-full | hmtrace report -",
    "hmtrace synth minix-walk --seed 7 -o walk && hmtrace validate walk",
    "hmtrace synth kmap-deadlock --set tasks=30 --format trace.dat-v7 -o deadlock",
    "hmtrace synth mixed --arch arm --ram 2G --cpus 4 --events 1000000 -o big",
)
_SMALLEST, _LARGEST = 64 << 20, 64 << 30


class Form(StrEnum):
    """Value of ``--format``: of the trace, or of the list."""

    FTRACE = "ftrace-text"
    PERF = "perf-script"
    DAT7 = "trace.dat-v7"
    DAT6 = "trace.dat-v6"
    PARQUET = "hmtrace-parquet"
    TABLE = "table"
    JSON = "json"


def synth(
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="SCENARIO",
            help="One of --list.",
            autocompletion=completion.scenarios,
            show_default=False,
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Show the scenarios and their numbers.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of all chance.")] = 1,
    events: Annotated[
        int | None,
        typer.Option(
            "--events",
            metavar="N",
            min=1,
            help="Events after which the tasks wind down.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=N",
            help="A number of the scenario; again for more.",
            show_default=False,
        ),
    ] = None,
    arch: Annotated[
        str,
        typer.Option(
            "--arch", metavar="ARCH", help="i386 or arm.", autocompletion=completion.simulated
        ),
    ] = "i386",
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel",
            metavar="RELEASE",
            help="6.1, 6.5 or 6.12.",
            autocompletion=completion.kernels,
        ),
    ] = "6.1",
    split: SplitOption = None,
    ram: RamOption = None,
    pae: PaeOption = None,
    cpus: Annotated[
        int | None,
        typer.Option("--cpus", metavar="N", help="CPUs of the machine.", show_default=False),
    ] = None,
    ns: Annotated[
        bool | None,
        typer.Option(
            "--ns/--us",
            help="Digits of time in text: the kernel's has microseconds, perf script --ns more.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="Of the trace (else the output's name says it, else ftrace-text), or of --list.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Capture folder to make, or one file: .txt, .dat, .parquet. Without it text goes "
            "to stdout.",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Make a synthetic trace, by a simulated kernel that tells what really happened.

    A folder gets the trace, the machine's files as a recorder would copy them, and truth.json:
    the true outcome, which no other command reads. The same seed gives the same trace.
    """
    from collectors.synthetic.scenarios import SCENARIOS

    if listing:
        _list(form, color, output, force=force)
        return
    if scenario is None:
        raise HmtraceError("no scenario", hint="hmtrace synth --list shows them", exit_code=2)
    if scenario not in SCENARIOS:
        raise HmtraceError(
            f"there is no scenario {scenario!r}",
            hint=one_of(scenario, SCENARIOS),
            exit_code=2,
        )
    if form in (Form.TABLE, Form.JSON):
        raise HmtraceError(f"--format {form} is for --list", exit_code=2)
    chosen, form = SCENARIOS[scenario], form or _form_of(output)
    split = "3g" if split is None else split_name(split)
    board = _board(chosen, arch_name(arch), kernel, split, ram, pae, cpus)
    asked: dict[str, Any] = {"seed": seed, "events": events, "options": _numbers(settings or [])}
    chosen.values(asked["options"])  # a wrong one is told before any work is done
    if output is None or str(output) == "-":
        _to_stdout(chosen, board, form, ns, asked)
    else:
        _to_disk(chosen, board, form, ns, asked, output, force=force)


def _form_of(output: Path | None) -> Form:
    """Form that the name of the output asks for."""
    by_suffix = {".dat": Form.DAT7, ".parquet": Form.PARQUET}
    return Form.FTRACE if output is None else by_suffix.get(output.suffix, Form.FTRACE)


def _list(form: Form | None, color: Color, output: Path | None, *, force: bool) -> None:
    from hmtrace.report.scenarios import scenario_document, scenario_table

    wanted = OutputFormat.JSON if form is Form.JSON else OutputFormat.TABLE
    target = Output.create(wanted, color, output, force=force)
    if target.is_json:
        target.document(scenario_document())
    else:
        target.table(*scenario_table())


def _board(
    scenario: Scenario,
    arch: str,
    kernel: str,
    split: str,
    ram: str | None,
    pae: bool | None,  # noqa: FBT001
    cpus: int | None,
) -> Board:
    from collectors.synthetic.board import GIB, make_board
    from hmtrace.cli.sizes import parse_size

    size = GIB if ram is None else parse_size(ram, "--ram", low=_SMALLEST, high=_LARGEST)
    return make_board(
        arch,
        kernel=kernel,
        split=split,
        pae=(arch == "i386" and split not in ("3g_opt", "2g_opt")) if pae is None else pae,
        ram=size,
        cpus=scenario.cpus if cpus is None else cpus,
    )


def _numbers(settings: list[str]) -> dict[str, int]:
    out = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not (value.isascii() and value.isdigit()) or len(value) > 12:
            raise HmtraceError(
                f"--set {setting!r} is not NAME=NUMBER", hint="--set tasks=8", exit_code=2
            )
        out[name] = int(value)
    return out


def _writer(form: Form, stream: IO[bytes], board: Board, ns: bool | None) -> Writer:  # noqa: FBT001
    from collectors.synthetic.outputs.perf import PerfWriter
    from collectors.synthetic.outputs.text import TextWriter
    from collectors.synthetic.outputs.tracedat import TraceDatWriter

    if form is Form.FTRACE:
        return TextWriter(stream, board, ns=bool(ns))
    if form is Form.PERF:
        return PerfWriter(stream, board, ns=ns is not False)
    return TraceDatWriter(stream, board, version=6 if form is Form.DAT6 else 7)


def _to_stdout(
    scenario: Scenario,
    board: Board,
    form: Form,
    ns: bool | None,  # noqa: FBT001
    asked: dict[str, Any],
) -> None:
    from collectors.synthetic.produce import Production

    if form not in (Form.FTRACE, Form.PERF):
        raise HmtraceError(f"{form} cannot go to stdout", hint="give -o FOLDER", exit_code=2)
    with tempfile.TemporaryFile(prefix="hmtrace-") as spool:
        try:
            Production(scenario, board, _writer(form, spool, board, ns), **asked).run()
            spool.seek(0)
        except OSError as error:
            raise HmtraceError(
                f"cannot be simulated in {tempfile.gettempdir()}: {error.strerror}",
                hint="set TMPDIR to a folder with more room",
                exit_code=2,
            ) from error
        with stdout_errors():
            shutil.copyfileobj(spool, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()


def _to_disk(
    scenario: Scenario,
    board: Board,
    form: Form,
    ns: bool | None,  # noqa: FBT001
    asked: dict[str, Any],
    target: Path,
    *,
    force: bool,
) -> None:
    from collectors.synthetic.outputs.folder import is_file, new_capture
    from collectors.synthetic.produce import Production
    from hmtrace.cli.progress import ProgressBar
    from hmtrace.report.document import schema

    as_table = form is Form.PARQUET
    if as_table and target.suffix != ".parquet":
        raise HmtraceError(
            "a Parquet capture is one file", source=str(target), hint="end its name in .parquet",
            exit_code=2,
        )  # fmt: skip
    names = {Form.FTRACE: "trace.txt", Form.PERF: "perf-script.txt"}
    with new_capture(target, names.get(form, "trace.dat"), force=force) as capture:
        place = capture.folder / "trace.dat" if as_table else capture.trace
        with place.open("w+b") as stream, ProgressBar("simulating") as progress:
            writer = _writer(form, stream, board, ns)
            production = Production(scenario, board, writer, **asked, progress=progress)
            truth = production.run()
        if as_table or not is_file(target):
            capture.add(production.files)
        if as_table:
            from collectors.synthetic.outputs.parquet import write_parquet

            write_parquet(capture.folder, capture.trace, scenario.name)
        capture.add_truth({**schema("synth"), "format": form, **truth})
    sys.stderr.write(f"wrote {clean(target)}: {truth['recorded']} events, {form}\n")
