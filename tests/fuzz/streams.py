"""Streams of mapping events that no kernel would make, as tracefs text.

Real events of the fixtures with some of them dropped, doubled, moved to other tasks, CPUs and
times, or with other addresses; and events drawn at random.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.probes import FUNCTIONS

if TYPE_CHECKING:
    import random

_LINE: Final = re.compile(
    rb"^\s*(?P<comm>.{1,16}?)-(?P<pid>\d+)\s+\[(?P<cpu>\d+)\] (?P<flags>\S+)\s+"
    rb"(?P<s>\d+)\.(?P<us>\d{6}): (?P<body>.*)$"
)
_ADDRESS: Final = re.compile(rb"=0x[0-9a-f]+")
_ODD: Final = (
    0, 1, 0xFFF, 0x1000, 0xC0000000, 0xF7FFE000, 0xF8000000, 0xFF000000, 0xFF1FF000, 0xFF200000,
    0xFFF00000, 0xFFFFF000, 0xFFFFF001, 0xFFFFFFFF, 0x1_0000_0000, 1 << 52, 1 << 63,
    (1 << 64) - 1,
)  # fmt: skip


_LENGTHS: Final = (3, 10, 10, 30, 30, 30, 60, 100, 300, 1000)
"""Events of a stream: what goes wrong goes wrong with few."""


def disturb(rng: random.Random, lines: list[bytes]) -> bytes:
    """Take a run of lines of a real trace and disturb its events."""
    start = rng.randrange(len(lines))
    length = rng.choice(_LENGTHS)
    head = lines[:12] if rng.random() < 0.8 else []
    out = [*head]
    shift = 0
    for line in lines[start : start + length]:
        found = _LINE.match(line)
        fate = rng.random()
        if fate < 0.02 or found is None:
            continue
        comm, pid, cpu, flags, body = found.group("comm", "pid", "cpu", "flags", "body")
        now = int(found["s"]) * 10**6 + int(found["us"]) + shift
        if fate < 0.04:
            pid = rng.choice((b"0", b"1", b"99999", b"2147483647", pid + b"0"))
        elif fate < 0.06:
            cpu = rng.choice((b"000", b"001", b"031", b"063", b"511", b"65535"))
        elif fate < 0.08:
            shift += rng.choice((-(10**6), -1, 10**3, 10**9, 10**12))
        elif fate < 0.12:
            body = _ADDRESS.sub(lambda _: b"=%#x" % _address(rng), body, count=rng.choice((0, 1)))
        elif fate < 0.13:
            flags = rng.choice((b".....", b"dNZff", b"d.h1.", b"D.s..", b"bnzB2"))
        elif fate < 0.14:
            out.append(rng.choice((b"CPU:0 [LOST 5 EVENTS]", b"CPU:1 [LOST EVENTS]")))
        made = b"%16s-%-7s [%s] %s %5d.%06d: %s" % (
            comm, pid, cpu, flags, max(now, 0) // 10**6, max(now, 0) % 10**6, body,
        )  # fmt: skip
        out.extend([made] * (2 if fate > 0.98 else 1))
    return b"\n".join(out) + b"\n"


def invent(rng: random.Random) -> bytes:
    """Draw events of every function at random, few tasks, few pages, few addresses."""
    functions = rng.sample(FUNCTIONS, rng.choice((2, 4, 8, len(FUNCTIONS))))
    addresses = [_address(rng) for _ in range(rng.choice((2, 5, 30)))]
    cpus = rng.choice((1, 2, 8, 64))
    lines = [
        b"# tracer: nop",
        b"#",
        b"# entries-in-buffer/entries-written: 100/%d   #P:%d" % (rng.choice((100, 9999)), cpus),
    ]
    now = 10**6
    for _ in range(rng.choice(_LENGTHS)):
        now += rng.choice((0, 1, 1, 10, 1000, 10**7, -3))
        function = rng.choice(functions)
        name = rng.choice(function.names).encode()
        back = rng.random() < 0.45
        if rng.random() < 0.05:
            body = b"sched_switch: prev_comm=a prev_pid=%d prev_prio=120 prev_state=%s ==> " % (
                rng.randrange(4), rng.choice((b"R", b"D", b"S", b"R+", b"X")),
            )  # fmt: skip
            body += b"next_comm=b next_pid=%d next_prio=120" % rng.randrange(4)
        else:
            wanted = function.result if back else function.entry
            values = b"".join(b" %s=%#x" % (w.encode(), rng.choice(addresses)) for w in wanted)
            where = b"(f+0x%x/0x90 <- %s)" % (rng.randrange(64), name)
            body = b"%s: %s%s" % (
                name + b"_ret" * back, where if back else b"(%s+0x0/0x90)" % name, values,
            )  # fmt: skip
        lines.append(
            b"%16s-%-7d [%03d] %s %5d.%06d: %s" % (
                b"task", rng.randrange(4), rng.randrange(cpus),
                rng.choice((b".....", b"d.h..", b"..s1.", b"....1")),
                max(now, 0) // 10**6, max(now, 0) % 10**6, body,
            )
        )  # fmt: skip
    return b"\n".join(lines) + b"\n"


def _address(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(_ODD)
    if kind < 0.6:
        return 0xFF000000 + 4096 * rng.randrange(1024)
    if kind < 0.8:
        return 0xF6000000 + 40 * rng.randrange(1000)
    if kind < 0.9:
        return 0xFFF00000 + 4096 * rng.randrange(256)
    return 0xF8000000 + 4096 * rng.randrange(30000)
