"""The event table by plain Python over a whole trace: what the compiled loop must give.

Written apart from :mod:`collectors.pairing`: lists, one stack per task, no pieces.
"""

from __future__ import annotations

from collectors import probes
from collectors.events import OP_CODE

PAGE_CALL = probes.FUNCTION_OF["__kmap_local_page_prot"]
PFN_CALL = probes.FUNCTION_OF["__kmap_local_pfn_prot"]
WALK = 64


def column_of(op, name):
    if op == "area_free":
        return {"va_start": "vaddr", "va_end": "end"}.get(name)
    name = {"count": "pages", "purged": "pages"}.get(name, name)
    known = ("page", "pfn", "vaddr", "pages", "size", "align", "start", "end", "caller")
    return name if name in known else None


def put_values(row, event, op, names):
    for slot, name in enumerate(names):
        column = column_of(op, name)
        if column and int(event["present"]) >> slot & 1:
            row[column] = int(event["values"][slot])


def put_caller(row, event):
    if event["caller"]:
        row["caller"] = int(event["caller"])
    if event["site"]:
        row["site"] = int(event["site"])


def put_return(row, event, seq, function):
    row |= {"end_ts": int(event["ts"]), "end_seq": seq, "end_cpu": int(event["cpu"])}
    if function.op == "area_alloc":
        values = [int(v) for v in event["values"]]
        if event["present"] & 1 and values[0] >= 0xFFFFF001:
            row["vaddr"] = 0
        elif event["present"] & 2:
            row["vaddr"] = values[1]
    else:
        put_values(row, event, function.op, function.result)
    put_caller(row, event)


def slow_table(raw):
    """Rows as dicts without nulls, from a structured array."""
    events = list(raw)
    kinds = [int(e["kind"]) for e in events]
    has_return = {k >> 1 for k in kinds if k < probes.KIND_SWITCH and k & 1}
    rows = []
    stacks = {}
    previous = {}
    for seq, (event, kind) in enumerate(zip(events, kinds, strict=True)):
        function = probes.FUNCTIONS[kind >> 1] if kind < probes.KIND_SWITCH else None
        if kind > probes.KIND_SWITCH or (function and function.op is None):
            continue
        row = {name: int(event[name]) for name in ("ts", "cpu", "pid", "ctx", "comm")}
        row |= {"seq": seq, "entry_traced": True}
        if function is None:
            row["op"] = OP_CODE["switch"]
            row["next_pid"] = int(event["values"][2])
            row["blocked"] = bool(event["values"][1])
            put_caller(row, event)
            rows.append(row)
            continue
        row["op"] = OP_CODE[function.op]
        task = ("idle", row["cpu"]) if row["pid"] == 0 else row["pid"]
        stack = stacks.setdefault(task, [])
        code = kind >> 1
        before, previous[task] = previous.get(task), None
        if kind & 1:
            at = next((i for i in range(1, len(stack) + 1) if stack[-i]["code"] == code), WALK + 2)
            if at <= WALK + 1:
                call = stack[-at]
                del stack[-at:]
                if call["row"] is not None:
                    put_return(call["row"], event, seq, function)
                continue
            row["entry_traced"] = False
            put_return(row, event, seq, function)
            rows.append(row)
            continue
        if code in has_return:
            for at in range(1, min(len(stack), WALK) + 1):
                call = stack[-at]
                same = call["ctx"] != 128 and not (call["ctx"] ^ row["ctx"]) & 14
                if call["code"] == code and same:
                    del stack[-at:]
                    break
        parent = stack[-1]["inside"] if stack else None
        outer = None
        if code == PFN_CALL:
            if stack and stack[-1]["code"] == PAGE_CALL:
                if not stack[-1]["inner"]:
                    stack[-1]["inner"] = True
                    outer = stack[-1]["row"]
            elif PAGE_CALL not in has_return:
                outer = before
        if outer is None:
            if parent is not None:
                row["parent"] = parent
            put_values(row, event, function.op, function.entry)
            put_caller(row, event)
            rows.append(row)
        elif event["present"] & 1:
            outer["pfn"] = int(event["values"][0])
        if code in has_return:
            own = row if outer is None else None
            inside = parent if own is None else seq
            stack.append(
                {"code": code, "ctx": row["ctx"], "row": own, "inside": inside, "inner": False}
            )
        elif code == PAGE_CALL:
            previous[task] = row
    return rows
