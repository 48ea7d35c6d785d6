"""Documents of real captures, validated against the schemas in docs/schemas/."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests import schemas
from tests.schemas import (
    DIALECT,
    DOCUMENTS,
    FIXTURES,
    ROOT,
    SCHEMAS,
    document_of,
    read,
    strict,
    title_of,
    widen,
)

CAPTURES = (
    "i386-hog-a-waiters-pae-smp2",
    "i386-510-hog-e-vmapfail-pae-smp1",
    "arm-612-percpu-lpae-smp2",
    "i386-510rt-minix-pae-smp2",
    "mips32-61-minix",
)
KINDS = list(DOCUMENTS)
BY_HAND = {"check"}
"""Kinds that have a test of their own, tests/hmtrace/test_check.py."""


def errors_of(kind: str, document: Any) -> list[str]:
    """What a document has that its schema does not, and what it lacks."""
    return schemas.errors_of(document, strict(read(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one(kind: str) -> None:
    schema = read(kind)
    Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["title"]) == (DIALECT, title_of(kind))
    assert schema["properties"]["schema"] == {"const": title_of(kind)}
    assert {"schema", "version"} <= set(schema["required"])
    assert schema["description"].endswith(".")


FEW = {"advise": 1, "compare": 2, "layout": 1, "presets": 1, "sweep": 2, "synth": 1}
"""Captures that kinds are made from that depend little on the capture."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "capture"), [(kind, c) for kind in KINDS for c in CAPTURES[: FEW.get(kind)]]
)
def test_documents_of_real_captures_are_as_their_schema_says(kind: str, capture: str) -> None:
    """Of the first capture all that can be asked, of each other one of it, in turn."""
    number, commands = CAPTURES.index(capture), DOCUMENTS[kind]
    asked = [commands[number % len(commands)]] if number else commands
    made = [found for words in asked if (found := document_of(words, capture)) is not None]
    assert made
    for document in made:
        assert errors_of(kind, document) == [], f"meant so? python -m tests.schemas {kind}"


def test_each_kind_of_document_has_a_schema() -> None:
    made = set()
    for path in (ROOT / "hmtrace").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "schema(" in text else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "schema":
                made.update(arg.value for arg in node.args if isinstance(arg, ast.Constant))
    assert made - BY_HAND == set(KINDS)
    assert {path.stem for path in SCHEMAS.glob("*.json")} <= made


def test_another_key_or_another_type_is_told() -> None:
    path = FIXTURES / CAPTURES[0]
    document = document_of(("info", "@"), path.name)
    assert errors_of("info", document) == []
    assert len(errors_of("info", document | {"more": 1})) == 1
    assert len(errors_of("info", document | {"span_ns": "long"})) == 1
    assert len(errors_of("info", {k: v for k, v in document.items() if k != "events"})) == 1
    judge = Draft202012Validator(read("info"))
    assert judge.is_valid(document | {"more": 1}), "a newer program may say more"


def test_a_schema_is_widened_by_what_it_does_not_hold() -> None:
    schema: dict[str, Any] = {}
    for value in ({"a": 1, "b": [1]}, {"a": None, "events": {"x": 1}}, {"a": 1.5, "b": ["y"]}):
        widen(schema, value)
    assert schema == {
        "type": "object",
        "properties": {
            "a": {"type": ["null", "number"]},
            "b": {"type": "array", "items": {"type": ["integer", "string"]}},
            "events": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "required": ["a"],
    }
    assert strict(schema)["additionalProperties"] is False
    assert "additionalProperties" not in schema


def test_docs_name_the_schemas() -> None:
    page = (Path(ROOT) / "docs" / "json.md").read_text(encoding="utf-8")
    assert "schemas/" in page
    assert json.loads((SCHEMAS / "report.json").read_text(encoding="utf-8"))["type"] == "object"
