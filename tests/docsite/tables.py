"""Pages of what the program knows as tables: events, costs, kernels, machines."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from collectors import events
from collectors.probes import FUNCTIONS
from replay.machine.arches import ARCHES
from replay.machine.costs import Costs
from replay.machine.cpus import cpu_costs
from replay.machine.generations import GENERATIONS, Generation
from replay.machine.presets import presets
from tests.docsite.markdown import code, described, from_rest, table, words

if TYPE_CHECKING:
    from collections.abc import Iterator


def pages() -> Iterator[tuple[str, str]]:
    """Path in docs/ and text of each."""
    yield "reference/events.md", _events()
    yield "reference/costs.md", _costs()
    yield "reference/kernels.md", _kernels()
    yield "reference/machines.md", _machines()


def _events() -> str:
    columns = []
    for names, text in described(_text_below(events, "SCHEMA")).items():
        types = dict.fromkeys(_type(events.SCHEMA[name]) for name in names.split(", "))
        shown = [", ".join(map(code, group)) for group in (names.split(", "), types)]
        columns.append([*shown, from_rest(text)])
    operations = []
    for op in events.OPS:
        of = [f for f in FUNCTIONS if f.op == op]
        names = [
            f"tracepoint {code(f.name.removesuffix(' (tracepoint)'))}"
            if f.host or f.name == op == "tlb_flush"
            else " or ".join(map(code, f.names))
            for f in of
        ]
        operations.append([code(op), "; ".join(names) or "tracepoint `sched_switch`"])
    counted = [[" or ".join(map(code, f.names))] for f in FUNCTIONS if f.op is None]
    return f"""# Event table

Every format that hmtrace reads becomes the same table: a row for each operation, its entry and its
return in one. `hmtrace convert` writes it, `collectors.scan()` gives it to Python
([as a library](../library.md)).

## Columns

{table(["column", "type (polars)", "what it is"], columns)}
## Operations

Values of the column `op`, and the kernel functions whose calls become them. A function is known by
its symbol, with or without what a compiler adds (`.constprop.0`); the probe's name is free.

{table(["op", "function"], operations)}
## Counted only

These are counted, or followed for what they return, and are no rows of the table.

{table(["function"], counted)}"""


def _text_below(module: Any, name: str) -> str:
    """The docstring below a module's constant."""
    body = ast.parse(inspect.getsource(module)).body
    for at, below in pairwise(body):
        if isinstance(at, ast.AnnAssign) and isinstance(at.target, ast.Name):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if at.target.id == name and is_text:
                return str(below.value.value)
    raise ValueError(f"{module.__name__} says nothing of {name}")


def _type(dtype: object) -> str:
    return str(dtype).partition("(")[0]


def _costs() -> str:
    defaults = Costs.default()
    rows, sources = [], []
    for name, note in Costs.notes().items():
        spread = defaults.spread(name)
        span = f"{spread.low:g} to {spread.high:g}"
        link = f"[{code(name)}](#cost-{name})"
        rows.append([link, f"{spread.likely:g}", span, note.unit, words(note.what), note.trust])
        sources.append(
            f"(cost-{name})=\n### {code(name)}\n\n{words(note.what)}.\n\n"
            f"- Source: {words(note.source)}\n- Range: {words(note.spread)}\n"
        )
    cpus = [[code(c.name), words(c.title), words("; ".join(c.source))] for c in cpu_costs()]
    listed = "\n".join(sources)
    return f"""# Costs

What an operation is taken to cost, with its range, and whose figure it is. How estimates are made
of them: [costs in ns](../costs.md). `--costs FILE` replaces any of them.

| trust | means |
|---|---|
| kernel text | a planning number written in the kernel's source |
| manual | the manufacturer's documentation |
| changelog | measured for a kernel commit, on the machine named there |
| assumption | nobody's measurement of your machine: calibrate it |

{table(["figure", "likely", "range", "unit", "what", "trust"], rows)}
## CPUs with figures of their own

`--costs NAME` takes them.

{table(["name", "CPU", "source"], cpus)}
## Sources

{listed}"""


def _kernels() -> str:
    told = described(inspect.cleandoc(Generation.__doc__ or "").partition("----------\n")[2])
    names = [f.name for f in fields(Generation) if f.name not in {"name", "since"}]
    names = [n for n in names if not n.endswith("_remark")]
    rows, before = [], None
    for generation in GENERATIONS.values():
        changed = [
            f"{code(name)}: {code(_value(getattr(generation, name)))}"
            for name in names
            if before is not None and getattr(generation, name) != getattr(before, name)
        ]
        since = ".".join(map(str, generation.since))
        rows.append([code(generation.name), since, ", ".join(changed) or "–"])
        before = generation
    first = next(iter(GENERATIONS.values()))
    oldest = [[code(name), code(_value(getattr(first, name)))] for name in names]
    behaviours = "\n".join(f"### {code(name)}\n\n{from_rest(told[name])}\n" for name in names)
    return f"""# Kernels

The model has no version numbers: it asks for named behaviours. A *generation* is a span of releases
with the same ones. `--kernel 5.10` of `replay` takes the generation of that release,
`--generation NAME` one of these. On which kernels the model was compared with the kernel itself is
told by [what was proven](../support.md) and [kernels that were booted](../support-matrix.md).

{table(["generation", "since", "what changed"], rows)}
The oldest one begins with:

{table(["behaviour", "value"], oldest)}
## Behaviours

{behaviours}"""


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return hex(value) if isinstance(value, int) and value > 0xFFFF else str(value)


def _machines() -> str:
    arches = [
        [
            code(arch.name),
            words(arch.title),
            ", ".join(map(code, arch.splits)),
            arch.pae_name or "–",
            ", ".join(f"{size // 1024} KiB" for size in arch.page_sizes),
            words(arch.arena_option) or "–",
        ]
        for arch in ARCHES.values()
    ]
    boards = [[code(p.name), words(p.title), words("; ".join(p.source))] for p in presets()]
    return f"""# Machines

Architectures that can be laid out (`hmtrace layout --arch NAME`), and boards and PCs that are known
by name (`--machine NAME`). A board of your own is a file: [machines](../machines.md).

## Architectures

{table(["name", "what", "splits, the usual first", "PAE", "page sizes", "arena set by"], arches)}
## Presets

{table(["name", "machine", "source"], boards)}"""
