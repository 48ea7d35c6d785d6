"""The event table by plain Python over a whole trace: what the compiled loop must give.

Written apart from :mod:`collectors.table.pairing`: lists, one stack per task, no pieces.
"""

from __future__ import annotations

from collectors import probes
from collectors.events import OP_CODE, OPS, REASONS

PAGE_CALL = probes.FUNCTION_OF["__kmap_local_page_prot"]
PFN_CALL = probes.FUNCTION_OF["__kmap_local_pfn_prot"]
HOSTS = {probes.FUNCTION_OF[f.host] for f in probes.FUNCTIONS if f.host}
WALK = 64
FAULT = 32
ALLOC = probes.FUNCTION_OF["alloc_vmap_area"]


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


def is_error(pointer):
    return pointer == 0 or 0xFFFFF001 <= pointer < 1 << 32 or pointer > (1 << 64) - 4096


def settle(row, weight, vaddr):
    """Verdict on an allocation: its address, 0 failed, None unknown; the weightiest stands."""
    if weight < row.get("weight", 0):
        return
    row.pop("vaddr", None)
    row["weight"] = weight
    if vaddr is not None:
        row["vaddr"] = vaddr


def no_room(event):
    """Attempt that the tracepoint of alloc_vmap_area tells of."""
    address, end = int(event["caller"]), int(event["values"][3])
    return bool(event["present"] & FAULT or (address and event["present"] & 8 and address >= end))


def put_attempt(row, event):
    if no_room(event):
        settle(row, 1, 0)
    elif event["caller"]:
        settle(row, 3, int(event["caller"]))


def put_note(row, event, seq, function):
    put_values(row, event, function.op, function.result, only_new=True)
    if len(function.result) > 4:
        put_attempt(row, event)
        if not row["entry_traced"]:
            row |= {"end_ts": int(event["ts"]), "end_seq": seq, "end_cpu": int(event["cpu"])}


def put_allocated(row, event, *, purged):
    va, first, last = (int(v) for v in event["values"][:3])
    has = [bool(event["present"] >> i & 1) for i in range(3)]
    if has[0]:
        if is_error(va) or has[1]:
            settle(row, 3, 0 if is_error(va) else first)
        elif not row.get("vaddr"):
            settle(row, 3, None)
        return
    if event["present"] & FAULT:
        settle(row, 3, 0)
    elif has[1]:
        asked = [row.get(n) for n in ("size", "start", "end")]
        good = first > 0 and first % 4096 == 0 and not (has[2] and last <= first)
        if good and None not in asked and 0 < asked[0] <= asked[2] - asked[1]:
            size, start, end = asked
            good = start <= first <= end - size and not (has[2] and last - first != size)
            align = row.get("align", 0)
            if bin(align).count("1") == 1 and first % align:
                good = False
        settle(row, 0, 0 if not good else None if purged else first)


def put_outer(row, event, function):
    """What the call returned that an allocation was made for."""
    result = int(event["values"][0])
    tells = function.result[0] == "vaddr"
    if row.get("weight") == 3:
        if not is_error(result) and tells and "vaddr" not in row:
            row["vaddr"] = result
    elif is_error(result):
        settle(row, 2, 0)
    elif tells:
        settle(row, 2, result)
    elif row.get("vaddr") == 0:
        settle(row, 2, None)


def put_caller(row, event):
    if event["caller"]:
        row["caller"] = int(event["caller"])
    if event["site"]:
        row["site"] = int(event["site"])


def put_end(row, event, seq):
    row |= {"end_ts": int(event["ts"]), "end_seq": seq, "end_cpu": int(event["cpu"])}


def put_return(row, event, seq, function, *, purged=False):
    put_end(row, event, seq)
    if function.op == "area_alloc" and not function.host:
        put_allocated(row, event, purged=purged)
    else:
        put_values(row, event, function.op, function.result)
    if len(function.result) > 4:
        put_attempt(row, event)
    else:
        put_caller(row, event)
    shown = {column_of(function.op, n) for n in function.result[3:4]} - {None}
    if event["present"] & 8 and not shown:
        row["duration"] = int(event["values"][3])
    if "purged" in row:
        row.setdefault("pages", int(row["purged"] > 0))


def watcher_of(calls, row):
    """The open call that an allocation was made for."""
    return next((c for c in calls if c["area"] is row), None)


def hear(calls, row, event, *, tracepoint):
    """What an allocation's own events tell: is its caller's result still wanted?"""
    call = watcher_of(calls, row)
    if call is None:
        return
    has_va, has_start = event["present"] & 1, event["present"] & 2
    if tracepoint:
        sure = event["caller"] and not no_room(event)
    else:
        sure = event["present"] & FAULT and not has_va
        sure = sure or (has_va and (has_start or is_error(int(event["values"][0]))))
        if event["present"] & FAULT:
            sure = True
        if not sure and has_start and not has_va:
            call["area_start"] = int(event["values"][1])
    if sure:
        call["area"] = None


def see(calls, row, event, kind):
    """Tell the open calls of a task, the innermost first, of a row."""
    op = OPS[row["op"]]
    if op in ("area_free", "vfree", "vunmap"):
        slot = 1 if op == "area_free" and not kind & 1 else 0
        known = event["present"] >> slot & 1
        start = int(event["values"][slot]) if known else 0
        if known and not start:
            return
        own = None
        for call in calls:
            if call["code"] == ALLOC:
                own = call["row"]
            other = call["area"] is not None and call["area"] is not own
            if other and (not start or call["area_start"] in (0, start)):
                call["area"] = None
    elif op == "area_purge":
        call = next((c for c in calls if c["code"] == ALLOC), None)
        if call is not None:
            call["purged"] = True
    elif op == "area_alloc" and calls:
        calls[0] |= {"area": row, "area_start": 0}


def innermost(stack):
    return stack[::-1][:WALK]


def show_outer(stacks, event, pid, cpu, lost_at):
    """Note the first stack trace inside each open call of its task and context."""
    ctx = int(event["ctx"])
    for call in innermost(stacks.get(("idle", cpu) if pid == 0 else pid, [])):
        if call["seq"] < lost_at or (128 not in (ctx, call["ctx"]) and (ctx ^ call["ctx"]) & 14):
            return
        if not call.get("shown") and call["row"] is not None and int(event["values"][0]):
            call["row"]["within"] = int(event["values"][0])
        call["shown"] = True


def slow_table(raw):
    """Rows as dicts without nulls, from a structured array."""
    events = list(raw)
    kinds = [int(e["kind"]) for e in events]
    has_return = {k >> 1 for k in kinds if k < probes.KIND_SWITCH and k & 1}
    rows = []
    stacks = {}
    previous = {}
    hosts = {}
    tried = {}
    last = {}
    lost_at, lost_on = 0, set()
    for seq, (event, kind) in enumerate(zip(events, kinds, strict=True)):
        cpu, pid = int(event["cpu"]), int(event["pid"])
        if kind == probes.KIND_STACK:
            show_outer(stacks, event, pid, cpu, lost_at)
            if last.get(cpu, (None, pid)) == (None, pid) or last[cpu][1] != pid:
                continue
            if last[cpu][0] is not None and int(event["values"][0]):
                last[cpu][0].setdefault("stack", int(event["values"][0]))
            continue
        last[cpu] = (None, pid)
        if kind == probes.KIND_LOST or cpu in lost_on:
            lost_at = seq
            lost_on = lost_on | {cpu} if kind == probes.KIND_LOST else lost_on - {cpu}
        function = probes.FUNCTIONS[kind >> 1] if kind < probes.KIND_SWITCH else None
        silent = function is not None and function.op is None
        if kind > probes.KIND_SWITCH or (silent and not function.encloses):
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
        row["op"] = None if silent else OP_CODE[function.op]
        task = ("idle", row["cpu"]) if row["pid"] == 0 else row["pid"]
        stack = stacks.setdefault(task, [])
        code = kind >> 1
        before, previous[task] = previous.get(task), None
        before = None if before is not None and before["seq"] < lost_at else before
        for noted in (hosts, tried):
            if noted.get(task, (None, {"seq": seq}))[1]["seq"] < lost_at:
                noted.pop(task)
        if function.host:
            host = probes.FUNCTION_OF[function.host]
            call = next((c for c in reversed(stack[-WALK - 1 :]) if c["code"] == host), None)
            asked = tuple(int(v) for v in event["values"]) if len(function.result) > 4 else None
            if call is not None and call["seq"] < lost_at:
                continue
            of = None if call is None else call["row"]
            again = False
            if call is None and hosts.get(task, (None,))[0] == host:
                of = hosts.pop(task)[1]
            elif call is None and asked and tried.get(task, (None,))[0] == asked:
                of, again = tried.pop(task)[1], True
            if of is None and call is None:
                row["entry_traced"] = False
                put_return(row, event, seq, function)
                rows.append(row)
                see(innermost(stack), row, event, kind)
                of = row
            elif of is not None:
                put_note(of, event, seq, function)
            if host == ALLOC:
                above = stack if call is None else stack[: stack.index(call)]
                hear(innermost(above), of, event, tracepoint=True)
            if call is None and asked and not again:
                tried.pop(task, None)
                if no_room(event):
                    tried[task] = (asked, of)
            last[cpu] = (of, pid)
            continue
        if kind & 1:
            at = next((i for i in range(1, len(stack) + 1) if stack[-i]["code"] == code), WALK + 2)
            if at <= WALK + 1:
                call = stack[-at]
                del stack[-at:]
                if call["seq"] < lost_at:
                    of_local = function.op == "kmap_local"
                    if call["row"] is not None and not of_local:
                        put_end(call["row"], event, seq)
                    continue
                if call["row"] is not None:
                    put_return(call["row"], event, seq, function, purged=call["purged"])
                if code == ALLOC:
                    hear(innermost(stack), call["row"], event, tracepoint=False)
                if function.encloses and call["area"] is not None and event["present"] & 1:
                    put_outer(call["area"], event, function)
                    passes_on = function.result[0] == "area" and event["values"][0]
                    if passes_on and stack and stack[-1]["area"] is None:
                        stack[-1] |= {n: call[n] for n in ("area", "area_start")}
                last[cpu] = (call["row"], pid)
                if code == PFN_CALL and PAGE_CALL in has_return:
                    previous[task] = call["row"]
                continue
            given = int(event["values"][0]) if event["present"] & 1 else None
            if code == PAGE_CALL and before and before.get("vaddr", 0) == given:
                put_return(before, event, seq, function)
                last[cpu] = (before, pid)
                continue
            if silent:
                continue
            row["entry_traced"] = False
            put_return(row, event, seq, function)
            rows.append(row)
            see(innermost(stack), row, event, kind)
            if code == ALLOC:
                hear(innermost(stack), row, event, tracepoint=False)
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
        stale = stack and stack[-1]["seq"] < lost_at
        parent = stack[-1]["inside"] if stack and not stale else None
        if code == ALLOC:
            tried.pop(task, None)
        outer = None
        if code == PFN_CALL:
            if stack and not stale and stack[-1]["code"] == PAGE_CALL:
                if not stack[-1]["inner"]:
                    stack[-1]["inner"] = True
                    outer = stack[-1]["row"]
            elif PAGE_CALL not in has_return:
                outer = before
        if outer is None and not silent:
            if parent is not None:
                row["parent"] = parent
            put_values(row, event, function.op, function.entry)
            put_caller(row, event)
            rows.append(row)
            see(innermost(stack), row, event, kind)
        elif outer is not None and event["present"] & 1:
            outer["pfn"] = int(event["values"][0])
        shown = None if silent else row
        last[cpu] = (shown if outer is None else outer, pid)
        if code in has_return:
            own = shown if outer is None else None
            inside = parent if own is None else seq
            stack.append(
                {
                    "code": code,
                    "seq": seq,
                    "ctx": row["ctx"],
                    "row": own,
                    "inside": inside,
                    "inner": False,
                }
                | {"purged": False, "area": None, "area_start": 0}
            )
        elif code == PAGE_CALL:
            previous[task] = row
        elif code in HOSTS:
            hosts[task] = (code, row)
    for row in rows:
        row.pop("weight", None)
    return rows
