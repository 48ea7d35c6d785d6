"""The house is built as it is drawn: who imports whom, and what a start of the program loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
ROOMS = ("collectors", "replay", "hmtrace")
MODULES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
LINES = 650
HEAVY = ("polars", "numba", "numpy", "rich", "elftools", "zstandard")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = str(node.module)
            yield module
            if (ROOT / module.replace(".", "/")).is_dir():
                yield from (f"{module}.{alias.name}" for alias in node.names)


def test_modules_are_found() -> None:
    assert len(MODULES) > 60
    assert all((ROOT / room / "__init__.py").exists() for room in ROOMS)


def test_imports_go_one_way() -> None:
    """hmtrace, then replay, then collectors.events; collectors imports neither."""
    allowed = {"collectors": set(), "replay": {"collectors.events"}}
    wrong = []
    for path in MODULES:
        room = path.relative_to(ROOT).parts[0]
        ours = {n for n in imported(path) if n.split(".")[0] in {*ROOMS, "tests"}}
        others = {n for n in ours if n.split(".")[0] != room}
        if room in allowed:
            others -= allowed[room]
        else:
            others = {n for n in others if n.startswith("tests")}
        wrong += [f"{name_of(path)} imports {n}" for n in sorted(others)]
    assert wrong == []


def test_modules_stay_small() -> None:
    lines = {name_of(path): path.read_text().count("\n") for path in MODULES}
    assert {name: n for name, n in lines.items() if n > LINES} == {}


def test_modules_say_what_they_are() -> None:
    assert [name_of(p) for p in MODULES if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_names_in_docstrings_exist() -> None:
    """Full names in roles, as ``replay.run.replay_events``: what moves leaves none behind."""
    defined: dict[str, set[str]] = {}
    for path in MODULES:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {getattr(n, a, None) for n in nodes for a in ("name", "id", "attr", "asname")}
        defined[name_of(path).removesuffix(".__init__")] = {*map(str, names)}
    full_name = re.compile(r":\w+:`~?((?:collectors|replay|hmtrace)(?:\.\w+)+)`")
    wrong = []
    for path in MODULES:
        for name in full_name.findall(path.read_text()):
            module, rest = name, set()
            while module not in defined:
                module, _, last = module.rpartition(".")
                rest.add(last)
            if not defined[module] >= rest:
                wrong.append(f"{name_of(path)}: {name}")
    assert wrong == []


def test_nothing_prints_past_the_output() -> None:
    """Only hmtrace writes to a terminal, and through hmtrace.cli.output or stderr."""
    wrong = []
    for path in MODULES:
        inside = path.relative_to(ROOT).parts[0] == "hmtrace"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                bad = node.func.id in {"print", "breakpoint", "input"}
            elif isinstance(node, ast.Attribute) and not inside:
                bad = ast.unparse(node) in {"sys.stdout", "sys.stderr"}
            else:
                continue
            if bad:
                wrong.append(f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []


@pytest.mark.parametrize(
    "statement",
    ["import hmtrace.cli", "import hmtrace.__main__", "import collectors", "import replay"],
)
def test_starting_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print(*(set({HEAVY!r}) & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.split() == []


def test_only_kernels_import_numba() -> None:
    """Compiled loops live in modules of their own, which others import when they need them."""
    eager = set()
    for path in MODULES:
        top = ast.parse(path.read_text()).body
        names = [a.name for n in top if isinstance(n, ast.Import) for a in n.names]
        names += [str(n.module) for n in top if isinstance(n, ast.ImportFrom)]
        if "numba" in {n.split(".")[0] for n in names}:
            eager.add(name_of(path))
    loops = re.compile(r"^(collectors|replay)\.(compiled$|.*loops\b|.*(words|loads)$)")
    assert {name for name in eager if not loops.match(name)} == set()


def test_nothing_points_outside_the_repository() -> None:
    """Program and tests use fixtures/; folders of the machine it was written on are unknown."""
    here = Path(__file__).name
    outside = ("/work/" + "shared", "../" + "shared", "/work/" + "main")
    kinds = {".py", ".toml", ".md", ".lock", ".sh", ""}
    for room in (*ROOMS, "tests", "fixtures", ".ci"):
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and path.suffix in kinds and path.name != here:
                text = path.read_text(errors="replace")
                assert not any(word in text for word in outside), path
    for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml"):
        assert not any(word in (ROOT / name).read_text() for word in outside), name


def test_judges_are_named_only_to_be_refused() -> None:
    """Files that tell the answer are never opened: only who refuses or makes them names them."""
    naming = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(("truth", "pkmap.end"))
    }
    writer = "collectors.synthetic.outputs.folder"
    assert naming <= {"collectors.input.source", "collectors.input.archive", writer}


def test_packages_of_the_distribution_are_the_three_rooms() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(ROOMS)
    assert project["project"]["scripts"] == {"hmtrace": "hmtrace.__main__:main"}
