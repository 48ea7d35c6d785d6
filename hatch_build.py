"""Build hook: manual pages and completions go into the wheel, made of the command tree."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Shared(BuildHookInterface[Any]):
    """Adds what :mod:`hmtrace.manual` makes to a wheel, below ``share/``."""

    PLUGIN_NAME = "custom"
    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files where the builder can take them from; an editable wheel has none."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from hmtrace import __version__
        from hmtrace.manual import files

        self._folder = tempfile.mkdtemp(prefix="hmtrace-build-")
        for place, text in files(released(Path(self.root), __version__)).items():
            file = Path(self._folder, place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            file.chmod(0o644)
            build_data["shared_data"][str(file)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove them."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def released(root: Path, version: str) -> str:
    """Day of a release as the changelog has it, ``2026-12-31``; empty: it is none yet."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"(?m)^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$", text)
    return "" if found is None else found[1]
