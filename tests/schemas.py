"""JSON Schemas of the documents, in docs/schemas/: widen them until they fit what the program says.

``python -m tests.schemas [KIND ...]`` runs the commands of :data:`DOCUMENTS` over the fixtures and
widens the schema of each document so that it holds: new keys, other types, keys that are not always
there. What is written in a file stays, so words (``description``, ``enum``) are added by hand.
tests/hmtrace/test_schemas.py validates real documents against the files, and takes no key that they
do not have.
"""

from __future__ import annotations

import json
import sys
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from jsonschema import Draft202012Validator

from replay import memory, outcome, over_time
from replay.memory import LowmemOutcome
from replay.outcome import (
    ArenaOutcome,
    CallTime,
    CostOutcome,
    HoldHistogram,
    LocalOutcome,
    PoolOutcome,
    PurgeOutcome,
    Site,
    StackCount,
    TlbOutcome,
    UserFlush,
)
from replay.over_time import MarkedTimes

ROOT: Final = Path(__file__).parents[1]
SCHEMAS: Final = ROOT / "docs" / "schemas"
FIXTURES: Final = ROOT / "fixtures"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MAPS: Final = (
    "events", "raw_events", "by_cause", "units", "lock_units", "share_above", "depth_by_cpu",
    "stalls", "callers", "axes", "figures", "costs", "sets", "ranges", "facts", "config", "per",
    "kinds", "reserve", "findings.a", "findings.b",
)  # fmt: skip
"""Ends of paths to objects whose own keys are names of a trace, of figures or of a machine."""

FREE: Final = ("facts",)
"""Objects by name whose `value` may be anything."""
CAPTURES: Final = tuple(
    path.name for path in sorted(FIXTURES.iterdir()) if (path / "README.md").is_file()
)
DOCUMENTS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "info": (("info", "@"),),
    "report": (("report", "@"), ("report", "--calibrate", "@")),
    "replay": (
        ("replay", "@", "--split", "2g", "--cpus", "4", "--calibrate"),
        ("replay", "@", "--kernel", "6.12", "--pkmap", "128"),
        ("replay", "@", "--convert", "kmap=kmap_local"),
        ("replay", "@", "--vmalloc", "100M"),
    ),
    "validate": (("validate", "@"), ("validate", "@", "no-such-capture")),
    "sites": (("sites", "@"),),
    "advise": (("advise", "@"), ("advise", "@", f"{FIXTURES}/i386-minix-pae-smp2")),
    "layout": (
        ("layout", "--arch", "arm", "--split", "2g", "--ram", "2G"),
        ("layout", "--machine", "imx6q-wandboard-2g"),
    ),
    "presets": (("layout", "--machine", "list"),),
    "sweep": (
        ("sweep", "@", "--axis", "split=3g,2g,3g_opt", "--axis", "ram=1G..4G*2"),
        ("sweep", "@", "--find", "min:pkmap", "--where", "waits=0"),
        ("sweep", "@", f"{FIXTURES}/i386-minix-pae-smp2", "--axis", "pkmap=128,512"),
    ),
    "compare": (("compare", "@", f"{FIXTURES}/i386-minix-pae-smp2"),),
    "synth": (("synth", "--list"),),
}  # fmt: skip
"""Commands by the kind of their document; ``@`` stands for a capture. The schema of `check` is
written by hand, and judged by tests/hmtrace/test_check.py."""


def title_of(kind: str) -> str:
    """What a document is called in its key ``schema``."""
    return f"hmtrace/{kind}/1"


def document_of(words: tuple[str, ...], capture: str) -> Any:
    """What a command prints with ``--format json``; None where it refuses."""
    from typer.testing import CliRunner

    from hmtrace.cli import app

    given = [str(FIXTURES / capture) if word == "@" else word for word in words]
    shown = CliRunner().invoke(app, [*given, "--format", "json"]).stdout
    return json.loads(shown) if shown.startswith("{") else None


def kinds_of(value: Any) -> str:
    """Type of a value, in the words of JSON Schema."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}
    return "null" if value is None else kinds.get(type(value), "array")


def widen(schema: dict[str, Any], value: Any, path: str = "") -> None:
    """Make a schema hold a value, too.

    Parameters
    ----------
    schema
        Changed in place; empty: nothing was seen yet.
    value
        Part of a document.
    path
        Names of the objects that it stands in, with dots.
    """
    if schema.pop("$comment", None) == ONLY_NULL:
        schema["type"] = "null"
    is_new = "type" not in schema
    kind = kinds_of(value)
    types = {kind, *_types(schema)}
    if "number" in types:
        types.discard("integer")
    schema["type"] = sorted(types) if len(types) > 1 else next(iter(types))
    if kind == "array":
        for one in value:
            widen(schema.setdefault("items", {}), one, f"{path}[]")
    elif kind == "object" and f".{path}".endswith(tuple(f".{name}" for name in MAPS)):
        for one in value.values():
            widen(schema.setdefault("additionalProperties", {}), one, f"{path}.*")
    elif kind == "object":
        properties = schema.setdefault("properties", {})
        for name, one in value.items():
            widen(properties.setdefault(name, {}), one, f"{path}.{name}")
        first = is_new or "required" not in schema
        schema["required"] = sorted(set(value) & set(value if first else schema["required"]))


def declared(hint: Any) -> dict[str, Any]:
    """The schema of values of a type, as :func:`hmtrace.report.plain.plain` writes them."""
    if get_origin(hint) in (Union, UnionType):
        whole: dict[str, Any] = {}
        for one in get_args(hint):
            merge(whole, declared(one))
        return whole
    if is_dataclass(hint):
        fields = get_type_hints(hint, localns=_NAMES)
        properties = {name: declared(kind) for name, kind in fields.items()}
        return {"type": "object", "properties": properties, "required": sorted(properties)}
    if get_origin(hint) is tuple:
        items: dict[str, Any] = {}
        for one in get_args(hint):
            if one is not Ellipsis:
                merge(items, declared(one))
        return {"type": "array", "items": items}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": declared(get_args(hint)[1])}
    words = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": words[hint]}


def merge(schema: dict[str, Any], other: dict[str, Any]) -> None:
    """Make a schema hold what another one holds, too."""
    types = {kind for one in (schema, other) for kind in _types(one)}
    if "number" in types:
        types.discard("integer")
    if types:
        schema["type"] = sorted(types) if len(types) > 1 else next(iter(types))
    for name, inner in other.get("properties", {}).items():
        merge(schema.setdefault("properties", {}).setdefault(name, {}), inner)
    if "required" in other:
        common = set(other["required"]) & set(schema.get("required", other["required"]))
        schema["required"] = sorted(common)
    for inside in ("items", "additionalProperties"):
        if inside in other:
            merge(schema.setdefault(inside, {}), other[inside])


def _types(schema: dict[str, Any]) -> list[str]:
    known = schema.get("type", [])
    return [known] if isinstance(known, str) else list(known)


def open_ended(schema: dict[str, Any]) -> None:
    """Promise nothing of what was always null, and is declared nowhere."""
    for holder in (schema.get("properties", {}), schema):
        for name in list(holder):
            inner = holder[name]
            if isinstance(inner, dict) and inner.get("type") == "null":
                holder[name] = {"$comment": ONLY_NULL}
            elif isinstance(inner, dict) and (holder is not schema or name in INSIDE):
                open_ended(inner)


ONLY_NULL: Final = "nothing but null was ever seen here"
INSIDE: Final = ("items", "additionalProperties")
_OUTCOME: Final = {
    "pool": PoolOutcome, "local": LocalOutcome, "arena": ArenaOutcome, "tlb": TlbOutcome,
    "cost": CostOutcome, "sites": tuple[Site, ...], "purges": tuple[PurgeOutcome, ...],
    "lowmem": LowmemOutcome | None,
}  # fmt: skip
_OBSERVED: Final = {
    "durations": tuple[CallTime, ...], "holds": tuple[HoldHistogram, ...],
    "user_flushes": tuple[UserFlush, ...], "stacks": tuple[StackCount, ...],
    "marks": MarkedTimes | None,
}  # fmt: skip
DECLARED: Final[dict[str, dict[str, Any]]] = {
    "report": _OUTCOME | _OBSERVED,
    "replay": _OUTCOME | {f"baseline.{name}": kind for name, kind in _OUTCOME.items()},
}
"""Parts of documents that are records of the replay, whose fields have types; by their path."""
_NAMES: Final = {**vars(over_time), **vars(outcome), **vars(memory)}


def errors_of(document: Any, schema: dict[str, Any]) -> list[str]:
    """Say what of a document is not as a schema says."""
    judge = Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message:.200}" for error in judge.iter_errors(document)]


def strict(schema: Any) -> Any:
    """The same schema, without room for keys that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def read(kind: str) -> dict[str, Any]:
    """The schema of a kind, as its file has it."""
    path = SCHEMAS / f"{kind}.json"
    if path.is_file():
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return schema
    return {"$schema": DIALECT, "title": title_of(kind)}


def write(kind: str, schema: dict[str, Any]) -> None:
    """Write a schema into its file."""
    for path, hint in DECLARED.get(kind, {}).items():
        part = schema
        for name in path.split("."):
            part = part["properties"][name]
        merge(part, declared(hint))
    for name in FREE:
        if name in schema["properties"]:
            schema["properties"][name]["additionalProperties"]["properties"]["value"] = {}
    open_ended(schema)
    SCHEMAS.mkdir(exist_ok=True)
    schema["properties"]["schema"] = {"const": title_of(kind)}
    text = json.dumps(schema, indent=1, sort_keys=False)
    (SCHEMAS / f"{kind}.json").write_text(text + "\n", encoding="utf-8")


DESCRIPTIONS: Final = {
    "info": "What a capture holds, and what it can answer.",
    "report": "What a capture's temporary mappings cost, who waits, who leaks.",
    "replay": "A capture's workload on another machine, beside the captured one (baseline).",
    "validate": "The model's predictions against what the traced kernel did.",
    "sites": "Every call site: what it maps, for how long, and whether kmap_local_page() would do.",
    "advise": "Which user/kernel split to choose, with the evidence.",
    "layout": "The address space and the zones of a machine.",
    "presets": "The machines that are known by name.",
    "sweep": "A workload on the machines of a grid, or the value of one axis that suffices.",
    "compare": "What changed between two captures or outcomes.",
    "synth": "The scenarios of synthetic traces.",
}


def main(kinds: list[str]) -> None:
    """Widen the schemas of these kinds, or of all."""
    for kind in kinds or DOCUMENTS:
        schema = read(kind)
        schema.setdefault("description", DESCRIPTIONS[kind])
        for words in DOCUMENTS[kind]:
            for capture in CAPTURES if "@" in words else ("",):
                document = document_of(words, capture)
                if document is not None:
                    widen(schema, document)
        write(kind, schema)
        sys.stdout.write(f"{kind}: {len(json.dumps(schema))} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
