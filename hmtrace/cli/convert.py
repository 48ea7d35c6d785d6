"""`hmtrace convert`: the event table of a capture as a file for other programs."""

# ruff: noqa: FBT002, TC001, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from collectors.errors import HmtraceError, meant
from hmtrace.cli.captures import convert_to_capture, read
from hmtrace.cli.options import CaptureArgument, ForceOption
from hmtrace.cli.output import (
    check_stdout,
    check_target,
    complete_file,
    refuse_stdout,
    stdout_errors,
)
from hmtrace.report.text import ascii_json, clean, inert, unglued

if TYPE_CHECKING:
    from collections.abc import Callable

    from collectors.capture import Capture
    from hmtrace.cli.prepared import Prepared


class TableFormat(StrEnum):
    """Value of ``--format``."""

    PARQUET = "parquet"
    ARROW = "arrow"
    CSV = "csv"
    NDJSON = "ndjson"
    WORKLOAD = "workload"
    PFTRACE = "pftrace"


_ENDINGS: Final = {f".{form}": form for form in TableFormat} | {
    ".jsonl": TableFormat.NDJSON,
    ".perfetto-trace": TableFormat.PFTRACE,
}

_CAPTURES: Final = (TableFormat.PARQUET, TableFormat.ARROW)
"""Files that are captures themselves."""
_NO_PIPES: Final = {
    TableFormat.PARQUET: "a Parquet file",
    TableFormat.ARROW: "an Arrow file",
    TableFormat.PFTRACE: "a trace for Perfetto",
}
"""Files that are not written from beginning to end."""
_ROWS: Final = 1 << 16
"""Rows of text that are written at a time."""

EXAMPLES = (
    "hmtrace convert captures/board-7 -o board-7.parquet",
    "hmtrace report board-7.parquet",
    "hmtrace convert trace.dat -o trace.arrow",
    "hmtrace convert trace.txt.gz -o events.csv",
    "hmtrace convert trace.dat --format ndjson -o - | head -1",
    "hmtrace convert captures/board-7 -o board-7.workload",
    "hmtrace convert captures/board-7 -o board-7.pftrace",
)


def convert(
    capture: CaptureArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .parquet, .arrow, .csv, .ndjson, .workload or .pftrace; - is "
            "stdout.",
            show_default=False,
        ),
    ],
    output_format: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Form of the table, where the file's name does not say it."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the event table of a capture; a Parquet or Arrow file is a capture itself.

    A workload file holds no events but what replay, sweep and advise need of them: it is what
    travels from many boards to one place. A .pftrace is for ui.perfetto.dev: calls, waits and
    holds by task, the state of pool, stacks and arena as counters, findings.
    """
    form = _form(output, output_format)
    if str(output) == "-":
        if form in _NO_PIPES:
            raise HmtraceError(
                f"{_NO_PIPES[form]} cannot be written to a pipe",
                exit_code=2,
                hint="give a file with -o, or --format csv or ndjson",
            )
        check_stdout([capture])
        if form is TableFormat.WORKLOAD:
            _pack(capture, _to_stdout)
            return
        opened = read(capture)
        refuse_stdout()
        with stdout_errors():
            _write_text(opened, form, sys.stdout.buffer, is_terminal=sys.stdout.isatty())
            sys.stdout.buffer.flush()
        _tell(opened, None)
        return
    check_target(output, force=force, captures=[capture])
    with complete_file(output, force=force) as temporary:
        if form in _CAPTURES:
            opened = convert_to_capture(capture, temporary, form)
        elif form is TableFormat.WORKLOAD:
            with temporary.open("wb") as file:
                opened = _pack(capture, file.write)
        elif form is TableFormat.PFTRACE:
            with temporary.open("wb") as file:
                opened = _draw(capture, file)
        else:
            opened = read(capture)
            with temporary.open("wb") as file:
                _write_text(opened, form, file)
    _tell(opened, output)


def _form(output: Path, wanted: TableFormat | None) -> TableFormat:
    """Form of the result by the option, else by the file's name."""
    if wanted is not None:
        return wanted
    if output.suffix == ".json":
        raise HmtraceError(
            "a .json file could be many things",
            source=str(output),
            exit_code=2,
            hint="a trace for Perfetto ends in .pftrace, one JSON object a line in .ndjson",
        )
    if output.suffix not in _ENDINGS:
        raise HmtraceError(
            "the name of the output file does not say what to write",
            source=str(output),
            exit_code=2,
            hint=meant(output.suffix, _ENDINGS)
            or "end it in .parquet, .arrow, .csv, .ndjson, .workload or .pftrace",
        )
    return _ENDINGS[output.suffix]


def _pack(capture: str, write: Callable[[bytes], object]) -> Capture:
    """Write the workload of a capture, from the cache or distilled."""
    from hmtrace.cli.packing import pack
    from hmtrace.cli.prepared import asked

    def packed(ready: Prepared) -> Capture:
        pack(ready, write)
        return ready.capture

    return asked(capture, None, packed, lambda _: True)  # with all that may be asked of it


def _draw(capture: str, file: BinaryIO) -> Capture:
    """Write a trace for Perfetto."""
    from hmtrace.cli.machines import captured_machine
    from hmtrace.cli.progress import ProgressBar
    from hmtrace.export.perfetto.trace import write_perfetto

    opened = read(capture)
    machine, _ = captured_machine(opened, None)
    with ProgressBar("converting") as progress:
        left_out = write_perfetto(opened, machine, file, progress)
    if left_out:
        sys.stderr.write(
            f"hmtrace: warning: {left_out} calls and mappings found no place on a track: they are "
            "instants there, or left out\n"
        )
    return opened


def _to_stdout(data: bytes) -> None:
    refuse_stdout()
    with stdout_errors():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _write_text(
    capture: Capture, form: TableFormat, file: BinaryIO, *, is_terminal: bool = False
) -> None:
    """Write the table as text, batch by batch.

    Names are foreign: NDJSON is ASCII, so that none of them reaches a terminal raw. CSV holds them
    as they are for other programs; a terminal gets what it might act on in words.
    """
    from collectors.events import empty

    if form is TableFormat.CSV:
        file.write(empty().write_csv().encode())
    for frame in capture.batches(_ROWS):
        if form is TableFormat.CSV:
            text = frame.write_csv(include_header=False)
            text = inert(text) if is_terminal else text
        else:
            text = ascii_json(frame.write_ndjson())
        file.write(text.encode())


def _tell(capture: Capture, output: Path | None) -> None:
    """Say on stderr what was written, and what the trace had lost."""
    if capture.lost.intervals:
        from hmtrace.report.source import lost_in_words

        sys.stderr.write(f"hmtrace: warning: {unglued(lost_in_words(capture.lost))}\n")
    if output is not None:
        sys.stderr.write(f"wrote {clean(output)}\n")
