"""What a system installs beside the program: manual pages and completions, from the command tree.

:func:`files` has all of them, by the place where they belong below ``/usr``. The build
(``hatch_build.py``) puts them into the wheel, so ``pip install`` and ``make install`` do, too.

Written here, because what exists does not fit: click-man and sphinx-click ask click, which typer
0.28 no longer is; click-man has had two releases in five years; help2man guesses from the text of
``--help``; pandoc and scdoc are programs that a build would need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hmtrace.manual.completions import completions
from hmtrace.manual.pages import pages

if TYPE_CHECKING:
    from collections.abc import Mapping


def files(date: str = "") -> Mapping[str, str]:
    """Text of every file, by its path below the prefix.

    Parameters
    ----------
    date
        As of :func:`hmtrace.manual.pages.pages`.

    Examples
    --------
    >>> sorted(files())[:2]
    ['share/bash-completion/completions/hmtrace', 'share/fish/vendor_completions.d/hmtrace.fish']
    >>> "share/man/man1/hmtrace-report.1" in files()
    True
    """
    manual = {f"share/man/man1/{name}.1": text for name, text in pages(date).items()}
    return completions() | manual
