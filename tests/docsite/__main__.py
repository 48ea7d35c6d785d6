"""``python -m tests.docsite [FOLDER]``: make the site, say where it is and which links leave it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docsite.build import build, links_outside
from tests.readme import ROOT

FOLDER = ROOT / "build" / "docs"


def main() -> int:
    """Make the site in the folder that is named, else in build/docs."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FOLDER
    try:
        site = build(folder)
    except subprocess.CalledProcessError as error:
        return error.returncode
    print("links that leave the site, which nobody fetched:")  # noqa: T201
    for address, pages in links_outside(site).items():
        print(f"  {address}  ({pages[0]}, {len(pages)} in all)")  # noqa: T201
    print(f"open {site / 'index.html'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
