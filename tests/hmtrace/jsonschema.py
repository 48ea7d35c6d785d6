"""A validator of the part of JSON Schema (draft 2020-12) that the schemas of docs/schemas use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
    "number": (int, float), "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_SAID: Final = {"$schema", "$id", "$defs", "title", "description"}
_KNOWN: Final = _SAID | {
    "$ref", "const", "enum", "type", "properties", "required", "additionalProperties", "items",
    "minItems", "pattern", "minLength", "minimum",
}  # fmt: skip


def errors_of(value: Any, schema: dict[str, Any]) -> list[str]:
    """What of a document is not as its schema says."""
    return list(_errors(value, schema, schema, "$"))


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    if unknown := schema.keys() - _KNOWN:
        yield f"{at}: the schema has {sorted(unknown)}, which this validator does not know"
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        yield from _errors(value, target, root, at)
    if "const" in schema and value != schema["const"]:
        yield f"{at}: is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is_a(value, name) for name in types):
            yield f"{at}: {value!r} is no {' or '.join(types)}"
            return
    if isinstance(value, dict):
        yield from _errors_of_object(value, schema, root, at)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{at}: is too short"
        for number, item in enumerate(value):
            yield from _errors(item, schema.get("items", {}), root, f"{at}[{number}]")
    elif isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"{at}: is too short"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{at}: {value!r} is not like {schema['pattern']}"
    elif isinstance(value, int | float) and value < schema.get("minimum", value):
        yield f"{at}: is less than {schema['minimum']}"


def _errors_of_object(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}: has no {name}"
    if schema.get("additionalProperties") is False and (more := value.keys() - known.keys()):
        yield f"{at}: has {sorted(more)} besides"
    for name in value.keys() & known.keys():
        yield from _errors(value[name], known[name], root, f"{at}.{name}")
