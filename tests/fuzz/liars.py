"""Writers that lie: whole files in which one length, count, offset or text is not true.

Every number of the formats passes the writers' method ``n``; these take the writers of
tests/writers, count the numbers of a file, and write it again with some of them replaced.
Mutating bytes hardly ever gets behind a compressed block; these lie before it is compressed.
"""

from __future__ import annotations

import io
import random
import re
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.fuzz.mutate import INTERESTING, mutate
from tests.writers import perfdata, tracedat
from tests.writers.tracedat import EventSpec, FieldSpec

if TYPE_CHECKING:
    import polars as pl

NAMES: Final = (
    "bash", "kworker/0:1", "a b", "", "\x1b[2J", "[red]x[/]", "\u202etxe", "<idle>", "x-1 [0", "é",
)  # fmt: skip


_KERNEL, _GUEST_KERNEL = (1 << 64) - 128, (1 << 64) - 2176
_CONTEXTS: Final = (
    _KERNEL, _KERNEL, _GUEST_KERNEL, *((1 << 64) - n for n in (32, 512, 2048, 2560, 4095, 4096))
)  # fmt: skip
"""enum perf_callchain_context, what is at its borders, and the kernel's more often."""


_FUNCTIONS: Final = "".join(f"{0xC1000000 + 0x1000 * n:08x} T f{n}\n" for n in range(4))
"""Symbols of a table of the functions in call chains."""


class Lies:
    """Which numbers of a file are replaced; decided when their count is known."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.at: set[int] = set()
        self.seen = 0

    def choose(self) -> None:
        """Lie at some of the numbers that the first writing had."""
        many = self.rng.choice((0, 0, 1, 1, 1, 2, 4))
        self.at = {self.rng.randrange(max(self.seen, 1)) for _ in range(many)}
        self.seen = 0

    def number(self, size: int, value: int, written: int) -> int:
        """The number, or a lie of the same width."""
        self.seen += 1
        if self.seen - 1 in self.at:
            draw = self.rng
            value = draw.choice(
                (
                    draw.choice(INTERESTING),
                    value + draw.choice((-8, -4, -2, -1, 1, 2, 4, 8)),
                    value * 2,
                    value ^ 1 << draw.randrange(8 * size),
                    written + draw.randrange(-1, 2),
                    draw.randrange(1, 40),
                    -value,
                )
            )
        return value & ((1 << 8 * size) - 1)

    def bytes(self, data: bytes, share: float) -> bytes:
        """Bytes that are mutated now and then."""
        return mutate(self.rng, data, (), text=False) if self.rng.random() < share else data


class _LyingDat(tracedat._Writer):
    def __init__(self, spec: tracedat.FileSpec, lies: Lies) -> None:
        super().__init__(spec)
        self.lies = lies

    def n(self, size: int, value: int) -> bytes:
        value = self.lies.number(size, value, len(self.out))
        return value.to_bytes(size, self.spec.order)

    def pack(self, data: bytes) -> bytes:
        return super().pack(self.lies.bytes(data, 0.1 if self.lies.at else 0))


class _LyingPerf(perfdata._Writer):
    def __init__(self, spec: perfdata.FileSpec, lies: Lies) -> None:
        super().__init__(spec)
        self.lies = lies

    def n(self, size: int, value: int) -> bytes:
        return super().n(size, self.lies.number(size, value, 4096))


@dataclass(frozen=True)
class _OddEvent(EventSpec):
    """An event whose description is damaged, always in the same way."""

    damage: int = 0

    def text(self) -> str:
        true = super().text().encode()
        return mutate(random.Random(self.damage), true, (), text=True).decode("utf-8", "replace")


def _odd_events(rng: random.Random, events: dict[str, EventSpec]) -> dict[str, EventSpec]:
    """Damage some descriptions; sometimes two events share an id or a name."""
    out = dict(events)
    for name, event in events.items():
        if rng.random() < 0.06:
            values = {f: getattr(event, f) for f in EventSpec.__dataclass_fields__}
            if rng.random() < 0.2:
                values["id"] = rng.choice([*(e.id for e in events.values()), 0, 65535, 1 << 31])
            out[name] = _OddEvent(**values, damage=rng.getrandbits(32))
    return out


def _values(rng: random.Random, event: EventSpec) -> list[int | bytes]:
    """Values for the fields of an event: likely, odd, or mixed."""
    found: list[int | bytes] = []
    for spec in event.fields:
        if "[" in spec.declaration:
            found.append(rng.choice((b"abc\0", b"", b"x" * rng.randrange(40), b"\x1b[2J\0")))
        else:
            likely = (0xC126F820, 0xFF000000 + 4096 * rng.randrange(600), 0xF6000000 + 40 * 7, 7)
            found.append(rng.choice((*likely, rng.choice(INTERESTING))))
    return found


def _payload(rng: random.Random, event: EventSpec, order: tracedat.Order) -> bytes:
    pid = rng.choice((0, 1, 7, 8, 9, 4194304, -1, (1 << 31) - 1))
    data = event.payload(order, pid, _values(rng, event), flags=rng.choice((0, 1, 16, 255)))
    if rng.random() < 0.05:
        data = rng.choice(
            (data[:2], data[: rng.randrange(len(data))], rng.randbytes(24), b"", data * 9)
        )
        data += bytes(-len(data) % 4)
    return data


def _dat_items(
    rng: random.Random, events: list[EventSpec], order: tracedat.Order
) -> list[tracedat.Item]:
    now = rng.choice((1, 2, 10**9, 1 << 40, (1 << 62) + 5, (1 << 63) - 10**6))
    items = []
    for _ in range(rng.choice((0, 1, 3, 10, 40))):
        what = rng.choice(("event",) * 8 + ("stamp", "discard", "lost", "page"))
        now += rng.choice((0, 1, 1000, 10**6, 1 << 27, 1 << 35))
        if what in ("lost", "page"):
            count = rng.choice((None, 0, 1, 7, (1 << 31) - 1))
            items.append(tracedat.Item(what, count=count))
            continue
        payload = _payload(rng, rng.choice(events), order)
        items.append(tracedat.Item(what, now, payload if len(payload) >= 4 else bytes(4)))
    return items


def _guest_clock(rng: random.Random) -> bytes:
    """How a guest's clock went beside its host's, by CPU: times, offsets, factors; and shifts."""

    def column(*values: int) -> list[bytes]:
        return [(rng.choice(values) & ((1 << 64) - 1)).to_bytes(8, "little") for _ in range(3)]

    cpus = rng.choice((1, 2, 4, 6))
    head = bytes(8) + rng.choice((0, 1)).to_bytes(4, "little") + cpus.to_bytes(4, "little")
    rows, tails = b"", b""
    for _ in range(cpus):
        number = rng.choice((0, 1, 1, 2, 3))
        columns = (
            sorted(
                column(0, 1, 10**9, 1 << 41, 1 << 62), key=lambda b: int.from_bytes(b, "little")
            ),
            column(0, 5, -1000, 1 << 40, -(1 << 62)),
            column(0, 1, 3, 1 << 40),
        )
        rows += number.to_bytes(4, "little") + b"".join(b"".join(c[:number]) for c in columns)
        tails += b"".join(column(0, 1, 31, 63, 64, 1 << 40)[:number])
    return head + rows + (tails if rng.random() < 0.7 else b"")


def _dat_options(rng: random.Random) -> list[tuple[int, bytes]]:
    known = (
        (1, b"0x1234\0"),
        (2, b"CPU: 0\nentries: 4\noverrun: 3\ncommit overrun: 0\ndropped events: 1\n"),
        (5, b"Linux board 6.1.0-50-686-pae i686\0"),
        (7, b"-5\0"),
        (11, b"12345678"),
        (12, _guest_clock(rng)),
        (13, b"guest\0" + bytes(40)),
        (14, b"\x11\xee\xff\x40\x1f\0\0\0" + bytes(8)),
        (4711, b"unknown"),
    )
    chosen = rng.sample(known, rng.randrange(len(known)))
    return [
        (number, mutate(rng, data, (), text=True) if rng.random() < 0.2 else data)
        for number, data in chosen
    ]


def trace_dat(rng: random.Random) -> bytes:
    """A trace.dat of any version, machine and compression, with a few lies."""
    word = rng.choice((4, 8))
    extra = (FieldSpec("int common_tgid", 4),) if rng.random() < 0.2 else ()
    events = tracedat.kernel_events(word, extra=extra)
    version = rng.choice((6, 7, 7))
    compression = rng.choice(("none", "zstd", "zlib")) if version == 7 else "none"
    spec = tracedat.FileSpec(
        [],
        list(_odd_events(rng, events).values()),
        version=version,
        order=rng.choice(("little", "little", "big")),
        word=word,
        user_word=rng.choice((None, 4, 8)),
        page_size=rng.choice((512, 4096)),
        compression=compression,
        kallsyms=rng.choice(("", "c126f820 T kmap_high\n", "00000001 T a\x1b[2J\n", "zz\n\n")),
        printk=rng.choice(("", '0xc1 : "a %s"\n')),
        comms={rng.randrange(10): rng.choice(NAMES) for _ in range(4)},
        options=_dat_options(rng),
        pages_per_chunk=rng.choice((1, 2, 10)),
        fill_with_padding=rng.random() < 0.3,
        split_options=rng.random() < 0.5,
    )
    kinds = list(events.values())
    for name in ("", "inner", "\x1b[31m")[: rng.choice((1, 1, 2, 3))]:
        numbers = rng.sample((0, 1, 2, 3, 5), rng.randrange(1, 4))
        cpus = {cpu: _dat_items(rng, kinds, spec.order) for cpu in sorted(numbers)}
        clock = rng.choice(("local", "global", "mono", "counter", "x86-tsc", "tsc2nsec", "boot"))
        spec.buffers.append(tracedat.BufferSpec(cpus, name, clock))
    lies = Lies(rng)
    state = rng.getstate()
    _dat(spec, lies)
    rng.setstate(state)
    lies.choose()
    return _dat(spec, lies)


def _dat(spec: tracedat.FileSpec, lies: Lies) -> bytes:
    writer = _LyingDat(spec, lies)
    return writer.v6() if spec.version == 6 else writer.v7()


def _chain(rng: random.Random) -> tuple[int, ...]:
    """A call chain: contexts and a few functions again and again, or any numbers."""
    if rng.random() < 0.2:
        return tuple(rng.choice(INTERESTING) for _ in range(rng.randrange(4)))
    found: list[int] = []
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        found.append(rng.choice(_CONTEXTS))
        length = rng.choice((0, 1, 2, 4, 127))
        found += [0xC1000000 + 0x800 * rng.randrange(8) for _ in range(length)]
    return tuple(found)


def perf_spec(rng: random.Random, *, honest: bool = False) -> perfdata.FileSpec:
    """What a perf.data file holds, drawn at random."""
    word = rng.choice((4, 8))
    order = rng.choice(("little", "little", "big"))
    events = perfdata.probe_events(word)
    described = events if honest else _odd_events(rng, events)
    optional = (
        perfdata.ADDR, perfdata.READ, perfdata.CALLCHAIN, perfdata.ID, perfdata.STREAM_ID,
        perfdata.PERIOD,
    )  # fmt: skip
    kind = perfdata.USUAL | sum(bit for bit in optional if rng.random() < 0.2)
    if rng.random() < 0.4:
        kind |= perfdata.CALLCHAIN
    if not honest and rng.random() < 0.1:
        kind ^= 1 << rng.randrange(24)
    size = rng.choice((64, 96, 128, 136))
    attrs = [
        perfdata.AttrSpec(
            event, kind, rng.choice((4, 4 | 8, 4 | 1 | 16, 0, 4 | 3)), ids=(10 + 2 * n, 11 + 2 * n),
            sample_id_all=rng.random() < 0.8, size=size,
            clock=rng.choice((None, 1, 4, 99)),
        )
        for n, event in enumerate(described.values())
    ]  # fmt: skip
    listed = list(events.values())

    def items() -> list[perfdata.Item]:
        now = rng.choice((0, 10**9, 1 << 62, (1 << 64) - 10**9))
        found: list[perfdata.Item] = []
        for _ in range(rng.choice((0, 2, 10, 20, 60))):
            now += rng.choice((0, 1, 1000, -500, 10**9))
            number = rng.randrange(len(listed))
            cpu, tid = rng.choice((0, 1, 7, 65535, 1 << 31)), rng.choice((0, 5, 7, 8, -1))
            if rng.random() < 0.3:
                kinds = ("comm", "fork", "exit", "lost", "lost_samples", "round", "mmap")
                what = rng.choice(kinds)
                found.append(
                    perfdata.SideSpec(
                        what, now, cpu, tid, rng.choice(NAMES), parent=5,
                        count=rng.choice((1, 5, 1 << 40, (1 << 64) - 1)),
                    )
                    if what != "mmap" else
                    perfdata.SideSpec(
                        what, now, cpu, tid, rng.choice(("[kernel.kallsyms]_text", *NAMES)),
                        parent=0xC1000000, count=rng.choice((0x3000, *INTERESTING)),
                    )
                )  # fmt: skip
                continue
            payload = _payload(rng, listed[number], order)
            found.append(
                perfdata.SampleSpec(
                    now, cpu, tid, payload, number, chain=_chain(rng), id=10 + 2 * number
                )
            )
        return found

    compress = rng.choice((0, 0, 50, 400))
    return perfdata.FileSpec(
        attrs, items(), order=order, word=word, form=rng.choice(("file", "pipe")),
        compress=compress, compressed2=bool(compress) and rng.random() < 0.5,
        kallsyms=rng.choice(("", "c126f820 T kmap_high\n", _FUNCTIONS)),
        cpus=rng.choice((1, 2, 1 << 31)),
        comms={rng.randrange(10): rng.choice(NAMES) for _ in range(3)},
        tracing=rng.random() < 0.95,
        parts=[items() for _ in range(rng.choice((0, 0, 2)))],
    )  # fmt: skip


def perf_data(rng: random.Random) -> dict[str, bytes]:
    """A perf.data in its file, stream or directory form, with a few lies."""
    spec = perf_spec(rng)
    if spec.parts:
        spec.form = perfdata.FILE
    lies = Lies(rng)
    for again in (False, True):
        writer = _LyingPerf(spec, lies)
        main = writer.pipe() if spec.form == perfdata.PIPE else writer.file()
        parts = [writer.records(part) for part in spec.parts]
        if not again:
            lies.choose()
    if not parts:
        return {"perf.data": main}
    return {"data": main, **{f"data.{n}": part for n, part in enumerate(parts)}}


def archive(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """A tar archive of a capture folder; names, sizes and kinds of members may be odd."""
    out = io.BytesIO()
    for name, content in members.items():
        info = tarfile.TarInfo(f"capture/{name}")
        info.size = len(content)
        if rng.random() < 0.3:
            _odd_member(rng, info)
        form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        try:
            out.write(info.tobuf(form, "utf-8", "surrogateescape"))
        except (ValueError, OverflowError):  # the form has no room for the lie
            continue
        out.write(content + bytes(-len(content) % 512))
    out.write(bytes(rng.choice((0, 512, 1024, 10240))))
    return out.getvalue()


def _odd_member(rng: random.Random, info: tarfile.TarInfo) -> None:
    changes: dict[str, Any] = {
        "name": rng.choice(
            ("../x", "/tmp/x", "a/" * 300 + "b", "\x1b[2J", "capture", "", ".", "x" * 300, "a\0b")
        ),
        "size": rng.choice((0, 1, info.size + 1, info.size - 1, 1 << 33, 1 << 62, -1)),
        "type": rng.choice(
            (b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"K", b"L", b"S", b"g", b"x", b"V")
        ),
        "linkname": rng.choice(("", "../../x", "capture/trace", "x" * 200)),
        "mtime": rng.choice((0, -1, 1 << 40)),
        "mode": rng.choice((0, 0o4777)),
        "pax_headers": {
            rng.choice(("size", "path", "GNU.sparse.major", "GNU.sparse.map")): "9" * 20
        },
    }
    for name in rng.sample(list(changes), rng.choice((1, 1, 2, 3))):
        setattr(info, name, changes[name])


def parquet(rng: random.Random, data: bytes, metadata: dict[str, str]) -> bytes:
    """A Parquet file of hmtrace's with other cells, columns, types or facts."""
    import polars as pl

    frame = _odd_table(rng, pl.read_parquet(io.BytesIO(data)), rng.choice((0, 1, 1, 2, 3)))
    texts = {
        key: _odd_numbers(rng, text) if rng.random() < 0.6 and key != "ARROW:schema" else text
        for key, text in metadata.items()
        if key != "ARROW:schema"
    }
    out = io.BytesIO()
    compression = rng.choice(("zstd", "snappy", "uncompressed"))
    frame.write_parquet(out, metadata=texts, compression=compression)
    return out.getvalue()


def arrow(
    rng: random.Random, data: bytes, metadata: dict[str, str], *, compression: str, changes: int
) -> bytes:
    """An Arrow IPC file of what is in a Parquet file, with that many other cells and columns."""
    import polars as pl

    from collectors.parquet.layout import KEY
    from tests.writers.arrow import put_document

    frame = _odd_table(rng, pl.read_parquet(io.BytesIO(data)), changes)
    text = metadata[KEY]
    if changes and rng.random() < 0.4:
        text = _odd_numbers(rng, text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.arrow"
        frame.write_ipc(path, compression=compression, record_batch_size=rng.choice((100, 1 << 18)))
        put_document(path, text.encode("ascii", "replace").decode())
        return path.read_bytes()


def _odd_table(rng: random.Random, frame: pl.DataFrame, changes: int) -> pl.DataFrame:
    for _ in range(changes if frame.height else 0):
        frame = _odd_column(rng, frame, rng.choice(frame.columns))
    return frame


def _odd_column(rng: random.Random, frame: pl.DataFrame, name: str) -> pl.DataFrame:
    import polars as pl

    column, number = pl.col(name), frame.height and frame.schema[name].is_integer()
    choices = [
        frame.drop(name) if rng.random() < 0.3 else frame,
        frame.with_columns(pl.lit(None).cast(frame.schema[name]).alias(name)),
        frame.with_columns(column.reverse()),
        frame.with_columns(column.shuffle(rng.getrandbits(30))),
        frame.slice(rng.randrange(frame.height + 1)),
        pl.concat([frame, frame.head(3)]),
        frame.with_columns(column.cast(pl.String)) if rng.random() < 0.3 else frame,
    ]
    if number:
        row = rng.randrange(frame.height)
        value = rng.choice(INTERESTING)
        cell = pl.lit(value).cast(frame.schema[name], strict=False)
        at = pl.int_range(pl.len()) == row
        choices += [
            frame.with_columns(pl.when(at).then(cell).otherwise(column).alias(name)),
            frame.with_columns(cell.alias(name)),
            frame.with_columns(frame.schema[name].max().alias(name)),
        ] * 2
    return rng.choice(choices)


def _odd_numbers(rng: random.Random, text: str) -> str:
    """Replace numbers in JSON by others, or a piece by anything."""
    found = list(re.finditer(r"\b\d+\b", text))
    for _ in range(rng.choice((1, 1, 3))):
        if not found:
            break
        span = rng.choice(found)
        value = rng.choice(
            (*map(str, INTERESTING), "-1", "null", "true", '"x"', "[]", "1e400", "NaN")
        )
        text = text[: span.start()] + value + text[span.end() :]
        found = list(re.finditer(r"\b\d+\b", text))
    if rng.random() < 0.2:
        text = mutate(rng, text.encode(), (), text=True).decode("utf-8", "replace")
    return text
