"""Writes perf.data files: file, stream and directory form, any endianness, compressed or not.

Shares no code with the reader. Facts: tools/perf/Documentation/perf.data-file-format.txt,
include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zstandard

from tests.writers.tracedat import HEADER_EVENT, EventSpec, FieldSpec, Order

if TYPE_CHECKING:
    from pathlib import Path

IP, TID, TIME, ADDR, READ, CALLCHAIN = 1, 2, 4, 8, 16, 32
ID, CPU, PERIOD, STREAM_ID, RAW, IDENTIFIER = 64, 128, 256, 512, 1024, 1 << 16
USUAL = IDENTIFIER | IP | TID | TIME | CPU | PERIOD | RAW
"""What perf record chooses for tracepoints."""
FILE, PIPE = "file", "pipe"


@dataclass(frozen=True)
class AttrSpec:
    """An event as it was opened."""

    event: EventSpec | None = None  # None: a software event
    sample_type: int = USUAL
    read_format: int = 4
    ids: tuple[int, ...] = ()
    period: int = 1
    freq: bool = False
    sample_id_all: bool = True
    clock: int | None = None
    size: int = 128


@dataclass(frozen=True)
class SampleSpec:
    """A sample of attribute `attr`."""

    ts: int
    cpu: int
    tid: int
    payload: bytes = b""
    attr: int = 0
    pid: int | None = None
    chain: tuple[int, ...] = ()
    id: int | None = None


@dataclass(frozen=True)
class SideSpec:
    """Another record: ``comm`` (name), ``fork`` (parent), ``lost``, ``lost_samples`` (count),
    ``round``, ``exit``, ``mmap`` (name of the kernel's symbol, parent its address, count bytes)."""

    what: str
    ts: int = 0
    cpu: int = 0
    tid: int = 0
    name: str = ""
    parent: int = 0
    count: int = 0
    misc: int = 0


Item = SampleSpec | SideSpec


@dataclass
class FileSpec:
    """Everything that a file holds. `parts` are the further files of the directory form."""

    attrs: list[AttrSpec]
    items: list[Item]
    order: Order = "little"
    word: int = 4
    form: str = FILE
    parts: list[list[Item]] = field(default_factory=list)
    compress: int = 0  # bytes of records in each COMPRESSED record; 0: none
    compressed2: bool = False
    kallsyms: str = ""
    release: str = "6.1.0-50-686-pae"
    cpus: int = 2
    arch: str = ""
    mem_total: int = 0  # KiB
    comms: dict[int, str] = field(default_factory=dict)
    tracing: bool = True


def write(spec: FileSpec) -> bytes:
    """The file's bytes; of the directory form those of ``data``."""
    return _Writer(spec).pipe() if spec.form == PIPE else _Writer(spec).file()


def write_directory(spec: FileSpec, folder: Path) -> None:
    """Write the directory form: ``data``, ``data.0``, …"""
    folder.mkdir(parents=True)
    writer = _Writer(spec)
    (folder / "data").write_bytes(writer.file())
    for number, part in enumerate(spec.parts):
        (folder / f"data.{number}").write_bytes(writer.records(part))


class _Writer:
    def __init__(self, spec: FileSpec) -> None:
        self.spec = spec

    def n(self, size: int, value: int) -> bytes:
        return (value & ((1 << 8 * size) - 1)).to_bytes(size, self.spec.order)

    def record(self, kind: int, body: bytes, misc: int = 0) -> bytes:
        body += bytes(-len(body) % 8)
        return self.n(4, kind) + self.n(2, misc) + self.n(2, 8 + len(body)) + body

    # Events

    def attr(self, attr: AttrSpec) -> bytes:
        kind = 1 if attr.event is None else 2
        config = 9 if attr.event is None else attr.event.id
        bits = [10] * attr.freq + [18] * attr.sample_id_all + [25] * (attr.clock is not None)
        flags = sum(1 << (b if self.spec.order == "little" else 63 - b) for b in bits)
        out = self.n(4, kind) + self.n(4, attr.size) + self.n(8, config)
        out += self.n(8, attr.period) + self.n(8, attr.sample_type) + self.n(8, attr.read_format)
        out += self.n(8, flags) + bytes(92 - 48)
        out += self.n(4, attr.clock or 0)
        return out.ljust(attr.size, b"\0")[: attr.size]

    def sized_string(self, text: str) -> bytes:
        data = text.encode() + b"\0"
        data += bytes(-len(data) % 64)
        return self.n(4, len(data)) + data

    def event_desc(self) -> bytes:
        attrs = self.spec.attrs
        out = self.n(4, len(attrs)) + self.n(4, attrs[0].size if attrs else 128)
        for attr in attrs:
            event = attr.event
            out += self.attr(attr) + self.n(4, len(attr.ids))
            name = "dummy:u" if event is None else f"{event.system}:{event.name}"
            out += self.sized_string(name)
            out += b"".join(self.n(8, i) for i in attr.ids)
        return out

    def tracing_data(self) -> bytes:
        """The start of a trace.dat, version 0.6 (tools/perf/util/trace-event-info.c)."""
        spec = self.spec
        page = (
            "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
            f"\tfield: local_t commit;\toffset:8;\tsize:{spec.word};\tsigned:1;\n"
            f"\tfield: char data;\toffset:{8 + spec.word};\tsize:{4088 - spec.word};\tsigned:1;\n"
        ).encode()
        out = b"\x17\x08\x44tracing0.6\0" + bytes([spec.order == "big", spec.word])
        out += self.n(4, 4096)
        out += b"header_page\0" + self.n(8, len(page)) + page
        out += b"header_event\0" + self.n(8, len(HEADER_EVENT)) + HEADER_EVENT
        events = {a.event.id: a.event for a in spec.attrs if a.event is not None}
        systems = sorted({e.system for e in events.values()})
        out += self.n(4, 0) + self.n(4, len(systems))
        for system in systems:
            texts = [e.text().encode() for e in events.values() if e.system == system]
            out += system.encode() + b"\0" + self.n(4, len(texts))
            out += b"".join(self.n(8, len(t)) + t for t in texts)
        symbols = spec.kallsyms.encode()
        out += self.n(4, len(symbols)) + symbols + self.n(4, 0)
        comms = "".join(f"{pid} {comm}\n" for pid, comm in spec.comms.items()).encode()
        return out + self.n(8, len(comms)) + comms

    def features(self) -> dict[int, bytes]:
        spec = self.spec
        found = {
            3: self.sized_string("board"),
            4: self.sized_string(spec.release),
            7: self.n(4, spec.cpus) + self.n(4, spec.cpus),
            12: self.event_desc(),
        }
        if spec.arch:
            found[6] = self.sized_string(spec.arch)
        if spec.mem_total:
            found[10] = self.n(8, spec.mem_total)
        if spec.tracing:
            found[1] = self.tracing_data()
        if spec.parts:
            found[24] = self.n(8, 1)
        if spec.compress:
            found[27] = b"".join(self.n(4, v) for v in (1, 1, 1, 3, 1 << 20))
        return dict(sorted(found.items()))

    # Records

    def sample(self, item: SampleSpec) -> bytes:
        attr = self.spec.attrs[item.attr]
        kind = attr.sample_type
        number = item.id if item.id is not None else (attr.ids[0] if attr.ids else 0)
        pid = item.tid if item.pid is None else item.pid
        parts = {
            IDENTIFIER: self.n(8, number),
            IP: self.n(8, 0xC1001000),
            TID: self.n(4, pid) + self.n(4, item.tid),
            TIME: self.n(8, item.ts),
            ADDR: self.n(8, 0),
            ID: self.n(8, number),
            STREAM_ID: self.n(8, number),
            CPU: self.n(4, item.cpu) + self.n(4, 0),
            PERIOD: self.n(8, attr.period),
        }
        out = b"".join(data for bit, data in parts.items() if kind & bit)
        if kind & READ:
            out += self.read_values(attr, number, item.ts)
        if kind & CALLCHAIN:
            out += self.n(8, len(item.chain)) + b"".join(self.n(8, ip) for ip in item.chain)
        if kind & RAW:
            raw = item.payload + bytes(-(len(item.payload) + 4) % 8)
            out += self.n(4, len(raw)) + raw
        return self.record(9, out, 1)

    def read_values(self, attr: AttrSpec, number: int, counter: int) -> bytes:
        """Counter values (uapi perf_event.h: enum perf_event_read_format); two in a group."""
        form = attr.read_format
        times = self.n(8, 7) * (bool(form & 1) + bool(form & 2))
        value = self.n(8, counter) + (self.n(8, number) if form & 4 else b"")
        value += bytes(8) if form & 16 else b""
        if form & 8:
            return self.n(8, 2) + times + 2 * value
        return value[:8] + times + value[8:]

    def tail(self, item: SideSpec) -> bytes:
        attr = self.spec.attrs[0]
        if not attr.sample_id_all:
            return b""
        number = attr.ids[0] if attr.ids else 0
        parts = {
            TID: self.n(4, item.tid) + self.n(4, item.tid),
            TIME: self.n(8, item.ts),
            ID: self.n(8, number),
            STREAM_ID: self.n(8, number),
            CPU: self.n(4, item.cpu) + self.n(4, 0),
            IDENTIFIER: self.n(8, number),
        }
        return b"".join(data for bit, data in parts.items() if attr.sample_type & bit)

    def side(self, item: SideSpec) -> bytes:
        both = self.n(4, item.tid) + self.n(4, item.tid)
        tail = self.tail(item)
        if item.what == "comm":
            name = item.name.encode()[:15] + b"\0"
            return self.record(3, both + name + bytes(-len(name) % 8) + tail, item.misc)
        if item.what in ("fork", "exit"):
            family = self.n(4, item.tid) + self.n(4, item.parent)
            kind = 7 if item.what == "fork" else 4
            return self.record(kind, family + family + self.n(8, item.ts) + tail)
        if item.what == "lost":
            return self.record(2, self.n(8, 1) + self.n(8, item.count) + tail)
        if item.what == "lost_samples":
            return self.record(13, self.n(8, item.count) + tail, item.misc)
        if item.what == "mmap":
            name = item.name.encode() + b"\0"
            place = self.n(8, item.parent) + self.n(8, item.count) + self.n(8, item.parent)
            body = self.n(4, -1) + self.n(4, 0) + place + name + bytes(-len(name) % 8)
            return self.record(1, body + tail, 1)
        assert item.what == "round"
        return self.record(68, b"")

    def records(self, items: list[Item]) -> bytes:
        plain = b"".join(
            self.sample(i) if isinstance(i, SampleSpec) else self.side(i) for i in items
        )
        size = self.spec.compress
        if not size:
            return plain
        engine = zstandard.ZstdCompressor(level=1).compressobj()
        out = b""
        for begin in range(0, len(plain), size):
            data = engine.compress(plain[begin : begin + size])
            data += engine.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            for at in range(0, len(data), 60000):
                piece = data[at : at + 60000]
                if self.spec.compressed2:
                    out += self.record(83, self.n(8, len(piece)) + piece)
                else:  # not padded: the decoder would take zeros for more
                    out += self.n(4, 81) + self.n(2, 0) + self.n(2, 8 + len(piece)) + piece
        return out

    # Forms

    def file(self) -> bytes:
        spec = self.spec
        stride = (spec.attrs[0].size if spec.attrs else 128) + 16
        ids_at = 104
        ids = b"".join(self.n(8, i) for a in spec.attrs for i in a.ids)
        table, place = b"", ids_at
        for attr in spec.attrs:
            table += self.attr(attr) + self.n(8, place) + self.n(8, 8 * len(attr.ids))
            place += 8 * len(attr.ids)
        attrs_at = ids_at + len(ids)
        data_at = attrs_at + len(table)
        data = self.records(spec.items)
        features = self.features()
        bits = sum(1 << number for number in features)
        bitmap = b"".join(
            self.n(spec.word, bits >> 8 * spec.word * w) for w in range(32 // spec.word)
        )
        head = b"PERFILE2" if spec.order == "little" else b"2ELIFREP"
        for value in (104, stride, attrs_at, len(table), data_at, len(data), 0, 0):
            head += self.n(8, value)
        at = data_at + len(data) + 16 * len(features)
        sections, bodies = b"", b""
        for body in features.values():
            sections += self.n(8, at + len(bodies)) + self.n(8, len(body))
            bodies += body
        return head + bitmap + ids + table + data + sections + bodies

    def pipe(self) -> bytes:
        spec = self.spec
        out = (b"PERFILE2" if spec.order == "little" else b"2ELIFREP") + self.n(8, 16)
        for attr in spec.attrs:
            out += self.record(64, self.attr(attr) + b"".join(self.n(8, i) for i in attr.ids))
        for number, body in self.features().items():
            if number not in (1, 12):
                out += self.record(80, self.n(8, number) + body)
        if spec.tracing:
            data = self.tracing_data()
            padded = data + bytes(-len(data) % 8)
            # struct perf_record_header_tracing_data has 12 bytes
            out += self.n(4, 66) + self.n(2, 0) + self.n(2, 12) + self.n(4, len(padded)) + padded
        return out + self.records(spec.items)


def probe_events(word: int) -> dict[str, EventSpec]:
    """Two probes and a tracepoint, with what a kernel says about printing them."""
    address = FieldSpec("unsigned long __probe_ip", word)
    function = FieldSpec("unsigned long __probe_func", word)
    back = FieldSpec("unsigned long __probe_ret_ip", word)
    page, vaddr = FieldSpec("u32 page", 4), FieldSpec("u32 vaddr", 4)
    comm = "char {}[16]"
    entry = '"(%lx) page=0x%x", REC->__probe_ip, REC->page'
    leave = '"(%lx <- %lx) vaddr=0x%x", REC->__probe_func, REC->__probe_ret_ip, REC->vaddr'
    switch = (
        '"prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s ==> next_comm=%s next_pid=%d '
        'next_prio=%d", REC->prev_comm, REC->prev_pid, REC->prev_prio, '
        '(REC->prev_state & 2) ? "D" : "R", REC->next_comm, REC->next_pid, REC->next_prio'
    )
    specs = [
        EventSpec("hm", "kmap_high", 1500, (address, page), entry),
        EventSpec("hm", "kmap_high_ret", 1501, (function, back, vaddr), leave),
        EventSpec(
            "sched",
            "sched_switch",
            300,
            (
                FieldSpec(comm.format("prev_comm"), 16),
                FieldSpec("pid_t prev_pid", 4, signed=True),
                FieldSpec("int prev_prio", 4, signed=True),
                FieldSpec("long prev_state", word, signed=True),
                FieldSpec(comm.format("next_comm"), 16),
                FieldSpec("pid_t next_pid", 4, signed=True),
                FieldSpec("int next_prio", 4, signed=True),
            ),
            switch,
        ),
    ]
    return {s.name: s for s in specs}
