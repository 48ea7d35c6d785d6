"""Scripts by which bash, zsh and fish complete command lines: typer's, as they are installed."""

from __future__ import annotations

from typing import Final

_PLACES: Final = {
    "bash": "share/bash-completion/completions/hmtrace",
    "zsh": "share/zsh/site-functions/_hmtrace",
    "fish": "share/fish/vendor_completions.d/hmtrace.fish",
}
_REGISTER: Final = "compdef _hmtrace_completion hmtrace"
_COMPLETE: Final = '_hmtrace_completion "$@"'


def completions() -> dict[str, str]:
    """Scripts by their paths below the prefix; ``--show-completion`` prints much the same."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    scripts = {
        place: get_completion_script(
            prog_name="hmtrace", complete_var="_HMTRACE_COMPLETE", shell=shell
        )
        + "\n"
        for shell, place in _PLACES.items()
    }
    # A file that zsh loads at the first Tab has to complete then and there; its "#compdef" line
    # is what registers it.
    zsh = _PLACES["zsh"]
    scripts[zsh] = scripts[zsh].replace(_REGISTER, _COMPLETE)
    return scripts
