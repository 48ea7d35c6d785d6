"""Writers of text traces: the kernel's and trace-cmd's line formats, from the same events."""

from __future__ import annotations

from dataclasses import dataclass

FLAG_NAMES = {
    4: ("irqs-off", "need-resched", "hardirq/softirq", "preempt-depth"),
    5: (
        "irqs-off/BH-disabled",
        "need-resched",
        "hardirq/softirq",
        "preempt-depth",
        "migrate-disable",
    ),
    7: (
        "irqs-off/BH-disabled",
        "need-resched",
        "need-resched-lazy",
        "hardirq/softirq",
        "preempt-depth",
        "preempt-lazy-depth",
        "migrate-disable",
    ),
}


@dataclass(frozen=True)
class Event:
    """One event: `body` is all that follows the time stamp."""

    comm: str
    pid: int
    cpu: int
    ts: int
    body: str
    irqs_off: bool = False
    irq: str = "."
    depth: int = 0


def flags(event: Event, width: int) -> str:
    """Flag columns of an event."""
    irq = "d" if event.irqs_off else "."
    depth = f"{event.depth:x}" if event.depth else "."
    columns = {
        0: "",
        4: f"{irq}.{event.irq}{depth}",
        5: f"{irq}.{event.irq}{depth}.",
        7: f"{irq}..{event.irq}{depth}..",
    }
    return columns[width]


def header(width: int, *, entries: int = 1, written: int | None = None, tgid: bool = False) -> str:
    """Comment lines of the tracefs file ``trace``."""
    written = entries if written is None else written
    lines = [
        "# tracer: nop",
        "#",
        f"# entries-in-buffer/entries-written: {entries}/{written}   #P:2",
        "#",
    ]
    names = FLAG_NAMES.get(width, ())
    for i, name in enumerate(names):
        lines.append("#" + " " * 32 + "|" * i + "_" + "-" * (width - i) + "=> " + name)
    lines.append(
        "#           TASK-PID  " + ("   TGID  " if tgid else "") + "   CPU#  " + "|" * width
    )
    return "\n".join(lines) + "\n"


def stamp(ts: int, clock: str) -> str:
    """Time stamp and colon: ``us`` (rounded as ns2usecs does), ``ns`` or ``counter``."""
    if clock == "counter":
        return f"{ts:12d}: "
    if clock == "ns":
        return f"{ts // 10**9:5d}.{ts % 10**9:09d}: "
    us = (ts + 500) // 1000
    return f"{us // 10**6:5d}.{us % 10**6:06d}: "


def tracefs(events: list[Event], width: int = 5, *, tgid: bool = False, clock: str = "us") -> str:
    """Lines of ``trace`` or ``trace_pipe``."""
    lines = []
    for e in events:
        group = f"({e.pid:7d}) " if tgid and e.pid else "(-------) " if tgid else ""
        columns = flags(e, width)
        columns = f"{columns} " if columns else ""
        left = f"{e.comm:>16}-{e.pid:<7d} {group}[{e.cpu:03d}] {columns}"
        lines.append(f"{left}{stamp(e.ts, clock)}{e.body}")
    return "\n".join(lines) + "\n"


def latency(events: list[Event]) -> str:
    """Lines of latency-format: microseconds since the first event."""
    lines = []
    for e in events:
        us = (e.ts - events[0].ts) // 1000
        lines.append(f"{e.comm[:8]:>8}-{e.pid:<7d} {e.cpu:3d}{flags(e, 5)} {us:4d}us+: {e.body}")
    return "\n".join(lines) + "\n"


def report(events: list[Event], cpus: int = 2) -> str:
    """Lines of ``trace-cmd report``."""
    lines = [f"cpus={cpus}"]
    for e in events:
        name, _, payload = e.body.partition(" ")
        lines.append(
            f"{e.comm:>16}-{e.pid:<5d} [{e.cpu:03d}] {stamp(e.ts, 'us')}{name:<21} {payload}"
        )
    return "\n".join(lines) + "\n"
