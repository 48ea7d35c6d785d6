"""What is built from the tree is whole, and runs where there is no tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING

import polars
import pytest
from markdown_it import MarkdownIt

from collectors.compiled.store import cache_home
from hatch_build import released
from hmtrace import __version__
from hmtrace.manual import files
from tests.release import obstacles

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[1]
PACKAGES = ("hmtrace", "collectors", "replay")
INFO = f"hmtrace-{__version__}.dist-info"
SHARED = f"hmtrace-{__version__}.data/data/"


def build(root: Path, target: Path, *words: str) -> None:
    """Run the build's backend as pip does, without a network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target), *words],
        cwd=root, check=True, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a wheel and a source distribution of this tree."""
    target = tmp_path_factory.mktemp("dist")
    build(ROOT, target)
    return target


def wheel_of(folder: Path) -> Path:
    return next(folder.glob("*.whl"))


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_string(archive.read(f"{INFO}/METADATA").decode())


def in_tree(*folders: str) -> set[str]:
    """Files that git knows, or would take."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard",
         "--", *folders],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_has_every_file_of_the_packages_and_what_a_system_installs(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as archive:
        names = set(archive.namelist())
        shared = {name.removeprefix(SHARED) for name in names if name.startswith(SHARED)}
        for name, text in files().items():
            assert archive.read(SHARED + name).decode() == text
    licences = {name for name in names if name.startswith(f"{INFO}/licenses/")}
    info = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    assert names == in_tree(*PACKAGES) | {SHARED + name for name in shared} | licences | info
    assert shared == {*files(), "share/doc/hmtrace/CHANGELOG.md"}
    for name in ("hmtrace/recorder/hmrecord.sh", "replay/machine/costs.toml", "hmtrace/py.typed"):
        assert name in names
    assert {f"share/man/man1/hmtrace-{name}.1" for name in ("report", "synth")} <= shared


def test_whose_work_is_in_the_wheel_is_told(built: Path) -> None:
    """Each folder with what others wrote for browsers has their licence, and the wheel, too."""
    foreign = {
        Path(name).parent for name in in_tree(*PACKAGES) if name.endswith((".min.js", ".min.css"))
    }
    told = set(metadata_of(wheel_of(built)).get_all("License-File") or ())
    assert "LICENSE" in told
    for folder in foreign:
        assert [name for name in told if Path(name).parent == folder], folder
    with zipfile.ZipFile(wheel_of(built)) as archive:
        for name in told:
            assert archive.read(f"{INFO}/licenses/{name}") == (ROOT / name).read_bytes()


def test_the_source_distribution_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = [member for member in archive if member.isfile()]
        names = {member.name.partition("/")[2] for member in members}
        assert names == in_tree() | {"PKG-INFO"}
        apart = (*PACKAGES, "pyproject.toml", "hatch_build.py")
        needed = [m for m in members if m.name.split("/")[1] in apart or m.name.count("/") == 1]
        archive.extractall(tmp_path, members=needed, filter="data")
    build(tmp_path / f"hmtrace-{__version__}", tmp_path, "-t", "wheel")
    assert wheel_of(tmp_path).read_bytes() == wheel_of(built).read_bytes()


def test_the_metadata_says_what_it_is(built: Path) -> None:
    metadata = metadata_of(wheel_of(built))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == __version__
    assert metadata["Name"] == "hmtrace"
    assert metadata["License-Expression"] == project["license"]
    needed = [text for text in metadata.get_all("Requires-Dist") or () if "extra ==" not in text]
    assert sorted(re.split(r"[<>=]", text)[0] for text in needed) == sorted(
        re.split(r"[<>=]", text)[0] for text in project["dependencies"]
    )
    from trove_classifiers import classifiers

    assert set(metadata.get_all("Classifier") or ()) <= classifiers
    assert not {url for url in metadata.get_all("Project-URL") or () if "pypi" in url.lower()}
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = MarkdownIt("commonmark").enable("table").parse(metadata.get_payload())
    kinds = {token.type for token in page} | {t.type for p in page for t in p.children or ()}
    assert {"heading_open", "fence", "table_open", "link_open"} <= kinds
    assert not kinds & {"html_block", "html_inline"}  # a registry would show it as text


def test_a_wheel_is_installed_and_does_the_main_job_elsewhere(tmp_path: Path) -> None:
    """As a packager does: into a staged folder, which is moved to its place then."""
    stage, prefix = tmp_path / "stage", tmp_path / "usr"
    runtime = f"{sys.prefix}/.runtime"  # -o: what the checkout's own .venv lacks is not asked here
    base = getattr(sys, "_base_executable", sys.executable)
    make = ["make", "-o", runtime, f"VENV={sys.prefix}", f"PYTHON={base}", f"PREFIX={prefix}"]
    subprocess.run(
        [*make, f"DESTDIR={stage}", "DEPENDENCIES=", f"BUILT={tmp_path / 'built'}", "install"],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    Path(f"{stage}{prefix}").rename(prefix)
    site = next((prefix / "lib/hmtrace/lib").glob("python3*/site-packages"))
    (site / "libraries.pth").write_text(f"{Path(polars.__file__).parents[1]}\n")
    assert {p.relative_to(prefix).as_posix() for p in (prefix / "share").rglob("*.*1")} == {
        name for name in files() if name.endswith(".1")
    }
    assert not [p for p in (prefix / "lib/hmtrace/bin").iterdir() if str(stage) in _text(p)]

    def run(*words: str, python: bool = False) -> str:
        program = prefix / ("lib/hmtrace/bin/python" if python else "bin/hmtrace")
        return subprocess.run(
            [str(program), *words], cwd=tmp_path, check=True, capture_output=True, text=True,
            timeout=300, env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(cache_home())},
        ).stdout  # fmt: skip

    where = "import collectors, hmtrace, replay; print(hmtrace.__path__, replay.__path__)"
    assert run("-P", "-c", where, python=True).count(str(site)) == 2
    assert run("--version") == f"hmtrace {__version__}\n"
    assert "still held at the end" in run("report", str(ROOT / "fixtures/cases/i386-leak100"))
    assert run("recorder").startswith("#!/bin/sh")
    assert "turris-omnia-2g" in run("layout", "--machine", "list")
    assert "kmap_high" in run("synth", "kmap-leak", "--events", "100")
    subprocess.run([*make, "uninstall"], cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert [p for p in prefix.rglob("*") if not p.is_dir()] == []


def _text(path: Path) -> str:
    return "" if path.is_symlink() else path.read_text()


def test_a_release_needs_its_heading_and_a_clean_tree(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        as_one = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *as_one, *words], cwd=tmp_path, check=True, capture_output=True)

    changes = tmp_path / "CHANGELOG.md"
    changes.write_text(
        "# Changelog\n\n## [Unreleased]\n\n- more\n\n## [0.1.0] - 2026-11-02\n\n- all\n"
    )
    git("init", "-q")
    assert obstacles(tmp_path, "0.2.0") == [
        "CHANGELOG.md has no heading '## [0.2.0] - YEAR-MONTH-DAY'",
        "CHANGELOG.md has changes under [Unreleased]",
        "git status is not clean",
    ]
    changes.write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-11-02\n\n- all\n")
    git("add", "CHANGELOG.md")
    git("commit", "-qm", "x")
    assert obstacles(tmp_path, "0.1.0") == []
    git("tag", "v0.1.0")
    assert obstacles(tmp_path, "0.1.0") == ["the tag v0.1.0 is there already"]
    assert released(tmp_path, "0.1.0") == "2026-11-02"
    assert released(tmp_path, "0.2.0") == ""
