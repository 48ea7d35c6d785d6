"""The event table by plain Python over a whole trace: what the compiled loop must give.

Written apart from :mod:`collectors.table.pairing`: lists, one stack per task, no pieces.
"""

from __future__ import annotations

from collectors import probes
from collectors.events import OP_CODE, REASONS

PAGE_CALL = probes.FUNCTION_OF["__kmap_local_page_prot"]
PFN_CALL = probes.FUNCTION_OF["__kmap_local_pfn_prot"]
HOSTS = {probes.FUNCTION_OF[f.host] for f in probes.FUNCTIONS if f.host}
WALK = 64


def column_of(op, name):
    if op == "area_free" and name.startswith("va"):
        return {"va_start": "vaddr", "va_end": "end"}.get(name)
    name = {"count": "pages", "purged": "pages", "num_purged": "purged"}.get(name, name)
    known = ("page", "pfn", "vaddr", "pages", "size", "align", "start", "end", "caller")
    return name if name in (*known, "nr_lazy", "nr_lazy_max", "purged") else None


def put_values(row, event, op, names, *, only_new=False):
    if op == "tlb_flush":
        reason, pages = (int(v) for v in event["values"][:2])
        if event["present"] & 1 and reason < len(REASONS):
            row["reason"] = REASONS[reason]
        if event["present"] & 2 and pages < 0xFFFFFFFF:
            row["pages"] = pages
        return
    for slot, name in enumerate(names[:4]):
        column = column_of(op, name)
        if column and int(event["present"]) >> slot & 1 and not (only_new and column in row):
            row[column] = int(event["values"][slot])


def put_area(row, event):
    """Fifth value of the tracepoint of alloc_vmap_area."""
    address, end = int(event["caller"]), int(event["values"][3])
    if address:
        row["vaddr"] = 0 if event["present"] & 8 and address >= end else address


def put_note(row, event, function):
    is_new = "vaddr" not in row
    put_values(row, event, function.op, function.result, only_new=True)
    if len(function.result) > 4 and is_new:
        put_area(row, event)


def put_caller(row, event):
    if event["caller"]:
        row["caller"] = int(event["caller"])
    if event["site"]:
        row["site"] = int(event["site"])


def put_return(row, event, seq, function):
    row |= {"end_ts": int(event["ts"]), "end_seq": seq, "end_cpu": int(event["cpu"])}
    if function.op == "area_alloc" and not function.host:
        values = [int(v) for v in event["values"]]
        if event["present"] & 1 and values[0] >= 0xFFFFF001:
            row["vaddr"] = 0
        elif event["present"] & 2:
            row["vaddr"] = values[1]
    else:
        put_values(row, event, function.op, function.result)
    if len(function.result) > 4:
        put_area(row, event)
    else:
        put_caller(row, event)
    shown = {column_of(function.op, n) for n in function.result[3:4]} - {None}
    if event["present"] & 8 and not shown:
        row["duration"] = int(event["values"][3])
    if "purged" in row:
        row.setdefault("pages", int(row["purged"] > 0))


def slow_table(raw):
    """Rows as dicts without nulls, from a structured array."""
    events = list(raw)
    kinds = [int(e["kind"]) for e in events]
    has_return = {k >> 1 for k in kinds if k < probes.KIND_SWITCH and k & 1}
    rows = []
    stacks = {}
    previous = {}
    hosts = {}
    last = {}
    for seq, (event, kind) in enumerate(zip(events, kinds, strict=True)):
        cpu, pid = int(event["cpu"]), int(event["pid"])
        if kind == probes.KIND_STACK:
            if last.get(cpu, (None, pid)) == (None, pid) or last[cpu][1] != pid:
                continue
            if last[cpu][0] is not None and int(event["values"][0]):
                last[cpu][0].setdefault("stack", int(event["values"][0]))
            continue
        last[cpu] = (None, pid)
        function = probes.FUNCTIONS[kind >> 1] if kind < probes.KIND_SWITCH else None
        if kind > probes.KIND_SWITCH or (function and function.op is None):
            continue
        row = {name: int(event[name]) for name in ("ts", "cpu", "pid", "ctx", "comm")}
        row |= {"seq": seq, "entry_traced": True}
        if function is None:
            row["op"] = OP_CODE["switch"]
            if event["present"] & 4:  # of a switch without a next task nothing is known
                row["next_pid"] = int(event["values"][2])
                row["blocked"] = bool(event["values"][1])
            put_caller(row, event)
            rows.append(row)
            last[cpu] = (row, pid)
            continue
        row["op"] = OP_CODE[function.op]
        task = ("idle", row["cpu"]) if row["pid"] == 0 else row["pid"]
        stack = stacks.setdefault(task, [])
        code = kind >> 1
        before, previous[task] = previous.get(task), None
        if function.host:
            host = probes.FUNCTION_OF[function.host]
            call = next((c for c in reversed(stack[-WALK - 1 :]) if c["code"] == host), None)
            if call is None and hosts.get(task, (None,))[0] == host:
                call = {"row": hosts.pop(task)[1]}
            if call is not None:
                if call["row"] is not None:
                    put_note(call["row"], event, function)
                last[cpu] = (call["row"], pid)
                continue
        if kind & 1:
            at = next((i for i in range(1, len(stack) + 1) if stack[-i]["code"] == code), WALK + 2)
            if at <= WALK + 1:
                call = stack[-at]
                del stack[-at:]
                if call["row"] is not None:
                    put_return(call["row"], event, seq, function)
                last[cpu] = (call["row"], pid)
                if code == PFN_CALL and PAGE_CALL in has_return:
                    previous[task] = call["row"]
                continue
            given = int(event["values"][0]) if event["present"] & 1 else None
            if code == PAGE_CALL and before and before.get("vaddr", 0) == given:
                put_return(before, event, seq, function)
                last[cpu] = (before, pid)
                continue
            row["entry_traced"] = False
            put_return(row, event, seq, function)
            rows.append(row)
            last[cpu] = (row, pid)
            if code == PFN_CALL and PAGE_CALL in has_return:
                previous[task] = row
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
        last[cpu] = (row if outer is None else outer, pid)
        if code in has_return:
            own = row if outer is None else None
            inside = parent if own is None else seq
            stack.append(
                {"code": code, "ctx": row["ctx"], "row": own, "inside": inside, "inner": False}
            )
        elif code == PAGE_CALL:
            previous[task] = row
        elif code in HOSTS:
            hosts[task] = (code, row)
    return rows
