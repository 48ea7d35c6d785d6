"""Wrong usage in the words of all other errors: what is wrong, and a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors.errors import HmtraceError, meant

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 60
"""Characters of a word of the user's in a message."""


def as_error(error: Any) -> HmtraceError:
    """What typer found wrong with a command line.

    Parameters
    ----------
    error
        A UsageError of typer's, which it has no public name for: with ``format_message()``, and
        with ``ctx``, ``option_name`` where they are known.

    Returns
    -------
    HmtraceError
        Exit code 2.
    """
    context = getattr(error, "ctx", None)
    where = getattr(context, "command_path", "").partition(" ")[2]
    hint = f"'{'hmtrace ' + where if where else 'hmtrace'} --help' tells what there is"
    words = error.format_message().replace("Value error, ", "").rstrip(".")
    option = getattr(error, "option_name", None)
    if context is not None and words.startswith("No such option") and option:
        words = f"no option {option[:_LONGEST]}"
        hint = _with_option(context, option) or hint
    elif context is not None and words.startswith("No such command"):
        word = _quoted(words)[:_LONGEST]
        words = f"no command {word}"
        hint = meant(word, context.command.commands) or hint
    elif "is not one of" in words:
        values = getattr(getattr(getattr(error, "param", None), "type", None), "choices", ())
        hint = meant(_quoted(words.partition(": ")[2]), values) or hint
    words = words[:1].lower() + words[1:]
    return HmtraceError(f"{where}: {words}" if where else words, hint=hint, exit_code=2)


def _with_option(context: Any, option: str) -> str:
    """Which commands have an option that this one has not, or what may have been meant."""
    commands = getattr(context.find_root().command, "commands", {})
    have = [name for name, command in commands.items() if option in _options(command)]
    if have:
        names = [f"'hmtrace {name}'" for name in have]
        several = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
        return f"{several} {'have' if names[1:] else 'has'} it"
    return meant(option[:_LONGEST], _options(context.command))


def _options(command: Any) -> Iterable[str]:
    names = (name for p in command.params for name in (*p.opts, *p.secondary_opts))
    return [name for name in names if name[:1] == "-"]


def _quoted(words: str) -> str:
    """What stands between the first quotation marks."""
    return words.partition("'")[2].partition("'")[0]
