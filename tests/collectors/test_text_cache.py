"""The scanner's on-disk cache follows every module that is compiled into it."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

from collectors.text import cache, scan

HERE = Path(scan.__file__).parent


def test_stamp_changes_with_the_modules(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(cache, "_HERE", tmp_path)

    def stamp() -> object:
        index = SimpleNamespace(_source_stamp=(1, 2))
        cache.cached("part")(SimpleNamespace(_cache=SimpleNamespace(_cache_file=index)))
        return index._source_stamp

    (tmp_path / "part.py").write_text("a = 1")
    before = stamp()
    assert before == stamp()
    (tmp_path / "part.py").write_text("a = 2")
    assert before != stamp()


def test_functions_without_a_known_cache_stay_as_they_are() -> None:
    dispatcher = SimpleNamespace()
    assert cache.cached("line")(dispatcher) is dispatcher


def test_every_module_that_the_scanner_takes_code_or_constants_from_is_named() -> None:
    tree = ast.parse(Path(scan.__file__).read_text())
    (decorator,) = [
        d
        for f in tree.body
        if isinstance(f, ast.FunctionDef) and f.name == "scan"
        for d in f.decorator_list
        if isinstance(d, ast.Call) and getattr(d.func, "id", "") == "cached"
    ]
    named = {ast.literal_eval(a) for a in decorator.args}
    used: set[str] = set()
    for module in ("scan", "line", "payload", "words", "layout"):
        for node in ast.walk(ast.parse((HERE / f"{module}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("collectors."):
                used.add((node.module or "").removeprefix("collectors."))
    expected = {u.removeprefix("text.") if u.startswith("text.") else f"../{u}" for u in used}
    assert expected - {"../text", "cache"} <= named
