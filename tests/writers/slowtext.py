"""A slow reader of text traces, written apart from the scanner: the oracle of its tests.

One line, one regular expression after the other; nothing here is shared with
collectors.text but the table of probed functions.
"""

from __future__ import annotations

import re
from typing import Any

from collectors.probes import KIND_MARK, KIND_SWITCH, TRACEPOINTS, function_of, slot_of

_TASK = r"^\s*(?P<comm>.*?)-(?P<pid>\d+)\s+"
_CONTEXT = (
    re.compile(
        _TASK + r"(?:\(\s*(?:\d+|-+)\)\s+)?\[(?P<cpu>\d+)\]\s*(?:(?P<flags>[^\s\d]\S*)\s+)?"
        r"(?P<time>\d+(?:\.\d+)?):\s*(?P<body>.*)$"
    ),
    re.compile(
        _TASK + r"(?P<cpu>\d+)(?P<flags>[^\s\d]\S*)\s+(?P<time>\d+(?:us|\.\d+)).?:\s*(?P<body>.*)$"
    ),
)
_KPROBE = re.compile(r"^(?P<event>[^:\s]+):\s+\((?P<where>[^)]*)\)(?P<rest>.*)$")
_SWITCH = re.compile(
    r"^sched_switch:\s+prev_comm=.* prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+) ==> "
    r"next_comm=.* next_pid=(\d+) next_prio=\d+\s*$"
)
_SWITCH_PLUGIN = re.compile(r"^sched_switch:\s+.*:(\d+) \[\d+\] (\S+) ==> .*:(\d+) \[\d+\]\s*$")
_TRACEPOINT = re.compile(
    r"^(tlb_flush|alloc_vmap_area|free_vmap_area_noflush|purge_vmap_area_lazy):\s+([^(\s].*)$"
)
_ARGUMENT = re.compile(r"(\S+?)=(\S+)")
_IRQ = {"s": 4, "h": 2, "H": 6, "z": 8, "Z": 10}


def nanoseconds(text: str) -> int:
    """Time stamp in ns; a counter stays what it is."""
    if text.endswith("us"):
        return int(text[:-2]) * 1000
    whole, dot, fraction = text.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0")) if dot else int(whole)


def context(flags: str | None) -> int:
    """``ctx`` of the flag columns."""
    if flags is None:
        return 128
    irq, depth = {4: (2, 3), 5: (2, 3), 7: (3, 4)}[len(flags)]
    ctx = 1 if flags[0] in "dD" else 0
    ctx |= _IRQ.get(flags[irq], 0)
    return ctx | (16 if flags[depth] not in ".0" else 0)


def number(text: str) -> int | None:
    """Value of an argument."""
    if re.fullmatch(r"0x[0-9a-f]{1,16}", text):
        return int(text, 16)
    if re.fullmatch(r"-?\d{1,18}", text):
        value = int(text)
        return value & 0xFFFFFFFF if -(2**31) <= value < 0 else value & (2**64 - 1)
    return None


def parse(line: str) -> dict[str, Any] | None:
    """Read one line; None where it is no event that hmtrace keeps."""
    match = next((m for pattern in _CONTEXT if (m := pattern.match(line))), None)
    if match is None:
        return None
    row: dict[str, Any] = {
        "comm": match["comm"],
        "pid": int(match["pid"]),
        "cpu": int(match["cpu"]),
        "ts": nanoseconds(match["time"]),
        "ctx": context(match["flags"]),
        "site": "",
        "caller": 0,
        "values": {},
    }
    body = match["body"]
    if switch := _SWITCH.match(body) or _SWITCH_PLUGIN.match(body):
        row["kind"] = KIND_SWITCH
        row["values"] = {0: int(switch[1]), 1: int("D" in switch[2]), 2: int(switch[3])}
        return row
    if tracepoint := _TRACEPOINT.match(body):
        return _with_tracepoint(row, tracepoint[1], tracepoint[2])
    if re.match(r"(print:\s+)?tracing_mark_write(\+\S+)?:", body):
        row["kind"] = KIND_MARK
        return row
    probe = _KPROBE.match(body)
    if probe is None:
        return None
    site, arrow, symbol = probe["where"].partition(" <- ")
    if not arrow:
        site, symbol = "", site
        if "+" not in symbol:
            return None
    function = function_of(symbol.split(" ")[0])
    if function is None:
        return None
    row["kind"] = 2 * function + bool(arrow)
    if re.fullmatch(r"0x[0-9a-f]+", site):
        row["caller"] = int(site, 16)
    else:
        row["site"] = re.sub(r"(?<=.\+)(0x[0-9a-f]+)/0x[0-9a-f]+", r"\1", site, count=1)
    rest = re.sub(r"\{[^}]*\}|\"[^\"]*\"", "-", probe["rest"])
    for name, text in _ARGUMENT.findall(rest):
        slot = slot_of(function, name, is_return=bool(arrow))
        value = number(text)
        if slot is not None and value is not None:
            row["values"].setdefault(slot, value)
    return row


def _with_tracepoint(row: dict[str, Any], name: str, payload: str) -> dict[str, Any]:
    """Values of a tracepoint of vmalloc or tlb."""
    row["kind"] = TRACEPOINTS[name]
    if name == "tlb_flush":
        pages = re.search(r"pages[:=](\S+)", payload)
        reason = re.search(r"reason=(\d+)", payload) or re.search(r"reason:.*\((\d+)\)", payload)
        for slot, found in ((0, reason), (1, pages)):
            row["values"][slot] = (int(found[1]) if found else -1) & (2**64 - 1)
        return row
    fields = {"va_start": "va_start", "addr": "va_start", "vstart": "start", "vend": "end"}
    order = {
        "alloc_vmap_area": ("size", "align", "start", "end", "va_start"),
        "free_vmap_area_noflush": ("va_start", "nr_lazy", "nr_lazy_max"),
        "purge_vmap_area_lazy": ("start", "end", "num_purged"),
    }[name]
    for argument, text in re.findall(r"(\w+)(?:=|: ?)(\S+)", payload):
        wanted, value = fields.get(argument, argument), number(text)
        if wanted in order and value is not None:
            row["values"][order.index(wanted)] = value
    row["caller"] = row["values"].pop(4, 0)
    return row


def parse_text(text: str) -> list[dict[str, Any]]:
    """Read every line of a text, comments left out."""
    lines = (line for line in text.split("\n") if not line.startswith("#"))
    return [row for line in lines if (row := parse(line.rstrip("\r"))) is not None]
