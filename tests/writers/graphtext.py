"""Writer of the function_graph tracer's text, from a tree of calls, with the rows to expect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from collectors.probes import FUNCTION_OF, FUNCTIONS

HEADS = {
    "abs": "     TIME       ",
    "rel": "   REL TIME     ",
    "cpu": " CPU",
    "task": "  TASK/PID       ",
    "flags": "  |||| ",
    "times": "  DURATION   ",
}


@dataclass
class Call:
    """A call with those that it makes."""

    name: str
    inner: list[Call] = field(default_factory=list)


def write(
    calls: list[Call], columns: set[str], *, with_header: bool, cpu: int, pid: int
) -> tuple[str, list[dict[str, Any]]]:
    """Lines of ``trace`` (or, with the column ``report``, of trace-cmd report), and the rows."""
    lines: list[str] = []
    expected: list[dict[str, Any]] = []
    now = 14_641_028_000

    def left(ts: int, duration: int | None, *, is_exit: bool) -> str:
        time = "" if duration is None else f"{duration / 1000:.3f} us"
        mark = (
            "!"
            if duration and duration > 100_000
            else "+"
            if duration and duration > 10_000
            else " "
        )
        if "report" in columns:
            name = "funcgraph_exit:" if is_exit else "funcgraph_entry:"
            stamp = f"{ts // 10**9:5d}.{ts % 10**9 // 1000:06d}"
            return f"{'bash':>16}-{pid:<5d} [{cpu:03d}] {stamp}: {name:<21}{mark:>2} {time:<10}|  "
        parts = ""
        if "abs" in columns:
            parts += f"{ts // 10**9:5d}.{ts % 10**9 // 1000:06d} |  "
        if "rel" in columns:
            parts += f"{(ts - 14_641_028_000) // 1000:9d} us |  "
        if "cpu" in columns:
            parts += f" {cpu}) "
        if "task" in columns:
            parts += f"{f'bash-{pid}':^14} | "
        if "flags" in columns:
            parts += " ..s. | "
        if "times" in columns:
            parts += f"{mark} {time:<10} |  "
        return parts

    def put(call: Call, depth: int, site: str | None) -> int:
        nonlocal now
        begin = now
        indent = "  " * depth
        code = FUNCTION_OF.get(call.name)
        row: dict[str, Any] = {"site": site, "ts": begin}
        if code is not None:
            row["op"] = FUNCTIONS[code].op
            expected.append(row)
        if not call.inner:
            now += 12_345
            row["duration"] = 12_345
            lines.append(left(begin, 12_345, is_exit=False) + f"{indent}{call.name}();")
            return now
        lines.append(left(begin, None, is_exit=False) + f"{indent}{call.name}() {{")
        now += 1_000
        for inner in call.inner:
            put(inner, depth + 1, call.name)
            now += 1_000
        row["duration"] = now - begin
        lines.append(left(now, now - begin, is_exit=True) + f"{indent}}}")
        return now

    for call in calls:
        put(call, 0, None)
        now += 100_000
    head = ""
    if "report" in columns:
        head = "cpus=2\n"
    elif with_header:
        order = [name for name in HEADS if name in columns]
        names = "".join(HEADS[name] for name in order)
        head = f"# tracer: function_graph\n#\n#{names}               FUNCTION CALLS\n# |  |\n"
    return head + "\n".join(lines) + "\n", expected
