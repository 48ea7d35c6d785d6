"""A plain look at a trace: what if kmap() were kmap_local_page(), call by call.

Written apart from :mod:`replay.whatif.convert`: one dictionary of stacks, one walk over the events
in the order in which each takes effect.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from replay.machine.layout import Layout

MAP, UNMAP, LOCAL, LOCAL_END, SWITCH, GET = range(6)


def _moments(events: pl.DataFrame, layout: Layout) -> list[tuple[int, int, dict[str, Any]]]:
    """Position, kind and row of what matters."""
    first = layout.kmap_fix_top
    last = first + layout.km_max_idx * layout.nr_cpus * layout.kmap_fix_step
    window = range(min(first, last), max(first, last) + layout.page_size)
    moments = []
    for row in events.iter_rows(named=True):
        op, end = row["op"], row["end_seq"] if row["end_seq"] is not None else row["seq"]
        in_slots = row["vaddr"] is not None and row["vaddr"] in window
        if op == "kmap":
            moments.append((end, MAP, row))
        elif op == "kunmap":
            moments.append((row["seq"], UNMAP, row))
        elif op == "kmap_get" and row["vaddr"]:
            moments.append((end, GET, row))
        elif op == "kmap_local" and in_slots:
            moments.append((end, LOCAL, row))
        elif op == "kunmap_local" and in_slots:
            moments.append((row["seq"], LOCAL_END, row))
        elif op == "switch":
            moments.append((row["seq"], SWITCH, row))
    return sorted(moments, key=lambda moment: moment[0])


def converted(events: pl.DataFrame, layout: Layout, site: str | None = None) -> Counter[str]:
    """What the conversion of all kmap() calls, or of those of a site, comes to.

    Returns
    -------
    Counter
        ``calls``, ``ended``, ``handed``, ``misordered``, ``moved``, ``at_end``, ``strays``;
        ``switches`` and ``local switches`` (mappings taken down at switches); ``depth`` (of any
        mapping, counted from 1), ``depth of kmap``, ``above`` (local mappings that lie deeper).
    """
    stacks: dict[int, list[tuple[str, Any, dict[str, Any]]]] = defaultdict(list)
    found: Counter[str] = Counter()

    def depth(task: int) -> int:
        return sum(kind != "kept" for kind, _, _ in stacks[task])

    for _, kind, row in _moments(events, layout):
        task, page = row["pid"], row["page"]
        if task == 0:
            task = -row["cpu"] - 2
        own = stacks[task]
        if kind in (MAP, GET):
            name = row["site"] or (None if row["caller"] is None else f"{row['caller']:#010x}")
            is_ours = kind == MAP and site in (None, name)
            if kind == GET:
                is_ours = not any(
                    k == "kept" and p == page for s in stacks.values() for k, p, _ in s
                )
            found["calls"] += is_ours and kind == MAP
            own.append(("ours" if is_ours else "kept", page, row))
            if is_ours:
                found["depth"] = max(found["depth"], depth(task))
                found["depth of kmap"] = max(found["depth of kmap"], depth(task))
        elif kind == UNMAP:
            mine = [e for e in own if e[0] != "local" and e[1] == page]
            others = [
                (e[2]["seq"], t, e)
                for t, s in stacks.items()
                for e in s
                if e[0] != "local" and e[1] == page
            ]
            if not mine and not others:
                found["strays"] += 1
                continue
            if mine:
                entry, owner = mine[-1], task
            else:
                _, owner, entry = min(others, key=lambda other: other[0])
            if entry[0] == "ours":
                found["ended"] += 1
                found["handed"] += owner != task
                above = stacks[owner][stacks[owner].index(entry) + 1 :]
                found["misordered"] += owner == task and any(k != "kept" for k, _, _ in above)
                cpu = entry[2]["end_cpu"] if entry[2]["end_cpu"] is not None else entry[2]["cpu"]
                found["moved"] += owner == task and cpu != row["cpu"]
            stacks[owner].remove(entry)
        elif kind == LOCAL:
            ours = sum(k == "ours" for k, _, _ in own)
            found["above"] += ours > 0
            own.append(("local", page, row))
            found["depth"] = max(found["depth"], depth(task))
        elif kind == LOCAL_END:
            local = [n for n, (k, _, _) in enumerate(own) if k == "local"]
            if local:
                found["misordered"] += any(k == "ours" for k, _, _ in own[local[-1] + 1 :])
                own.pop(local[-1])
        else:
            found["switches"] += sum(k == "ours" for k, _, _ in own)
            found["local switches"] += sum(k == "local" for k, _, _ in own)
    found["at_end"] = sum(k == "ours" for s in stacks.values() for k, _, _ in s)
    return found
