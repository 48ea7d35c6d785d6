"""trace.dat, versions 6 and 7, of a 32-bit little-endian machine.

Facts: trace-cmd.dat.v6(5), trace-cmd.dat.v7(5), kernel include/linux/ring_buffer.h. The events of
each CPU go to a temporary file first, so that memory stays bounded whatever the size.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from typing import TYPE_CHECKING, Final

from collectors.input.magic import TRACE_DAT
from collectors.synthetic.probes import PROBES, SWITCH, SymbolMap
from collectors.tracecmd_dat.layout import (
    COMMIT_BYTES,
    TAG_FLYRECORD,
    TAG_OPTIONS,
    TIME_SHIFT_BITS,
    TYPE_TIME_EXTEND,
    OptionId,
)

if TYPE_CHECKING:
    from typing import IO

    from collectors.synthetic.board import Board
    from collectors.synthetic.probes import SimulatedProbe, TracedEvent

_PAGE: Final = 4096
_HEAD: Final = 12
"""Bytes before a page's data: time stamp, and commit as a long of 4 bytes."""
_FIRST_ID: Final = 1500
_SWITCH_ID: Final = 370
_DELTA: Final = 1 << TIME_SHIFT_BITS
_STATES: Final = {"R": 0, "S": 1, "D": 2, "X": 16}
_CLOCK: Final = b"[local] global counter uptime perf mono mono_raw boot tai x86-tsc\n"

_HEADER_PAGE: Final = (
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:4;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    f"\tfield: char data;\toffset:12;\tsize:{_PAGE - _HEAD};\tsigned:1;\n"
)
_HEADER_EVENT: Final = (
    "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n"
    "\tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n"
    "\ttime_stamp : type == 31\n\tdata max type_len  == 28\n"
)
_COMMON: Final = (
    ("unsigned short common_type", 2, 0),
    ("unsigned char common_flags", 1, 0),
    ("unsigned char common_preempt_count", 1, 0),
    ("int common_pid", 4, 1),
)
_SWITCH_FIELDS: Final = (
    ("char prev_comm[16]", 16, 1), ("pid_t prev_pid", 4, 1), ("int prev_prio", 4, 1),
    ("long prev_state", 4, 1), ("char next_comm[16]", 16, 1), ("pid_t next_pid", 4, 1),
    ("int next_prio", 4, 1),
)  # fmt: skip
_C_TYPES: Final = {"x32": ("u32", 4, 0), "u32": ("u32", 4, 0), "s32": ("s32", 4, 1),
                   "x8": ("u8", 1, 0)}  # fmt: skip


def _format(number: int, name: str, fields: tuple[tuple[str, int, int], ...], show: str) -> bytes:
    """Text of an event's ``format`` file."""
    lines = [f"name: {name}", f"ID: {number}", "format:"]
    at = 0
    for index, (field, size, sign) in enumerate((*_COMMON, *fields)):
        if index == len(_COMMON):
            lines.append("")
        lines.append(f"\tfield:{field};\toffset:{at};\tsize:{size};\tsigned:{sign};")
        at += size
    return "\n".join([*lines, "", f"print fmt: {show}", ""]).encode()


def _probe_format(number: int, probe: SimulatedProbe) -> bytes:
    """Format of a probe's event (kernel/trace/trace_kprobe.c: kprobe_event_define_fields)."""
    places = ("__probe_func", "__probe_ret_ip") if probe.returns else ("__probe_ip",)
    fields = [(f"unsigned long {name}", 4, 0) for name in places]
    show = "(" + " <- ".join("%lx" for _ in places) + ")"
    for name, kind in probe.args:
        c_type, size, sign = _C_TYPES[kind]
        fields.append((f"{c_type} {name}", size, sign))
        show += f" {name}=" + ("%d" if kind in ("u32", "s32") else "0x%x")
    names = ", ".join(f"REC->{name}" for name in (*places, *(name for name, _ in probe.args)))
    return _format(number, probe.name, tuple(fields), f'"{show}", {names}')


_SWITCH_SHOW: Final = (
    '"prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s ==> next_comm=%s next_pid=%d '
    'next_prio=%d", REC->prev_comm, REC->prev_pid, REC->prev_prio, '
    'REC->prev_state ? __print_flags(REC->prev_state, "|", { 0x01, "S" }, { 0x02, "D" }, '
    '{ 0x10, "X" }) : "R", REC->next_comm, REC->next_pid, REC->next_prio'
)


class _Cpu:
    """Ring buffer pages of one CPU."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix="hmtrace-")  # noqa: SIM115
        self.page = bytearray()
        self.stamp = 0
        self.now = 0
        self.events = 0

    def add(self, ts: int, payload: bytes) -> None:
        """Append a record."""
        delta = ts - self.now
        record = b""
        if delta >= _DELTA:
            extend = (delta & (_DELTA - 1)) << 5 | TYPE_TIME_EXTEND
            record = struct.pack("<II", extend, delta >> TIME_SHIFT_BITS)
            delta = 0
        if not self.page or len(self.page) + len(record) + 4 + len(payload) > _PAGE - _HEAD:
            self.flush()
            self.stamp, delta, record = ts, 0, b""
        self.page += record + struct.pack("<I", delta << 5 | len(payload) // 4) + payload
        self.now = ts
        self.events += 1

    def flush(self) -> None:
        """Write the page under construction."""
        if self.page:
            head = struct.pack("<QI", self.stamp, len(self.page) & COMMIT_BYTES)
            self.file.write((head + self.page).ljust(_PAGE, b"\0"))
            self.page.clear()


class TraceDatWriter:
    """Writes a trace.dat.

    Parameters
    ----------
    out
        Binary stream, seekable, empty.
    board
        The machine.
    version
        6 or 7.
    """

    file_name = "trace.dat"

    def __init__(self, out: IO[bytes], board: Board, *, version: int = 7) -> None:
        self.format = f"trace.dat-v{version}"
        self._out = out
        self._board = board
        self._version = version
        self._symbols = SymbolMap(board.page_offset)
        self._cpus = [_Cpu() for _ in range(board.cpus)]
        self._comms: dict[int, str] = {}
        self._packers = []
        self._address = [self._symbols.address[probe.function] for probe in PROBES]
        for probe in PROBES:
            kinds = "".join("B" if kind == "x8" else "I" for _, kind in probe.args)
            places = "II" if probe.returns else "I"
            size = struct.calcsize(f"<HBBi{places}{kinds}")
            self._packers.append(struct.Struct(f"<HBBi{places}{kinds}{-size % 4}x"))
        self._switch = struct.Struct("<HBBi16siii16sii")

    def write(self, record: TracedEvent) -> None:
        """Write an event."""
        number, pid = record.probe, record.pid
        pinned = 0x10 if record.pinned else 0
        if number == SWITCH:
            prev, prev_pid, state, following, next_pid = record.values
            payload = self._switch.pack(
                _SWITCH_ID, 1, 2 | pinned, pid, prev.encode(), prev_pid, 120,
                _STATES[state], following.encode(), next_pid, 120,
            )  # fmt: skip
        else:
            probe = PROBES[number]
            place = (self._symbols.site[record.site],) if probe.returns else ()
            payload = self._packers[number].pack(
                _FIRST_ID + number, 0, probe.preempt | pinned, pid,
                self._address[number], *place, *record.values,
            )  # fmt: skip
        if pid not in self._comms:
            self._comms[pid] = record.comm
        self._cpus[record.cpu].add(record.ts, payload)

    def close(self) -> None:
        """Put the file together."""
        for cpu in self._cpus:
            cpu.flush()
        head = TRACE_DAT + f"{self._version}".encode() + b"\0\0\x04" + struct.pack("<I", _PAGE)
        self._out.write(head)
        if self._version == 6:
            self._linear()
        else:
            self._sections()
        for cpu in self._cpus:
            cpu.file.close()

    def _blocks(self) -> list[tuple[OptionId, bytes]]:
        """The descriptive blocks, in the order of version 6."""

        def sized(kind: str, data: bytes) -> bytes:
            return struct.pack(kind, len(data)) + data

        info = b"header_page\0" + sized("<Q", _HEADER_PAGE.encode())
        info += b"header_event\0" + sized("<Q", _HEADER_EVENT.encode())
        probes = [_probe_format(_FIRST_ID + n, probe) for n, probe in enumerate(PROBES)]
        switch = _format(_SWITCH_ID, "sched_switch", _SWITCH_FIELDS, _SWITCH_SHOW)
        formats = struct.pack("<I", 2)
        for system, texts in ((b"hm", probes), (b"sched", [switch])):
            formats += system + b"\0" + struct.pack("<I", len(texts))
            formats += b"".join(sized("<Q", text) for text in texts)
        comms = "".join(f"{pid} {comm}\n" for pid, comm in sorted(self._comms.items()) if pid)
        return [
            (OptionId.HEADER_INFO, info),
            (OptionId.FTRACE_EVENTS, struct.pack("<I", 0)),
            (OptionId.EVENT_FORMATS, formats),
            (OptionId.KALLSYMS, sized("<I", self._symbols.kallsyms().encode())),
            (OptionId.PRINTK, sized("<I", b"")),
            (OptionId.CMDLINES, sized("<Q", comms.encode())),
        ]

    def _options(self) -> list[tuple[OptionId, bytes]]:
        machine = "i686" if self._board.arch == "i386" else "armv7l"
        stats = [
            (OptionId.CPUSTAT, f"CPU: {n}\nentries: {cpu.events}\noverrun: 0\n"
             "commit overrun: 0\ndropped events: 0\n".encode() + b"\0")
            for n, cpu in enumerate(self._cpus)
        ]  # fmt: skip
        uname = f"Linux synthetic {self._board.release} {machine}".encode() + b"\0"
        return [(OptionId.TRACECLOCK, _CLOCK + b"\0"), (OptionId.UNAME, uname), *stats]

    @staticmethod
    def _packed(options: list[tuple[OptionId, bytes]]) -> bytes:
        return b"".join(struct.pack("<HI", number, len(data)) + data for number, data in options)

    def _data(self) -> list[tuple[int, int]]:
        """Append the pages of all CPUs; where each begins, and its size."""
        places = []
        for cpu in self._cpus:
            self._out.write(bytes(-self._out.tell() % _PAGE))
            start = self._out.tell()
            cpu.file.seek(0)
            shutil.copyfileobj(cpu.file, self._out, 1 << 20)
            places.append((start, self._out.tell() - start))
        return places

    def _linear(self) -> None:
        out = self._out
        for _, block in self._blocks():
            out.write(block)
        out.write(struct.pack("<I", len(self._cpus)))
        out.write(TAG_OPTIONS + self._packed(self._options()) + struct.pack("<H", 0))
        out.write(TAG_FLYRECORD)
        table = out.tell()
        out.write(bytes(16 * len(self._cpus)))
        out.write(struct.pack("<Q", len(_CLOCK)) + _CLOCK)
        places = self._data()
        out.seek(table)
        out.write(b"".join(struct.pack("<QQ", *place) for place in places))

    def _sections(self) -> None:
        out = self._out
        out.write(b"none\0\0")
        link = out.tell()
        out.write(bytes(8))
        options = self._options()
        for number, block in self._blocks():
            options.append((number, struct.pack("<Q", out.tell())))
            out.write(struct.pack("<HHIQ", number, 0, 0, len(block)) + block)
        options.append((OptionId.CPUCOUNT, struct.pack("<I", len(self._cpus))))
        buffer = out.tell()
        out.write(struct.pack("<HHIQ", OptionId.BUFFER, 0, 0, 0))
        places = self._data()
        end = out.tell()
        out.seek(buffer + 8)
        out.write(struct.pack("<Q", end - buffer - 16))
        out.seek(end)
        entry = struct.pack("<Q", buffer) + b"\0local\0"
        entry += struct.pack("<II", _PAGE, len(self._cpus))
        entry += b"".join(struct.pack("<IQQ", n, *place) for n, place in enumerate(places))
        body = self._packed([*options, (OptionId.BUFFER, entry), (OptionId.DONE, bytes(8))])
        out.write(struct.pack("<HHIQ", OptionId.DONE, 0, 0, len(body)) + body)
        out.seek(link)
        out.write(struct.pack("<Q", end))
