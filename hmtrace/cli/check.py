"""`hmtrace check`: rules that a capture must keep, for people and for continuous integration."""

# ruff: noqa: FBT002, TC003  (typer reads annotations and defaults at run time)

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collectors.errors import HmtraceError, meant
from hmtrace.cli import completion
from hmtrace.cli.captures import read
from hmtrace.cli.named import named
from hmtrace.cli.options import CAPTURES, ColorOption, ForceOption, OutputOption
from hmtrace.cli.output import Color, Output, OutputFormat
from hmtrace.cli.several import tell
from hmtrace.report.text import unglued

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hmtrace.report.checking import CheckedCapture, CheckRun, Ignored
    from replay.rules.rule import FindingRule

EXAMPLES = (
    "hmtrace check captures/board-7",
    "hmtrace check captures/ --fail-on warning --format junit -o check.xml",
    "hmtrace check captures/board-7 --rule all,local-depth=12",
    "hmtrace check captures/board-7 --format json -o known.json",
    "hmtrace check captures/board-8 --baseline known.json --ignore slow-calls@kworker*",
    "hmtrace check captures/board-8 --ignore 'kmap-held@dir_get_page until 2026-12-31'",
    "hmtrace check --rules",
)
ALL = "all"


class CheckForm(StrEnum):
    """Value of ``--format``."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    GITHUB = "github"


class Severity(StrEnum):
    """Value of ``--fail-on``."""

    PROBLEM = "problem"
    WARNING = "warning"
    INFO = "info"


def check(
    captures: Annotated[
        list[str] | None,
        typer.Argument(metavar="CAPTURE...", help=CAPTURES, show_default=False),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="NAME[=VALUE]",
            help="Look at this rule alone, perhaps with another limit; again, or NAME,NAME, for "
            "more; all,NAME=VALUE for every rule and a limit.",
            autocompletion=completion.rules,
            show_default=False,
        ),
    ] = None,
    fail_on: Annotated[
        Severity, typer.Option("--fail-on", help="Least severity that makes it exit with 1.")
    ] = Severity.PROBLEM,
    fail_on_unknown: Annotated[
        bool,
        typer.Option("--fail-on-unknown", help="Exit with 1 also where a rule lacks its evidence."),
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            metavar="NAME[@PATTERN][ until DAY]",
            help="Do not count findings of a rule, of all or of functions and tasks like PATTERN, "
            "perhaps up to a day (YYYY-MM-DD).",
            show_default=False,
        ),
    ] = None,
    ignore_file: Annotated[
        Path | None,
        typer.Option(
            "--ignore-file",
            metavar="FILE",
            help="Lines as of --ignore, with remarks behind #.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="JSON document of an earlier check: what it found does not count.",
            show_default=False,
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--rules", help="List the rules: what each says, and what to do.")
    ] = False,
    form: Annotated[
        CheckForm, typer.Option("--format", help="Form of the result.")
    ] = CheckForm.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Look for leaks, deadlocks, wrong order, storms and failures, and fail where one is found.

    Exit code 1: something was found at or above --fail-on. A rule whose evidence is not in the
    capture says so. A capture that cannot be read is named and the others go on; the exit code is
    then 3.
    """
    captures = named(captures or [])
    as_json = OutputFormat.JSON if form is CheckForm.JSON else OutputFormat.TABLE
    target = Output.create(
        as_json, color, output, force=force, captures=captures, files=[baseline, ignore_file]
    )
    chosen, limits = _chosen(rule or [])
    if listing:
        _list(target, form, chosen)
        return
    if not captures:
        raise HmtraceError("no capture", hint="--rules lists the rules", exit_code=2)
    from hmtrace.cli.baseline import read_baseline
    from hmtrace.report.checking import CheckRun, Excuses

    excuses = Excuses(
        _ignored(ignore or [], ignore_file),
        {} if baseline is None else read_baseline(baseline),
        datetime.now(UTC).date(),
    )
    result = CheckRun(
        tuple(_checked(path, chosen, limits) for path in captures),
        chosen,
        limits,
        fail_on.value,
        fail_on_unknown,
        excuses,
    )
    _show(target, form, result)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show(target: Output, form: CheckForm, result: CheckRun) -> None:
    """Write the result in its form."""
    if form is CheckForm.JSON:
        from hmtrace.report.check import check_document

        target.document(check_document(result))
    elif form is CheckForm.SARIF:
        from hmtrace.report.check_forms import sarif

        target.document(sarif(result))
    elif form is CheckForm.TABLE:
        from hmtrace.report.check import check_renderables

        target.table(*check_renderables(result))
    else:
        from hmtrace.report.check_forms import github, junit

        target.text(junit(result) if form is CheckForm.JUNIT else github(result))


def _list(target: Output, form: CheckForm, rules: tuple[FindingRule, ...]) -> None:
    from hmtrace.report.check import rules_document, rules_renderables
    from hmtrace.report.document import schema

    if form is CheckForm.JSON:
        target.document({**schema("check"), "rules": rules_document(rules)})
    elif form is CheckForm.TABLE:
        target.table(*rules_renderables(rules))
    else:
        raise HmtraceError(
            f"--rules has no form {form.value}", hint="--format table or json", exit_code=2
        )


def _checked(
    path: str, rules: tuple[FindingRule, ...], limits: Mapping[str, float]
) -> CheckedCapture:
    """Look at a capture."""
    from hmtrace.cli.enough import with_enough
    from hmtrace.cli.machines import captured_machine
    from hmtrace.cli.report import figures
    from hmtrace.report.checking import CheckedCapture
    from hmtrace.report.source import lost_in_words
    from replay.rules.judge import look

    try:
        capture = read(path)
        machine, _ = captured_machine(capture, None)
        outcome = figures(capture, machine)
    except HmtraceError as error:
        tell(error)
        return CheckedCapture(path, error=str(error))
    looked = look(outcome, capture.facts.snapshot(), capture.lost, rules, limits)
    looked = with_enough(path, looked)
    lost = unglued(lost_in_words(capture.lost)) if capture.lost.intervals else ""
    return CheckedCapture(path, looked, lost)


def _chosen(words: Iterable[str]) -> tuple[tuple[FindingRule, ...], dict[str, float]]:
    """The rules that ``--rule`` names, and their limits.

    Raises
    ------
    HmtraceError
        Exit code 2: there is no such rule, or it has no limit.
    """
    from replay.rules.judge import RULES

    every = {rule.name: rule for rule in RULES if not rule.is_advice}
    names: dict[str, None] = {}
    limits: dict[str, float] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        name, equals, value = word.partition("=")
        if name == ALL and not equals:
            names |= dict.fromkeys(every)
            continue
        _require_rule("--rule", name, every)
        names[name] = None
        if equals:
            limits[name] = _limit(every[name], value)
    rules = tuple(rule for name, rule in every.items() if not names or name in names)
    return rules, limits


def _limit(rule: FindingRule, text: str) -> float:
    if rule.limit is None:
        raise HmtraceError(f"--rule: {rule.name} has no limit", exit_code=2)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise HmtraceError(
            f"--rule: {text!r} is no limit for {rule.name}",
            hint=f"a number of {rule.limit.unit}",
            exit_code=2,
        )
    return value


def _ignored(words: Iterable[str], file: Path | None) -> tuple[Ignored, ...]:
    """What ``--ignore`` and ``--ignore-file`` say to leave out."""
    from hmtrace.cli.ignoring import ignored_from, read_ignored
    from replay.rules.judge import RULES

    names = {rule.name for rule in RULES}
    told = [ignored_from(text, names) for text in words]
    return (*told, *(read_ignored(file, names) if file is not None else ()))


def _require_rule(option: str, name: str, every: Mapping[str, FindingRule]) -> None:
    if name not in every:
        hint = meant(name, every) or "hmtrace check --rules lists them"
        raise HmtraceError(f"{option}: there is no rule {name!r}", hint=hint, exit_code=2)
