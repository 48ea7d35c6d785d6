"""Manual pages of the program and of its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hmtrace import __version__
from hmtrace.cli import FIRST_STEPS, tree
from hmtrace.manual import roff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COMMON_CODES: Final = 4
"""Exit codes that the page of a command repeats."""
_FEW: Final = 4
"""Values that stand beside the option's name; more stand below it."""


def pages(date: str = "") -> dict[str, str]:
    """Manual pages, by their names without the section.

    Parameters
    ----------
    date
        Of the release, ``2026-12-31``; empty: it is none.

    Examples
    --------
    >>> sorted(pages())[:3]
    ['hmtrace', 'hmtrace-advise', 'hmtrace-check']
    """
    program = tree.root()
    names = ["hmtrace", *map(_page_of, program.commands)]
    found = {"hmtrace": _program_page(program)}
    for command in program.commands:
        found[_page_of(command)] = _command_page(command, names)
    return {name: _head(name, date) + text for name, text in found.items()}


def _head(page: str, date: str) -> str:
    name, version = roff.literal(page.upper()), roff.literal(__version__)
    return (
        '.\\" Made by hmtrace.manual from the command line itself.\n'
        f'.TH {name} 1 "{date}" "hmtrace {version}" "User Commands"\n'
        ".ad l\n"
    )


def _page_of(command: tree.Command) -> str:
    return command.path.replace(" ", "-")


def _program_page(program: tree.Command) -> str:
    below = [
        (f"{roff.bold(_page_of(command))}(1)", roff.prose(command.summary))
        for command in program.commands
    ]
    steps = [(roff.bold(line), roff.prose(words)) for line, words in FIRST_STEPS.items()]
    return _page(
        program,
        roff.section("DESCRIPTION", *roff.paragraphs(program.description)),
        roff.section("COMMANDS", *roff.terms(below)),
        roff.section("OPTIONS", *roff.terms(map(_told, program.options))),
        roff.section("FIRST STEPS", *roff.terms(steps)),
        _exit_status(tree.EXIT_CODES),
        roff.section(
            "ENVIRONMENT",
            *roff.terms(
                (", ".join(map(roff.bold, names.split(", "))), roff.prose(words))
                for names, words in tree.ENVIRONMENT.items()
            ),
        ),
        roff.section(
            "FILES",
            *roff.terms(
                (roff.italic(path), roff.prose(words)) for path, words in tree.FILES.items()
            ),
        ),
        _see_also([*map(_page_of, program.commands), "trace-cmd", "perf"]),
    )


def _command_page(command: tree.Command, all_pages: list[str]) -> str:
    codes = {code: tree.EXIT_CODES[code] for code in list(tree.EXIT_CODES)[:_COMMON_CODES]}
    return _page(
        command,
        roff.section("DESCRIPTION", *roff.paragraphs(command.description)),
        roff.section("ARGUMENTS", *roff.terms(map(_told, command.arguments))),
        roff.section("OPTIONS", *roff.terms(map(_told, command.options))),
        roff.section("EXAMPLES", *roff.lines(command.examples)),
        _exit_status(codes),
        _see_also(page for page in all_pages if page != _page_of(command)),
    )


def _page(command: tree.Command, *sections: str) -> str:
    page = _page_of(command)
    summary = command.summary[0].lower() + command.summary[1:]
    first = (
        roff.section("NAME", f"{roff.literal(page)} \\- {roff.literal(summary)}"),
        roff.section("SYNOPSIS", _synopsis(command)),
    )
    return "\n".join([*first, *filter(None, sections)]) + "\n"


def _synopsis(command: tree.Command) -> str:
    name, rest = roff.bold(command.path), command.synopsis.removeprefix(command.path).split()
    return " ".join([name, *map(_placed, rest)])


def _placed(word: str) -> str:
    """A word of a synopsis that stands for another: in italics, but its brackets and dots."""
    inner = word.strip("[].")
    if not inner:
        return word
    before, after = word.split(inner, 1)
    return before + roff.italic(inner) + after


def _told(parameter: tree.Parameter) -> tuple[str, str]:
    """A parameter as a term and its paragraph."""
    if parameter.is_argument:
        term = _placed(parameter.metavar)
    else:
        term = ", ".join(map(roff.bold, (*parameter.names, *parameter.negations)))
        term += f" {_value(parameter)}" if parameter.metavar else ""
    told = [
        f"one of {', '.join(parameter.choices)}" if len(parameter.choices) > _FEW else "",
        f"default: {parameter.default}" if parameter.default else "",
        parameter.bounds,
        "required" if parameter.is_required and not parameter.is_argument else "",
    ]
    aside = "; ".join(filter(None, told))
    return term, roff.prose(f"{parameter.help} [{aside}]" if aside else parameter.help)


def _value(parameter: tree.Parameter) -> str:
    if len(parameter.choices) > _FEW:
        return roff.italic("VALUE")
    if parameter.choices:
        return "|".join(map(roff.bold, parameter.choices))
    return roff.italic(parameter.metavar)


def _exit_status(codes: Mapping[int, str]) -> str:
    return roff.section(
        "EXIT STATUS",
        *roff.terms((roff.bold(str(code)), roff.prose(words)) for code, words in codes.items()),
    )


def _see_also(names: Iterable[str]) -> str:
    return roff.section("SEE ALSO", ",\n".join(f"{roff.bold(name)}(1)" for name in names))
