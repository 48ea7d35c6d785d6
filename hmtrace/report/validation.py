"""Result of `validate`: the model's predictions beside what the kernel did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.text import Text

from collectors.records import dataclass, field
from hmtrace.report.parts import Elided, heading, indented, plain_table
from hmtrace.report.text import NA, clean, clock, count, plural, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from replay.machine.layout import Check

NONE = "-"
"""Shown where a capture holds nothing of a kind."""

ADDRESSES = ("kmap", "kmap_local", "vmap")
"""Keys of an entry that count addresses: ``{total, exact}``."""


@dataclass(frozen=True)
class Checked:
    """One capture that `validate` was given.

    Attributes
    ----------
    path
        As the user gave it.
    entry
        Its entry of the JSON document without `path`; None where the capture could not be read.
    layout
        Checks of the derived layout.
    lost
        Losses in words; empty where nothing was lost.
    error
        Why it could not be read.
    """

    path: str
    entry: dict[str, Any] | None
    layout: tuple[Check, ...] = field(default=())
    lost: str = ""
    error: str = ""


def exact_share(entries: Sequence[Mapping[str, Any]], key: str | None = None) -> float | None:
    """Share of addresses predicted exactly.

    Parameters
    ----------
    entries
        Entries of captures.
    key
        One of :data:`ADDRESSES`; None: all of them together.

    Returns
    -------
    float or None
        None where there was nothing to predict.
    """
    total, exact = totals(entries, key)
    return exact / total if total else None


def totals(entries: Sequence[Mapping[str, Any]], key: str | None = None) -> tuple[int, int]:
    """Number of addresses, and of those predicted exactly, over several captures."""
    keys = ADDRESSES if key is None else (key,)
    total = sum(e.get(k, {}).get("total", 0) for e in entries for k in keys)
    exact = sum(e.get(k, {}).get("exact", 0) for e in entries for k in keys)
    return total, exact


def validation_table(checked: Sequence[Checked]) -> Iterator[RenderableType]:
    """One row per capture and a total, then what needs words.

    Yields
    ------
    RenderableType
        Table, notes per capture, explanation.
    """
    table = plain_table(
        ("capture", "left"),
        ("kmap", "right"),
        ("local", "right"),
        ("vmap", "right"),
        ("flushes", "right"),
        ("waits", "right"),
        ("layout", "right"),
        expand_first=True,
    )
    for one in checked:
        path = clean(one.path)
        name = Elided(path, len(path) - path.rstrip("/").rfind("/"))
        if one.entry is None:
            table.add_row(name, "cannot", "be read", "", "", "", "")
        else:
            table.add_row(name, *_cells([one.entry], one.layout))
    read = [one.entry for one in checked if one.entry is not None]
    if len(checked) > 1 and read:
        every = tuple(check for one in checked for check in one.layout)
        table.add_row(
            Text("total", style="bold"), *_cells(read, every), style="bold", end_section=True
        )
    yield table
    yield from _counts(read)
    for one in checked:
        yield from _notes(one)


def _cells(entries: Sequence[Mapping[str, Any]], layout: Sequence[Check]) -> tuple[str, ...]:
    flushes = _sums(entries, "pool_flushes", ("matched", "observed"))
    # Where kmap() has no return probe nobody knows who waited: such captures cannot be compared.
    timed = [e for e in entries if e.get("waits", {}).get("observed") is not None]
    waits = _sums(timed, "waits", ("predicted", "observed"))
    good = sum(check.ok for check in layout)
    return (
        *(_percent(*totals(entries, key)) for key in ADDRESSES),
        "{}/{}".format(*flushes) if any(flushes) else NONE,
        ("{}/{}".format(*waits) if any(waits) else NONE) if timed else NA,
        f"{good}/{len(layout)}" if layout else NA,
    )


def _percent(total: int, exact: int) -> str:
    """Share that never rounds up to 100 %: one wrong address in a million is visible."""
    if not total:
        return NONE
    if exact == total:
        return "100 %"
    return f"{min(exact / total * 100, 99.99):.2f} %" if exact else "0 %"


def _sums(entries: Sequence[Mapping[str, Any]], key: str, names: Sequence[str]) -> tuple[int, ...]:
    """Sums over entries; what was not observable (None, or below 0) counts nothing."""
    return tuple(sum(max((e.get(key) or {}).get(name) or 0, 0) for e in entries) for name in names)


def _counts(entries: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """The counts behind the percentages."""
    if not entries:
        return
    words = []
    for key in ADDRESSES:
        total, exact = totals(entries, key)
        if total:
            words.append(f"{key} {count(exact)} of {count(total)}")
    unpredicted = [
        key for key in ADDRESSES if not totals(entries, key)[1] and totals(entries, key)[0]
    ]
    if not words:
        words.append("none, these captures hold no address to predict")
    inferred = [entry.get("inferred", {}) for entry in entries]
    initial = sum(i.get("initial_state", 0) for i in inferred)
    ordering = sum(i.get("ordering", 0) for i in inferred)
    fed = []
    if initial:
        fed.append(f"{count(initial)} to find the initial state (never counted as exact)")
    if ordering:
        fed.append(f"{count(ordering)} to order calls that overlapped")
    (ordered,) = _sums(entries, "pool_flushes", ("ordered",))
    if ordered:
        fed.append(f"{count(ordered)} TLB flushes, or their absence, to order calls around them")
    yield Text()
    yield Text("addresses predicted exactly: " + ", ".join(words), style="dim")
    yield Text("flushes: matched/observed · waits: predicted/observed", style="dim")
    kernels = Counter(e["generation"] for e in entries if e.get("generation"))
    if kernels:
        named = (f"{clean(name)} ({plural(n, 'capture')})" for name, n in sorted(kernels.items()))
        yield Text("kernels like " + ", ".join(named), style="dim")
    counted, exact = (sum(e.get("lazy", {}).get(k, 0) for e in entries) for k in ("total", "exact"))
    if counted:
        yield Text(
            f"pages waiting for a purge: {count(exact)} of {count(counted)} counters of the kernel",
            style="dim",
        )
    if unpredicted:
        yield Text(f"{', '.join(unpredicted)}: the model predicted no address", style="dim")
    left_open, guessed, wrong = _sums(entries, "arena", ("ambiguous", "ambiguous_right", "wrong"))
    if left_open or wrong:
        yield Text(
            f"vmap left open by the files: {count(left_open)} (guessed right: {count(guessed)})"
            f" · certain and wrong: {count(wrong)}",
            style="dim",
        )
    if fed:
        yield Text("observations used: " + ", ".join(fed), style="dim")


def _notes(one: Checked) -> Iterator[RenderableType]:
    lines: list[Text] = []
    if one.error:
        lines.append(Text(clean(one.error, 500), style="red"))
    if one.lost:
        lines.append(Text(f"!! {one.lost}", style="bold red"))
    lines += [
        Text(
            f"layout: {clean(c.name)} predicted {_value(c.predicted)}, "
            f"{clean(c.source)} says {_value(c.observed)}",
            style="red",
        )
        for c in one.layout
        if not c.ok
    ]
    lines += [Text(words, style="yellow") for words in _pool_caveats(one.entry or {})]
    arena = one.entry.get("arena") if one.entry is not None else None
    caveats = arena.get("caveats", ()) if arena else ()
    lines += [Text(f"arena: {clean(caveat, 300)}", style="yellow") for caveat in caveats]
    if one.entry is not None and one.entry.get("first_divergence"):
        divergence = one.entry["first_divergence"]
        lines.append(Text(divergence_in_words(divergence)))
        lines += [Text(line, style="dim") for line in picture_lines(divergence.get("picture"))]
    if not lines:
        return
    yield heading(clean(one.path))
    for line in lines:
        yield indented(line)


def _pool_caveats(entry: Mapping[str, Any]) -> Iterator[str]:
    """Why less of the pool is foretold than the trace has."""
    nameless = (entry.get("inferred") or {}).get("nameless", 0)
    if nameless:
        calls = "1 call has" if nameless == 1 else f"{count(nameless)} calls have"
        yield (
            f"kmap: {calls} a return and no entry in this trace (lost, or recording ran before "
            "that probe was set): which page they map, and so what is in their slots from there "
            "on, is not known"
        )
    flushes = entry.get("pool_flushes") or {}
    more = (flushes.get("tlb_observed") or 0) - flushes.get("tlb_predicted", 0)
    if more > 0 and str(entry.get("initial_state", "")).startswith("inferred"):
        yield (
            f"flushes: {plural(more, 'TLB flush', 'TLB flushes')} of the kernel more than the "
            "model makes, as slots explain that were stale before the trace: no snapshot of the "
            "pool tells"
        )


def picture_lines(picture: Mapping[str, Any] | None) -> list[str]:
    """The slots, or the areas, around a divergence; an arrow where each of the two put it.

    Parameters
    ----------
    picture
        ``first_divergence.picture`` of the JSON document.

    Returns
    -------
    list of str
        Empty without a picture.
    """
    lines = []
    last = None
    for row in (picture or {}).get("rows", ()):
        place = row.get("slot", row.get("start", 0))
        if last is not None and place > last:
            lines.append("  …")
        arrow = f"  <- {', '.join(row['marks'])}" if row["marks"] else ""
        if "slot" in row:
            state = {0: "free", 1: "stale"}.get(row["count"], f"{row['count'] - 1} using it")
            frame = "" if row["pfn"] is None else f"  frame {row['pfn']:#x}"
            text = f"  slot {row['slot']:4}  {row['address']:08x}  {state:<12}{frame}"
            last = row["slot"] + 1
        else:
            extent = size(row["end"] - row["start"])
            text = f"  {row['start']:08x}-{row['end']:08x}  {row['state']:<5} {extent:>8}"
            last = row["end"]
        lines.append((text.rstrip() if not arrow else text) + arrow)
    return lines


_SPOKEN = frozenset(
    {"seq", "ts", "cpu", "pid", "comm", "op", "predicted", "observed", "what", "picture"}
)


def divergence_in_words(divergence: Mapping[str, Any]) -> str:
    """First divergence: where, who, what was expected, what came, the state around it.

    Parameters
    ----------
    divergence
        ``first_divergence`` of the JSON document; keys beyond the usual ones are shown as state.

    Returns
    -------
    str
        One line, or two with the state.
    """
    where = [f"seq {divergence['seq']}"] if "seq" in divergence else []
    if isinstance(divergence.get("ts"), int | float):
        where.append(f"at {clock(divergence['ts'])}")
    if divergence.get("cpu") is not None:
        where.append(f"CPU {divergence['cpu']}")
    if divergence.get("pid") is not None or divergence.get("comm"):
        where.append(f"{clean(divergence.get('comm') or '?')}[{clean(divergence.get('pid', '?'))}]")
    what = divergence.get("op") or divergence.get("what")
    text = "first divergence: " + ", ".join(where)
    text += f": {clean(what)}" if what else ""
    text += f" predicted {_value(divergence.get('predicted'))}"
    text += f", the kernel {_value(divergence.get('observed'))}"
    state = [f"{clean(k)} {_value(v)}" for k, v in divergence.items() if k not in _SPOKEN]
    return text + (f"\n  state: {', '.join(state)}" if state else "")


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return NA if value is None else str(value).lower()
    if isinstance(value, int) and abs(value) > 0xFFFF:
        return f"{value:#x}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{clean(k)}: {_value(v)}" for k, v in value.items()) + "}"
    return clean(value)
