"""What stands in the way of a release: ``python -m tests.release``, as ``make release`` asks it.

The version has one place, ``hmtrace/__init__.py``; the changelog has to have a heading with its
day, and nothing may be left that nobody committed or that bears the version's tag already.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hatch_build import released
from hmtrace import __version__

ROOT = Path(__file__).parents[1]
_UNRELEASED = re.compile(r"(?ms)^## \[Unreleased\]\n(.*?)(?=^## |\Z)")


def obstacles(root: Path, version: str) -> list[str]:
    """What has to be mended first.

    Parameters
    ----------
    root
        Checkout.
    version
        To be released.

    Returns
    -------
    list of str
        Sentences without a full stop; none: it may be released.
    """
    found = []
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not released(root, version):
        found.append(f"CHANGELOG.md has no heading '## [{version}] - YEAR-MONTH-DAY'")
    rest = _UNRELEASED.search(text)
    if rest is not None and rest[1].strip():
        found.append("CHANGELOG.md has changes under [Unreleased]")
    if not re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", version):
        found.append(f"{version} is no version of a release")
    if _git(root, "status", "--porcelain"):
        found.append("git status is not clean")
    if _git(root, "tag", "--list", f"v{version}"):
        found.append(f"the tag v{version} is there already")
    return found


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True, timeout=60
    ).stdout


if __name__ == "__main__":
    reasons = obstacles(ROOT, __version__)
    sys.stderr.writelines(f"release: {words}\n" for words in reasons)
    sys.exit(bool(reasons))
