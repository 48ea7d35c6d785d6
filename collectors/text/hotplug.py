"""CPUs that went or came during a trace, as the tracepoints of CPU hotplug show them in a text.

kernel/cpu.c, include/trace/events/cpuhp.h (since 4.10: cf392d10b69e). Every step of a CPU's way up
or down is an event before (cpuhp_enter, cpuhp_multi_enter, which name its function) and one after
it (cpuhp_exit, with its number and what it returned). The mask of online CPUs changes inside two
of the steps: __cpu_disable(), of takedown_cpu(), takes a CPU out, and the CPU's own start, which
bringup_cpu() (cpuhp_bringup_ap() with HOTPLUG_SPLIT_STARTUP, 6.5) waits for, puts it in. Steps
that the CPU takes itself are inside of these two, too: going down, those behind __cpu_disable()
run on its stopper thread, coming up, those behind its start run on its cpuhp thread. So the first
of those is behind the change and next to it; without one the end of the step itself is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collectors.input.source import Source

MAX_STEPS: Final = 1_000_000
"""Places that are looked at: some 400 for a CPU that goes and comes."""
_MAX_LINE: Final = 400
_WAYS: Final = {"takedown_cpu": False, "bringup_cpu": True, "cpuhp_bringup_ap": True}
"""Function of the step in which the mask of online CPUs changes, and which way."""
_OWN_THREAD: Final = {False: "migration/", True: "cpuhp/"}
_EVENT: Final = b"cpuhp_"
_HEAD: Final = re.compile(
    r"\s{0,40}(?P<comm>\S.{0,40}?)(?:-| {1,8})\d{1,9}(?:/\d{1,9})? .{0,60}?\s"
    r"(?P<s>\d{1,12})\.(?P<frac>\d{6}|\d{9}): {1,8}(?:cpuhp:)?"
)
_STEP: Final = re.compile(
    r"(?:enter|multi_enter|exit): {1,20}cpu: (?P<cpu>\d{1,5}) .{1,40}?step: {1,4}(?P<step>\d{1,4})"
    r" (?:\((?P<function>\w{1,80})|ret: (?P<ret>-?\d{1,6}))"
)


class HotplugStep(NamedTuple):
    """One event.

    Attributes
    ----------
    ns
        Of the trace clock.
    comm
        The task that made it.
    cpu
        That goes or comes; not the one that the event is of.
    step
        Number of the step.
    function
        What is called; "" at the step's end.
    ret
        What it returned; None at its begin.
    """

    ns: int
    comm: str
    cpu: int
    step: int
    function: str
    ret: int | None


def cpu_changes(steps: Iterable[HotplugStep]) -> tuple[tuple[int, int, bool], ...]:
    """When which CPU went offline (False) or came online (True): (ns, CPU, online).

    Examples
    --------
    >>> down = HotplugStep(10, "sh", 1, 86, "takedown_cpu", None)
    >>> dying = HotplugStep(12, "migration/1", 1, 85, "sched_cpu_dying", None)
    >>> over = HotplugStep(30, "sh", 1, 86, "", 0)
    >>> cpu_changes([down, dying, over])
    ((12, 1, False),)
    >>> cpu_changes([down, over])
    ((30, 1, False),)
    >>> cpu_changes([down, over._replace(ret=-16)])  # -EBUSY
    ()
    """
    changes: list[tuple[int, int, bool]] = []
    under_way: dict[int, tuple[int, bool]] = {}  # by CPU: number of the step, and which way
    for one in steps:
        if one.function in _WAYS:
            under_way[one.cpu] = one.step, _WAYS[one.function]
            continue
        if one.cpu not in under_way:
            continue
        step, online = under_way[one.cpu]
        over = one.ret is not None and one.step == step
        if over or (one.ret is None and one.comm.startswith(_OWN_THREAD[online])):
            del under_way[one.cpu]
            if not over or one.ret == 0:
                changes.append((one.ns, one.cpu, online))
    return tuple(changes)


def steps_in(source: Source) -> Iterator[HotplugStep]:
    """The events of CPU hotplug in a text whose stamps are seconds, in the order of the file.

    Parameters
    ----------
    source
        Text of tracefs, ``trace-cmd report`` or ``perf script``.
    """
    at, number = 0, 0
    while number < MAX_STEPS and (at := source.find(_EVENT, at)) >= 0:
        number += 1
        first = max(at - _MAX_LINE, 0)
        line = source.data[first : at + _MAX_LINE].tobytes()
        head = line[: at - first].rpartition(b"\n")[2].decode("utf-8", "replace")
        rest = line[at - first + len(_EVENT) :].partition(b"\n")[0].decode("utf-8", "replace")
        at += len(_EVENT)
        stamp, step = _HEAD.fullmatch(head), _STEP.match(rest)
        if stamp is None or step is None:
            continue
        yield HotplugStep(
            int(stamp["s"]) * 10**9 + int(stamp["frac"].ljust(9, "0")),
            stamp["comm"],
            int(step["cpu"]),
            int(step["step"]),
            step["function"] or "",
            None if step["ret"] is None else int(step["ret"]),
        )
