"""`hmtrace recorder`: the shell script that makes a capture on the board."""

# ruff: noqa: FBT002, TC001  (typer reads annotations and defaults at run time)

from __future__ import annotations

from hmtrace.cli.options import ForceOption, OutputOption
from hmtrace.cli.output import Color, Output, OutputFormat

EXAMPLES = (
    "hmtrace recorder -o hmrecord.sh",
    "hmtrace recorder | ssh root@board sh -s -- -o - -t 10 > cap.tar.gz",
    "hmtrace recorder | ssh root@board sh -s -- --check",
)


def recorder(output: OutputOption = None, force: ForceOption = False) -> None:
    """Write the recorder: one POSIX shell script for the board.

    There, as root: sh hmrecord.sh [-o cap.tar.gz] [-t SECONDS | -- COMMAND...]; --help tells
    more. It needs a kernel with CONFIG_KPROBE_EVENTS and any shell, busybox's too; the capture is
    an input of every other command.
    """
    target = Output.create(OutputFormat.TABLE, Color.NEVER, output, force=force)
    from hmtrace.recorder import recorder_script

    target.text(recorder_script())
