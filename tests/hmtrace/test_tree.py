"""The command line as data is the command line that users have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hmtrace.__main__
from hmtrace.cli import app, tree

ROOT = Path(__file__).parents[2]
COMMANDS = list(tree.root().walk())
_READ = re.compile(r"(?:environ(?:\.get\(|\[|\.setdefault\()|getenv\()\"?(\w+)")
_NOT_FOR_USERS = {
    "OPENBLAS_NUM_THREADS",
    "POLARS_ROW_GROUP_PREFETCH_SIZE",
    "_RJEM_MALLOC_CONF",
}
"""What hmtrace sets itself, for libraries."""
_BY_CONSTANT = {"LIMIT": "HMTRACE_FETCH_LIMIT", "name": "HMTRACE_PAGER"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_shows_what_the_tree_has(command: tree.Command) -> None:
    words = [*command.path.split()[1:], "--help"]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "300"}).stdout
    assert shown.splitlines()[0].split() == [
        "Usage:",
        *command.synopsis.replace("COMMAND ...", "COMMAND [ARGS]...").split(),
    ]
    squeezed = " ".join(shown.split())
    for parameter in (*command.arguments, *command.options):
        assert parameter.help in squeezed
        for name in (*parameter.names, *parameter.negations):
            assert name in squeezed
        if parameter.default:
            assert f"[default: {parameter.default}" in squeezed
        assert parameter.metavar in squeezed
    for text in (*command.description, *command.examples):
        assert text in squeezed
    told = {name for option in command.options for name in (*option.names, *option.negations)}
    options = shown.partition("Options:")[2].partition("\n\n")[0]
    for line in options.splitlines():
        names = re.match(r"  (-[\w, /-]*)", line)
        assert names is None or set(re.findall(r"--?[\w-]+", names[1])) <= told


def test_a_required_option_and_a_list_are_told() -> None:
    by_name = {command.name: command for command in COMMANDS}
    output = next(o for o in by_name["convert"].options if "--output" in o.names)
    assert output.is_required
    lists = [a for command in COMMANDS for a in command.arguments if a.is_repeatable]
    assert {argument.metavar for argument in lists} == {"CAPTURE..."}
    assert by_name["sweep"].synopsis == "hmtrace sweep [OPTIONS] CAPTURE..."
    assert by_name["synth"].synopsis == "hmtrace synth [OPTIONS] [SCENARIO]"
    sort = next(o for o in by_name["sites"].options if "--sort" in o.names)
    assert sort.choices[:2] == ("calls", "cost")


def test_every_variable_that_is_read_is_told() -> None:
    told = {name for names in tree.ENVIRONMENT for name in names.split(", ")}
    read = {
        _BY_CONSTANT.get(name, name)
        for package in ("hmtrace", "collectors", "replay")
        for path in (ROOT / package).rglob("*.py")
        for name in _READ.findall(path.read_text())
    }
    assert {"TERM", "HMTRACE_DEBUG", "XDG_CACHE_HOME"} <= read
    assert read - _NOT_FOR_USERS <= told


def test_every_exit_code_is_told() -> None:
    """Those that the entry point's description has."""
    described = (hmtrace.__main__.__doc__ or "").partition("Exit codes:")[2]
    numbers = {int(number) for number in re.findall(r"\b\d+\b", described)}
    assert numbers - {128, 143} == tree.EXIT_CODES.keys()
