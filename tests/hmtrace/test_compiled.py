"""The folder of compiled loops follows the source and never gets in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from hmtrace import compiled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    return tmp_path


def test_folder_is_named_by_the_source(environment: Path) -> None:
    compiled.use_cache_folder()
    expected = environment / "hmtrace" / compiled.source_digest()
    assert os.environ["NUMBA_CACHE_DIR"] == str(expected)
    assert expected.is_dir()


def test_changed_source_changes_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is compiled counts, and what its modules import; the rest of the program does not."""
    files = {
        "collectors/__init__.py": "",
        "collectors/layout.py": "SIZE = 1\n",
        "replay/__init__.py": "",
        "replay/slots.py": "SLOTS = 512\n",
        "replay/report.py": "TITLE = 1\n",
        "replay/pool/replay.py": (
            "from collectors import layout\nfrom replay.slots import (\n    SLOTS,\n)\n\n"
            "if __debug__:\n    from replay import report\n\n\n@loop\ndef run(): ...\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "hmtrace" / "compiled.py"))
    seen = {compiled.source_digest()}
    for name in ("collectors/layout.py", "replay/slots.py", "replay/pool/replay.py"):
        (tmp_path / name).write_text(files[name] + "# changed\n")
        seen.add(compiled.source_digest())
    assert len(seen) == 4
    (tmp_path / "replay/report.py").write_text("TITLE = 2\n")
    assert compiled.source_digest() in seen


def test_the_model_and_the_scanners_are_among_the_compiled() -> None:
    found = compiled.compiled_modules(compiled._sources())
    assert {"replay.pool.loops.highmem", "collectors.text.scan", "collectors.probes"} <= found


def test_the_users_choice_stays(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    compiled.use_cache_folder()
    assert os.environ["NUMBA_CACHE_DIR"] == "/somewhere"


def test_unwritable_home_falls_back(environment: Path) -> None:
    (environment / "hmtrace").write_text("a file where the folder should be")
    compiled.use_cache_folder()
    assert os.environ["NUMBA_CACHE_DIR"].startswith(str(environment / "tmp"))


def test_old_folders_go(environment: Path) -> None:
    base = environment / "hmtrace"
    for number in range(9):
        folder = base / f"{number:016x}"
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    (base / "notes").mkdir()
    compiled.use_cache_folder()
    left = {f.name for f in base.iterdir()}
    assert compiled.source_digest() in left
    assert "notes" in left
    assert len(left) == 1 + compiled._KEEP


def test_the_first_run_is_recognised(environment: Path) -> None:
    compiled.use_cache_folder()
    assert compiled.is_first_run()
    folder = environment / "hmtrace" / compiled.source_digest()
    (folder / "pool.nbi").touch()
    assert not compiled.is_first_run()
