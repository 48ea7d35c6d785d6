"""Pages of the JSON documents, from the schemas that tests hold documents against."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.docsite.markdown import code, table, words
from tests.schemas import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Schema = dict[str, Any]


def pages() -> Iterator[tuple[str, str]]:
    """Path in docs/ and text of each: the list, and one for each document."""
    read = {path.stem: json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.json"))}
    rows = [
        [f"[{code(schema['title'])}](#schema-{name})", words(schema["description"])]
        for name, schema in read.items()
    ]
    names = "\n".join(read)
    yield (
        "reference/schemas/index.md",
        f"""# JSON documents

What `--format json` writes. Each document names its form in the key `schema`. Words about the keys
that need them: [JSON and exit codes](../../json.md).

{table(["schema", "what it is"], rows)}
```{{toctree}}
:hidden:

{names}
```
""",
    )
    for name, schema in read.items():
        yield f"reference/schemas/{name}.md", _page(name, schema)


def _page(name: str, schema: Schema) -> str:
    rows = {
        key: list(_rows(key, below, _always(schema, key), schema.get("$defs", {})))
        for key, below in schema["properties"].items()
    }
    parts = [f"## Keys\n\n{_table(first for first, *_ in rows.values())}"]
    parts += [f"## {code(key)}\n\n{_table(more)}" for key, (_, *more) in rows.items() if more]
    body = "\n".join(parts)
    return f"""(schema-{name})=
# {schema["title"]}

{words(schema["description"])} The schema itself, to check documents by:
[{name}.json](../../schemas/{name}.json) (JSON Schema 2020-12).

*always*: the key is there wherever what holds it is. `[]` behind a key: the objects of the list;
`{{}}`: of the object whose keys are names. What is unknown is `null`.

{body}"""


def _table(rows: Iterable[list[str]]) -> str:
    """A table of keys, with a column of words where there are any."""
    kept = list(rows)
    has_words = any(row[-1] for row in kept)
    head = ["key", "type", "always", "what it is"]
    return table(head, kept) if has_words else table(head[:-1], [row[:-1] for row in kept])


def _rows(path: str, schema: Schema, always: str, defs: Schema) -> Iterator[list[str]]:
    """A row for a key, and for all keys below it."""
    schema = _meant(schema, defs)
    yield [
        code(path),
        ", ".join(_types(schema, defs)),
        always,
        words(schema.get("description", "")),
    ]
    while "items" in schema or isinstance(schema.get("additionalProperties"), dict):
        is_list = "items" in schema
        path += "[]" if is_list else "{}"
        schema = _meant(schema["items" if is_list else "additionalProperties"], defs)
    for key, below in schema.get("properties", {}).items():
        yield from _rows(f"{path}.{key}", below, _always(schema, key), defs)


def _always(schema: Schema, key: str) -> str:
    return "yes" if key in schema.get("required", ()) else ""


def _meant(schema: Schema, defs: Schema) -> Schema:
    """What a reference stands for."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return {**defs[name], **schema} if name else schema


def _types(schema: Schema, defs: Schema) -> list[str]:
    if "const" in schema:
        return [code(json.dumps(schema["const"]))]
    if "enum" in schema:
        return [code(json.dumps(value)) for value in schema["enum"]]
    told = schema.get("type", [])
    found = [told] if isinstance(told, str) else list(told)
    if "array" in found and "items" in schema:
        within = " or ".join(_types(_meant(schema["items"], defs), defs))
        found[found.index("array")] = f"array of {within}"
    return found or ["any"]
