"""Writes trace.dat files, versions 6 and 7, for any machine. Shares no code with the reader.

Facts: trace-cmd.dat.v6(5), trace-cmd.dat.v7(5), kernel include/linux/ring_buffer.h.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Literal

import zstandard

Order = Literal["little", "big"]


@dataclass(frozen=True)
class FieldSpec:
    """A field of an event: C declaration and size; the offset follows."""

    declaration: str
    size: int
    signed: bool = False


@dataclass(frozen=True)
class EventSpec:
    """An event's format. `extra_common` puts more fields behind the usual common ones."""

    system: str
    name: str
    id: int
    fields: tuple[FieldSpec, ...]
    print_fmt: str = '""'
    extra_common: tuple[FieldSpec, ...] = ()

    def layout(self) -> list[tuple[FieldSpec, int]]:
        """Own fields with their offsets, each aligned to its (element's) size."""
        at = 8 + sum(f.size for f in self.extra_common)
        placed = []
        for spec in self.fields:
            length = re.search(r"\[(\d+)\]", spec.declaration)
            unit = spec.size // int(length[1]) if length else spec.size
            if unit not in (2, 4, 8):
                unit = 1
            at = (at + unit - 1) // unit * unit
            placed.append((spec, at))
            at += spec.size
        return placed

    def text(self) -> str:
        """The format file (kernel/trace/trace_events.c: f_show)."""

        def line(decl: str, at: int, size: int, *, signed: bool = False) -> str:
            return f"\tfield:{decl};\toffset:{at};\tsize:{size};\tsigned:{int(signed)};\n"

        out = f"name: {self.name}\nID: {self.id}\nformat:\n"
        out += line("unsigned short common_type", 0, 2)
        out += line("unsigned char common_flags", 2, 1)
        out += line("unsigned char common_preempt_count", 3, 1)
        out += line("int common_pid", 4, 4, signed=True)
        at = 8
        for spec in self.extra_common:
            out += line(spec.declaration, at, spec.size, signed=spec.signed)
            at += spec.size
        out += "\n"
        for spec, place in self.layout():
            out += line(spec.declaration, place, spec.size, signed=spec.signed)
        return out + f"\nprint fmt: {self.print_fmt}\n"

    def payload(
        self, order: Order, pid: int, values: list[int | bytes], *, flags: int = 0, preempt: int = 0
    ) -> bytes:
        """A record; bytes are for arrays: fixed ones padded, dynamic ones put at the end."""
        head = self.id.to_bytes(2, order) + bytes([flags, preempt])
        out = bytearray(head + pid.to_bytes(4, order, signed=True))
        out += bytes(sum(f.size for f in self.extra_common))
        tail = bytearray()
        placed = self.layout()
        fixed = max((at + spec.size for spec, at in placed), default=len(out))
        for (spec, at), value in zip(placed, values, strict=True):
            out += bytes(at - len(out))
            if isinstance(value, bytes):
                if "__data_loc" in spec.declaration:
                    out += (len(value) << 16 | fixed + len(tail)).to_bytes(4, order)
                    tail += value
                elif "__rel_loc" in spec.declaration:
                    place = fixed + len(tail) - (at + 4)
                    out += (len(value) << 16 | place).to_bytes(4, order)
                    tail += value
                elif spec.size == 0:
                    tail += value
                else:
                    out += value[: spec.size].ljust(spec.size, b"\0")
            else:
                out += (value & ((1 << 8 * spec.size) - 1)).to_bytes(spec.size, order)
        out += tail
        return bytes(out) + bytes(-len(out) % 4)


@dataclass(frozen=True)
class Item:
    """Something on a CPU's pages.

    `what`: ``event``; ``discard`` (written, then taken back); ``stamp`` (event behind an absolute
    stamp); ``lost`` (`count` events lost here, None unknown: begins a page); ``page`` (begins one).
    """

    what: str
    ts: int = 0
    payload: bytes = b""
    count: int | None = None


@dataclass
class BufferSpec:
    """A buffer: items per CPU."""

    cpus: dict[int, list[Item]]
    name: str = ""
    clock: str = "local"


@dataclass
class FileSpec:
    """Everything that a file holds.

    `page_size` is that of the sub-buffers; `machine_page` the machine's where it is another
    (``buffer_subbuf_size_kb``, Linux 6.8); `user_word` the word size of the recording program.
    """

    buffers: list[BufferSpec]
    events: list[EventSpec]
    version: int = 7
    order: Order = "little"
    word: int = 4
    user_word: int | None = None
    page_size: int = 4096
    machine_page: int | None = None
    compression: str = "none"
    kallsyms: str = ""
    printk: str = ""
    comms: dict[int, str] = field(default_factory=dict)
    options: list[tuple[int, bytes]] = field(default_factory=list)
    cpu_count: int | None = None
    pages_per_chunk: int = 10
    fill_with_padding: bool = False
    split_options: bool = True


class _Pages:
    """Packs items into ring buffer pages."""

    def __init__(self, spec: FileSpec) -> None:
        self.spec = spec
        self.head = 8 + spec.word
        self.room = spec.page_size - self.head
        self.pages: list[bytes] = []
        self.start(None)

    def start(self, ts: int | None) -> None:
        self.stamp = ts
        self.now = ts or 0
        self.used = bytearray()
        self.missed: tuple[int | None] | None = None

    def flush(self) -> None:
        if self.stamp is None:
            return
        order, word = self.spec.order, self.spec.word
        commit = len(self.used)
        body = bytes(self.used)
        if self.missed is not None:
            commit |= 1 << 31
            count = self.missed[0]
            if count is not None and len(body) + word <= self.room:
                commit |= 1 << 30
                body += count.to_bytes(word, order, signed=True)
        elif self.spec.fill_with_padding and self.room - len(body) >= 4:
            # the rest of the page is one padding record of delta 0
            body += self.word32(29, 0)
            commit = self.room
        page = self.stamp.to_bytes(8, order) + commit.to_bytes(word, order)
        self.pages.append((page + body).ljust(self.spec.page_size, b"\0"))
        self.start(None)

    def word32(self, kind: int, delta: int) -> bytes:
        value = kind << 27 | delta if self.spec.order == "big" else delta << 5 | kind
        return value.to_bytes(4, self.spec.order)

    def plain32(self, value: int) -> bytes:
        return value.to_bytes(4, self.spec.order)

    def record(self, item: Item) -> bytes:
        delta = item.ts - self.now
        out = b""
        if item.what == "stamp":
            low, high = item.ts & ((1 << 27) - 1), (item.ts >> 27) & 0xFFFF_FFFF
            out += self.word32(31, low) + self.plain32(high)
            delta = 0
        elif delta >= 1 << 27:
            # A discarded record keeps a delta of 1: with 0 it would be padding.
            rest = int(item.what == "discard")
            upper = delta - rest
            out += self.word32(30, upper & ((1 << 27) - 1)) + self.plain32(upper >> 27)
            delta = rest
        size = len(item.payload)
        if item.what == "discard":
            delta = max(delta, 1)
            return out + self.word32(29, delta) + self.plain32(size) + item.payload[4:]
        if 4 <= size <= 112:
            return out + self.word32(size // 4, delta) + item.payload
        return out + self.word32(0, delta) + self.plain32(size + 4) + item.payload

    def add(self, item: Item) -> None:
        """Write an item."""
        if item.what in ("lost", "page"):
            self.flush()
            if item.what == "lost":
                self.missed = (item.count,)
            return
        reserve = self.spec.word if self.missed else 0
        if self.stamp is None:
            self.stamp = self.now = first_stamp(item)
        record = self.record(item)
        if len(self.used) + len(record) + reserve > self.room:
            missed = self.missed if not self.used else None
            self.flush()
            self.missed = missed
            self.stamp = self.now = first_stamp(item)
            record = self.record(item)
        self.used += record
        self.now = item.ts


def first_stamp(item: Item) -> int:
    """Stamp of a page that begins with this item."""
    return item.ts - int(item.what == "discard")


def pages_of(spec: FileSpec, items: list[Item]) -> list[bytes]:
    """Ring buffer pages with these items."""
    pages = _Pages(spec)
    for item in items:
        pages.add(item)
    pages.flush()
    return pages.pages


def _header_page(spec: FileSpec) -> bytes:
    data = spec.page_size - 8 - spec.word
    return (
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
        f"\tfield: local_t commit;\toffset:8;\tsize:{spec.word};\tsigned:1;\n"
        f"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
        f"\tfield: char data;\toffset:{8 + spec.word};\tsize:{data};\tsigned:1;\n"
    ).encode()


HEADER_EVENT = (
    b"# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n"
    b"\tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n"
    b"\ttime_stamp : type == 31\n\tdata max type_len  == 28\n"
)


class _Writer:
    def __init__(self, spec: FileSpec) -> None:
        self.spec = spec
        self.out = bytearray()

    def n(self, size: int, value: int) -> bytes:
        return value.to_bytes(size, self.spec.order)

    def sized(self, width: int, data: bytes) -> bytes:
        return self.n(width, len(data)) + data

    def preamble(self) -> bytes:
        spec = self.spec
        big = bytes([spec.order == "big", spec.user_word or spec.word])
        version = f"{spec.version}".encode() + b"\0"
        return (
            b"\x17\x08\x44tracing" + version + big + self.n(4, spec.machine_page or spec.page_size)
        )

    def blocks(self) -> list[tuple[int, bytes]]:
        """Descriptive blocks in the order of version 6, with their ids in version 7."""
        spec = self.spec
        info = b"header_page\0" + self.sized(8, _header_page(spec))
        info += b"header_event\0" + self.sized(8, HEADER_EVENT)
        own = [e for e in spec.events if e.system == "ftrace"]
        ftrace = self.n(4, len(own)) + b"".join(self.sized(8, e.text().encode()) for e in own)
        systems = sorted({e.system for e in spec.events} - {"ftrace"})
        formats = self.n(4, len(systems))
        for system in systems:
            events = [e for e in spec.events if e.system == system]
            formats += system.encode() + b"\0" + self.n(4, len(events))
            formats += b"".join(self.sized(8, e.text().encode()) for e in events)
        comms = "".join(f"{pid} {comm}\n" for pid, comm in spec.comms.items())
        return [
            (16, info),
            (17, ftrace),
            (18, formats),
            (19, self.sized(4, spec.kallsyms.encode())),
            (20, self.sized(4, spec.printk.encode())),
            (21, self.sized(8, comms.encode())),
        ]

    def align(self) -> None:
        self.out += bytes(-len(self.out) % (self.spec.machine_page or self.spec.page_size))

    def cpu_count(self) -> int:
        most = max((c for b in self.spec.buffers for c in b.cpus), default=0)
        return self.spec.cpu_count or most + 1

    # Version 6

    def v6(self) -> bytes:
        spec = self.spec
        self.out += self.preamble()
        for _, block in self.blocks():
            self.out += block
        cpus = self.cpu_count()
        self.out += self.n(4, cpus)
        top, *instances = spec.buffers
        clock = f"[{top.clock}] global\n".encode()
        patches = []
        self.out += b"options  \0"
        for option, data in [*spec.options, (4, clock)]:
            self.out += self.n(2, option) + self.sized(4, data)
        for buffer in instances:
            self.out += self.n(2, 3) + self.n(4, 8 + len(buffer.name) + 1)
            patches.append(len(self.out))
            self.out += bytes(8) + buffer.name.encode() + b"\0"
        self.out += self.n(2, 0)
        self.flyrecord(top, cpus, clock)
        for at, buffer in zip(patches, instances, strict=True):
            self.out[at : at + 8] = self.n(8, len(self.out))
            self.flyrecord(buffer, cpus, b"")
        return bytes(self.out)

    def flyrecord(self, buffer: BufferSpec, cpus: int, clock: bytes) -> None:
        self.out += b"flyrecord\0"
        table = len(self.out)
        self.out += bytes(16 * cpus)
        if clock:
            self.out += self.sized(8, clock)
        for cpu in range(cpus):
            self.align()
            data = b"".join(pages_of(self.spec, buffer.cpus.get(cpu, [])))
            at = table + 16 * cpu
            self.out[at : at + 16] = self.n(8, len(self.out)) + self.n(8, len(data))
            self.out += data

    # Version 7

    def pack(self, data: bytes) -> bytes:
        if self.spec.compression == "zstd":
            params = zstandard.ZstdCompressionParameters.from_level(3, write_content_size=0)
            return zstandard.ZstdCompressor(compression_params=params).compress(data)
        return zlib.compress(data, 9)

    def section(self, number: int, data: bytes) -> int:
        """Append a section; give its offset."""
        at = len(self.out)
        packed = self.spec.compression != "none"
        if packed:
            small = self.pack(data)
            data = self.n(4, len(small)) + self.n(4, len(data)) + small
        self.out += self.n(2, number) + self.n(2, int(packed)) + self.n(4, 0)
        self.out += self.sized(8, data)
        return at

    def options(self, listed: list[tuple[int, bytes]]) -> int:
        """Append a list of options, uncompressed; give the place of its `next`."""
        body = b"".join(self.n(2, i) + self.sized(4, d) for i, d in listed)
        body += self.n(2, 0) + self.n(4, 8)
        self.out += self.n(2, 0) + self.n(2, 0) + self.n(4, 0) + self.n(8, len(body) + 8)
        self.out += body + bytes(8)
        return len(self.out) - 8

    def v7(self) -> bytes:
        spec = self.spec
        version = {"none": b"", "zstd": b"1.5.4", "zlib": b"1.2.13"}[spec.compression]
        self.out += self.preamble() + spec.compression.encode() + b"\0" + version + b"\0"
        link = len(self.out)
        self.out += bytes(8)
        listed = [(number, self.n(8, self.section(number, b))) for number, b in self.blocks()]
        clock = spec.buffers[0].clock if spec.buffers else "local"
        listed += [*spec.options, (4, f"[{clock}] global\n".encode())]
        listed.append((8, self.n(4, self.cpu_count())))
        if spec.split_options:
            self.out[link : link + 8] = self.n(8, len(self.out))
            link = self.options(listed)
            listed = []
        listed += [(3, self.buffer(b)) for b in spec.buffers]
        self.out[link : link + 8] = self.n(8, len(self.out))
        self.options(listed)
        return bytes(self.out)

    def buffer(self, buffer: BufferSpec) -> bytes:
        """Append a buffer's section; give the option that points to it."""
        spec = self.spec
        packed = spec.compression != "none"
        start = len(self.out)
        self.out += self.n(2, 3) + self.n(2, int(packed)) + self.n(4, 0) + bytes(8)
        entries = b""
        for cpu, items in buffer.cpus.items():
            self.align()
            at = len(self.out)
            pages = pages_of(spec, items)
            if packed and pages:
                step = spec.pages_per_chunk
                chunks = [b"".join(pages[i : i + step]) for i in range(0, len(pages), step)]
                self.out += self.n(4, len(chunks))
                for chunk in chunks:
                    small = self.pack(chunk)
                    self.out += self.n(4, len(small)) + self.n(4, len(chunk)) + small
                size = len(self.out) - at - 4  # as trace-cmd counts it
            else:
                self.out += b"".join(pages)
                size = len(self.out) - at
            entries += self.n(4, cpu) + self.n(8, at) + self.n(8, size)
        self.out[start + 8 : start + 16] = self.n(8, len(self.out) - start - 16)
        head = self.n(8, start) + buffer.name.encode() + b"\0" + buffer.clock.encode() + b"\0"
        return head + self.n(4, spec.page_size) + self.n(4, len(buffer.cpus)) + entries


def write(spec: FileSpec) -> bytes:
    """Bytes of the file."""
    writer = _Writer(spec)
    return writer.v6() if spec.version == 6 else writer.v7()


# Events that tests use --------------------------------------------------------------------


def kernel_events(word: int, *, extra: tuple[FieldSpec, ...] = ()) -> dict[str, EventSpec]:
    """Probes, tracepoints and tracers' events as a kernel of this word size describes them."""
    ul = FieldSpec("unsigned long __probe_ip", word)
    func = FieldSpec("unsigned long __probe_func", word)
    ret = FieldSpec("unsigned long __probe_ret_ip", word)
    u32 = [FieldSpec(f"u32 {n}", 4) for n in ("page", "vaddr")]
    comm = "char {}[16]"
    specs = [
        EventSpec(
            "hm", "mapper", 1500, (ul, u32[0]),
            '"(%lx) page=0x%x", REC->__probe_ip, REC->page', extra),
        EventSpec(
            "hm", "mapper_back", 1501, (func, ret, u32[1]),
            '"(%lx <- %lx) vaddr=0x%x", REC->__probe_func, REC->__probe_ret_ip, REC->vaddr', extra),
        EventSpec("hm", "with_text", 1502, (
            ul, FieldSpec("__data_loc char[] name", 4, signed=True),
            FieldSpec("s64 big", 8, signed=True),
            FieldSpec("u16 list[3]", 6)), '"(%lx)", REC->__probe_ip', extra),
        EventSpec("made", "relative", 1503, (
            FieldSpec("s16 small", 2, signed=True),
            FieldSpec("__rel_loc char[] name", 4, signed=True)),
            '"small=%d", REC->small', extra),
        EventSpec("sched", "sched_switch", 300, (
            FieldSpec(comm.format("prev_comm"), 16), FieldSpec("pid_t prev_pid", 4, signed=True),
            FieldSpec("int prev_prio", 4, signed=True),
            FieldSpec("long prev_state", word, signed=True),
            FieldSpec(comm.format("next_comm"), 16), FieldSpec("pid_t next_pid", 4, signed=True),
            FieldSpec("int next_prio", 4, signed=True)), '"%s", REC->prev_comm', extra),
        EventSpec("ftrace", "function", 1, (
            FieldSpec("unsigned long ip", word), FieldSpec("unsigned long parent_ip", word)),
            '" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip', extra),
        EventSpec("ftrace", "funcgraph_entry", 11, (
            FieldSpec("unsigned long func", word), FieldSpec("int depth", 4, signed=True)),
            '"--> %ps (%d)", (void *)REC->func, REC->depth', extra),
        EventSpec("ftrace", "fgraph_retaddr_entry", 12, (
            FieldSpec("unsigned long func", word), FieldSpec("int depth", 4, signed=True),
            FieldSpec("unsigned long retaddr", word)),
            '"--> %ps (%d)", (void *)REC->func, REC->depth', extra),
        EventSpec("ftrace", "funcgraph_exit", 10, (
            FieldSpec("unsigned long func", word), FieldSpec("unsigned long retval", word),
            FieldSpec("int depth", 4, signed=True), FieldSpec("unsigned int overrun", 4),
            FieldSpec("unsigned long long calltime", 8),
            FieldSpec("unsigned long long rettime", 8)),
            '"<-- %ps", (void *)REC->func', extra),
        EventSpec("ftrace", "kernel_stack", 4, (
            FieldSpec("int size", 4, signed=True), FieldSpec("unsigned long caller[8]", 8 * word)),
            '"\\t=> %ps", (void *)REC->caller[0]', extra),
        EventSpec("ftrace", "print", 5, (
            FieldSpec("unsigned long ip", word), FieldSpec("char buf[]", 0)),
            '"%ps: %s", (void *)REC->ip, REC->buf', extra),
    ]  # fmt: skip
    return {s.name: s for s in specs}
