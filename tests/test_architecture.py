"""The house is built as it is drawn: who imports whom, and what a start of the program loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rooms import PACKAGES as ROOMS
from tests.rooms import (
    ROOT,
    House,
    back_arrows,
    circles,
    floors,
    imported,
    name_of,
    parsed,
    reasons,
    statements,
    table,
)

if TYPE_CHECKING:
    from tests.rooms import Arrow

MODULES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
NAMES = {name_of(path) for path in MODULES}
LINES = 650
HEAVY = ("polars", "numba", "numpy", "rich", "elftools", "zstandard", "jinja2")


BACK: dict[str, set[Arrow]] = {
    "collectors": set(),
    "replay": set(),
    "hmtrace": set(),
}
"""Arrows between rooms that still close a circle, to be taken out one by one; none is added."""


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All of a file, walked once."""
    return [*ast.walk(parsed(path))]


@cache
def house(package: str) -> House:
    return House.read(package)


def test_modules_are_found() -> None:
    assert len(MODULES) > 60
    assert all((ROOT / room / "__init__.py").exists() for room in ROOMS)


def test_imports_go_one_way() -> None:
    """hmtrace, then replay, then collectors' schema and errors; collectors imports neither.

    How loops are compiled leans on what numba keeps private, so it stands in one place for both.
    """
    ours = {
        f"collectors.{leaf}"
        for leaf in ("ahead", "compiled", "errors", "events", "fitting", "records", "snapshot")
    }
    allowed = {"collectors": set(), "replay": ours}
    wrong = []
    for path in MODULES:
        room = path.relative_to(ROOT).parts[0]
        names = set(imported(parsed(path), NAMES))
        others = {n for n in names if n.split(".")[0] in {*ROOMS, "tests"} - {room}}
        if room in allowed:
            others -= allowed[room]
        else:
            others = {n for n in others if n.startswith("tests")}
        wrong += [f"{name_of(path)} imports {n}" for n in sorted(others)]
    assert wrong == []


def test_dataclasses_are_made_in_one_way() -> None:
    """Python's own take half a millisecond each, at every start."""
    imports = (
        (path, node)
        for path in MODULES
        for node in statements(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
    )
    own = {name_of(path) for path, node in imports if "dataclass" in {n.name for n in node.names}}
    assert own == {"collectors.records"}


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_each_other_in_no_circle(package: str) -> None:
    """``python -m tests.rooms --draw --why`` shows the floors, and which imports close circles."""
    read = house(package)
    arrows = read.weights()
    left = {arrow: n for arrow, n in arrows.items() if arrow not in BACK[package]}
    closing = back_arrows(left)
    assert reasons(read, closing) == [], "these imports close a circle of rooms"
    floors(left.keys(), set(read.rooms()))  # would not end in a circle


@pytest.mark.parametrize("package", ROOMS)
def test_what_is_excused_still_closes_a_circle(package: str) -> None:
    """An arrow of BACK that is gone, or has come to do no harm, leaves the list."""
    arrows = house(package).weights().keys()
    harmless = {
        (tail, head)
        for tail, head in BACK[package]
        if (tail, head) not in arrows
        or not any({tail, head} <= {*c} for c in circles((arrows - BACK[package]) | {(tail, head)}))
    }
    assert harmless == set()


def test_the_picture_of_the_house_has_every_room() -> None:
    picture = (ROOT / "docs/architecture.md").read_text().split("## The rooms")[1].split("## ")[0]
    rooms = {room.rpartition(".")[2] for package in ROOMS for room in house(package).rooms()}
    assert rooms - {*ROOMS, "__main__"} - set(re.findall(r"\w+", picture)) == set()


def test_the_figures_of_a_house_are_told_from_its_source(tmp_path: Path) -> None:
    """A house of four rooms, one a folder of two files; two rooms and two files in circles."""
    for name, text in {
        "house/__init__.py": "",
        "house/ground.py": "import os\n",
        "house/kitchen/__init__.py": "from house import ground\n",
        "house/kitchen/oven.py": "from house.kitchen.pots import LID\n",
        "house/kitchen/pots.py": "def boil():\n    from house.kitchen import oven\n",
        "house/hall.py": "from house.kitchen import oven\nimport house.stairs\n",
        "house/stairs.py": "if True:\n    from house.hall import Door\nimport house.ground\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    read = House.read("house", tmp_path)
    assert read.rooms() == ["house.ground", "house.hall", "house.kitchen", "house.stairs"]
    assert read.weights() == {
        ("house.hall", "house.kitchen"): 1,
        ("house.hall", "house.stairs"): 1,
        ("house.kitchen", "house.ground"): 1,
        ("house.stairs", "house.ground"): 1,
        ("house.stairs", "house.hall"): 1,
    }
    assert circles(read.weights().keys()) == [["house.hall", "house.stairs"]]
    assert circles(read.file_arrows()) == [
        ["house.hall", "house.stairs"],
        ["house.kitchen.oven", "house.kitchen.pots"],
    ]
    assert table([read]).split("\n")[1].split() == (
        ["house", "10", "7", "4", "3", "5", "1", "2", "2+2"]
    )


def test_modules_stay_small() -> None:
    lines = {name_of(path): path.read_text().count("\n") for path in MODULES}
    assert {name: n for name, n in lines.items() if n > LINES} == {}


def test_modules_say_what_they_are() -> None:
    assert [name_of(p) for p in MODULES if not ast.get_docstring(parsed(p))] == []


def test_the_name_of_a_class_means_one_thing() -> None:
    defined: dict[str, list[str]] = {}
    for path in MODULES:
        for node in statements(parsed(path)):
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(name_of(path))
    assert {name: places for name, places in defined.items() if len(places) > 1} == {}


def test_names_in_docstrings_exist() -> None:
    """Full names in roles, as ``replay.run.replay_events``: what moves leaves none behind."""
    paths = {name_of(path): path for path in MODULES}

    @cache
    def defined(module: str) -> set[str]:
        attributes = ("name", "id", "attr", "asname")
        return {str(getattr(n, a, None)) for n in nodes(paths[module]) for a in attributes}

    full_name = re.compile(r":\w+:`~?((?:collectors|replay|hmtrace)(?:\.\w+)+)`")
    wrong = []
    for path in MODULES:
        for name in full_name.findall(path.read_text()):
            module, rest = name, set()
            while module not in paths:
                module, _, last = module.rpartition(".")
                rest.add(last)
            if not defined(module) >= rest:
                wrong.append(f"{name_of(path)}: {name}")
    assert wrong == []


def test_nothing_prints_past_the_output() -> None:
    """Only hmtrace writes to a terminal, and through hmtrace.cli.output or stderr."""
    wrong = []
    for path in MODULES:
        inside = path.relative_to(ROOT).parts[0] == "hmtrace"
        for node in nodes(path):
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
    [
        "import hmtrace.cli",
        "import hmtrace.__main__",
        "import collectors",
        "import replay",
        "import replay.machine.options",
    ],
)
def test_starting_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print(*(set({HEAVY!r}) & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.split() == []


def test_only_kernels_import_numba() -> None:
    """Compiled loops live in modules of their own, which others import when they need them."""
    eager = set()
    for path in MODULES:
        top = parsed(path).body
        names = [a.name for n in top if isinstance(n, ast.Import) for a in n.names]
        names += [str(n.module) for n in top if isinstance(n, ast.ImportFrom)]
        if "numba" in {n.split(".")[0] for n in names}:
            eager.add(name_of(path))
    loops = re.compile(r"^(collectors|replay)\.(compiled\b|.*loops\b|.*(words|loads)$)")
    assert {name for name in eager if not loops.match(name)} == set()


def test_nothing_points_outside_the_repository() -> None:
    """Program and tests use fixtures/; folders of the machine it was written on are unknown."""
    here = Path(__file__).name
    outside = ("/work/" + "shared", "../" + "shared", "/work/" + "main")
    kinds = {".py", ".toml", ".md", ".lock", ".sh", ""}
    for room in (*ROOMS, "tests", "fixtures", "docs", ".ci"):
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and path.suffix in kinds and path.name != here:
                text = path.read_text(errors="replace")
                assert not any(word in text for word in outside), path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.yaml"), ROOT / "Makefile"):
        assert not any(word in path.read_text() for word in outside), path


def test_judges_are_named_only_to_be_refused() -> None:
    """Files that tell the answer are never opened: only who refuses or makes them names them."""
    naming = {
        name_of(path)
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(("truth", "pkmap.end"))
    }
    writer = "collectors.synthetic.outputs.folder"
    reader = "collectors.input"
    assert naming <= {f"{reader}.source", f"{reader}.opening", f"{reader}.archive", writer}


def test_packages_of_the_distribution_are_the_three_rooms() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(ROOMS)
    assert project["project"]["scripts"] == {"hmtrace": "hmtrace.__main__:main"}


def test_pre_commit_and_make_lint_check_alike() -> None:
    lint = re.findall(r"\$\(BIN\)/((?:ruff|mypy).*)", (ROOT / "Makefile").read_text())
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"entry: \.venv/bin/((?:ruff|mypy).*)", hooks)
    assert [line.removesuffix(" .") for line in lint] == [
        entry.removesuffix(" --force-exclude") for entry in entries
    ]
    assert [line.split()[0] for line in lint] == ["ruff", "ruff", "mypy"]
