"""Every reader that is fuzzed: its seeds, how its inputs are made, and the ways they are taken."""

from __future__ import annotations

import functools
import gzip
import io
import lzma
import random
import re
import tarfile
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zstandard

from tests.fuzz import elves, liars, streams, surfaces
from tests.fuzz.case import CONVERTED, CUT, OPEN, SCAN, SPOOLED, WALK, WINDOWS, WORDS, Case
from tests.fuzz.mutate import mutate
from tests.writers import ftracetext, graphtext, latency, perfdata, ringbuffers, tracedat
from tests.writers.graphtext import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
WAITERS: Final = FIXTURES / "i386-hog-a-waiters-pae-smp2"
FACTS: Final = (
    "cmdline", "config", "cpuinfo", "dmesg", "iomem", "kallsyms", "kprobe_events",
    "kprobe_profile", "meminfo", "pkmap.start", "state.json", "stats", "version",
    "vmallocinfo.start", "zoneinfo", "trace_clock", "trace_settings",
)  # fmt: skip
COMMANDS: Final = (
    "info", "info-json", "report", "report-json", "report-calibrate", "validate",
    "validate-json", "replay", "replay-json", "replay-fixed", "replay-calibrate",
)  # fmt: skip
WAYS_OF_A_TRACE: Final = (SCAN, *(4 * (OPEN, CUT)), *(3 * (WINDOWS,)), SPOOLED, CONVERTED)
TABLES: Final = ("csv", "lines", "stdin")
OPENED: Final = (OPEN, CUT, WINDOWS, SPOOLED, CONVERTED)
"""A file of hmtrace's is read by the library at once."""


_RECENT: Final = 50


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes
    ----------
    name
        As the fuzzer prints it.
    seeds
        Makes the first inputs.
    text
        Lines and words are mutated, not only bytes.
    made
        Draws a whole new input; None: only mutations of seeds.
    ways
        How inputs are taken: 93 of a hundred the first way, which goes no further than the reader
        and takes a millisecond, six the others, which take ten.
    commands
        The hundredth input: a whole command takes fifty milliseconds.
    still
        Files of a case that are not mutated.
    """

    name: str
    seeds: Callable[[], Sequence[Case]]
    text: bool = True
    made: Callable[[random.Random], Case] | None = None
    ways: tuple[str, ...] = WAYS_OF_A_TRACE
    commands: tuple[str, ...] = (*TABLES, *COMMANDS)
    still: frozenset[str] = field(default_factory=frozenset)

    def draw(
        self, rng: random.Random, corpus: Sequence[Case], recent: list[Case] | None = None
    ) -> Case:
        """Make the next input.

        Parameters
        ----------
        rng
            Where all chance comes from.
        corpus
            Inputs that found new lines, seeds included.
        recent
            Inputs that were made, of which some are taken again to be mutated: to make a binary
            file costs more than to read it.
        """
        where = rng.random()
        if self.made is not None and where < 0.6:
            if recent and where < 0.35:
                case = rng.choice(recent)
            else:
                case = self.made(rng)
                if recent is not None and not self.text:
                    recent.append(case)
                    del recent[:-_RECENT]
                if rng.random() < 0.75:
                    return case.with_way(self.way(rng))
        else:
            # What is found with a long input is mostly found with a short one, which costs less.
            case = min((rng.choice(corpus) for _ in range(3)), key=lambda case: case.size)
        for _ in range(rng.choice((1, 1, 2))):
            names = [n for n in case.files if n not in self.still] or list(case.files)
            name = rng.choice(names)
            near = rng.sample(corpus, min(3, len(corpus)))
            others = [c.files[name] for c in near if name in c.files]
            content = mutate(rng, case.files[name], others, text=self.text)
            if self.text and rng.random() < 0.5:
                content = content.decode("utf-8", "ignore").encode()
            case = case.with_file(name, content)
        return case.with_way(self.way(rng))

    def way(self, rng: random.Random) -> str:
        """How an input is taken."""
        first, *rest = self.ways
        where = rng.random()
        if where >= 0.99 and self.commands:
            return rng.choice(self.commands)
        return rng.choice(rest) if where >= 0.93 and rest else first


def plain(path: Path) -> bytes:
    """Content of a fixture, decompressed."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def excerpt(data: bytes, head: int, runs: Sequence[tuple[int, int]]) -> bytes:
    """First lines of a text, and some runs of (first, number) further lines."""
    lines = data.splitlines(keepends=True)
    return b"".join(lines[:head] + [line for at, n in runs for line in lines[at : at + n]])


@functools.cache
def texts(pattern: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Excerpts of the fixtures' text traces."""
    found = {}
    for folder in sorted(FIXTURES.glob(pattern)):
        for name in names:
            for path in sorted(folder.glob(name)):
                data = plain(path)
                middle = data.count(b"\n") // 2
                cut = excerpt(data, 15, [(200, 5), (middle, 15)])
                found[f"{folder.name}-{path.name}"] = cut
    return found


def single(reader: str, contents: Sequence[bytes]) -> list[Case]:
    """One case for each content, in a file of its own."""
    return [Case(reader, {"input": data}, "input") for data in contents]


# Text -------------------------------------------------------------------------------------


def written_text() -> list[bytes]:
    """Text traces of every header form."""
    events = [
        ftracetext.Event(
            ("bash", "a b", "x-1 [0", "<idle>")[i % 4], (7, 8, 9, 0)[i % 4], i % 2,
            10**9 + i * 1000,
            (
                f"p: (kmap_high+0x0/0x260) page={0xF6000000 + 40 * (i % 5):#x}",
                f"r: (f+0x4/0x90 <- kmap_high) vaddr={0xFF000000 + 4096 * (i % 5):#x}",
                f"u: (kunmap_high+0x0/0x90) page={0xF6000000 + 40 * (i % 5):#x}",
                "sched_switch: prev_comm=a prev_pid=7 prev_prio=120 prev_state=D ==> "
                "next_comm=b next_pid=8 next_prio=120",
                "tlb_flush: pages:1 reason:local mm shootdown (3)",
                "kmap_high <-f",
            )[i % 6],
            i % 5 == 0, ".hsH"[i % 4], i % 3,
        )
        for i in range(60)
    ]  # fmt: skip
    made = [
        ftracetext.header(width, entries=60, written=written, tgid=tgid)
        + ftracetext.tracefs(events, width, tgid=tgid, clock=clock)
        for width, written, tgid, clock in (
            (0, None, False, "us"), (4, 90, True, "ns"), (5, None, False, "counter"),
            (7, None, True, "us"),
        )
    ]  # fmt: skip
    made.append(ftracetext.tracefs(events) + "CPU:1 [LOST 7 EVENTS]\n" + ftracetext.tracefs(events))
    made.append(ftracetext.latency(events))
    return [text.encode() for text in made]


def ftrace_seeds() -> list[Case]:
    real = texts("i386-*", ("trace.txt.gz", "trace_*.txt.gz"))
    return single("ftrace-text", [*written_text(), _STACKS, _FIELDS, *real.values()])


_STACKS: Final = (
    b"# tracer: nop\n#\n"
    b"  bash-7  [001] d..1.  1.000100: p: (kmap_high+0x0/0x260) page=0xf6000028\n"
    b"  bash-7  [001] d..1.  1.000101: <stack trace>\n"
    b" => kmap_high\n => dir_get_page+0x12/0x40 [minix] <f8000012>\n => do_syscall_64\n"
    b"  bash-7  [001] .....  1.000102: r: (f+0x4/0x90 <- kmap_high) vaddr=0xff001000\n"
    b"  bash-7  [001] .....  1.000103: <user stack trace>\n =>  <b7f00000>\n => /bin/sh[+0x10]\n"
    b"  a b-8   [000] .....  1.000200: kmap_high <-f\n"
    b"  a b-8   [000] .....  1.000201: <stack trace>\n => kmap_high\n => f\n => f\n\n"
    b"  a b-8   [000] d..1.  1.000300: u: (kunmap_high+0x0/0x90) page=0xf6000028\n"
)
_FIELDS: Final = (
    b"  bash-7  [001] d..1.  1.000100: kmap_high: __probe_ip=0xc126f820 (3240556576) "
    b"page=0xf6000028 (4127195176)\n"
    b"  bash-7  [001] .....  1.000101: kmap_high_ret: __probe_func=0xc126f820 (3240556576) "
    b"__probe_ret_ip=0xc126f900 (3240556800) vaddr=0xff001000 (4278194176)\n"
    b"  bash-7  [001] d..2.  1.000102: sched_switch: next_prio=0x78 (120) next_pid=0x8 (8) "
    b"next_comm=a b prev_state=0x2 (2) prev_prio=0x78 (120) prev_pid=0x7 (7) prev_comm=bash\n"
)
"""Stack traces, and option ``fields`` of newer kernels."""


def graph_seeds() -> list[Case]:
    """function_graph in several choices of columns, and as the fixture has it."""
    calls = [
        Call(
            "minix_lookup", [Call("kmap_high", [Call("flush_all_zero_pkmaps")]), Call("schedule")]
        ),
        Call("kunmap_high"),
        Call("vm_map_ram", [Call("alloc_vmap_area")]),
    ]
    columns = (
        "abs rel cpu task flags times", "abs cpu task times", "cpu times", "rel cpu times",
        "abs cpu task flags", "task times", "report",
    )  # fmt: skip
    made = [
        graphtext.write(3 * calls, set(c.split()), with_header=n % 3 > 0, cpu=1, pid=112)[0]
        for n, c in enumerate(columns)
    ]
    made.append(
        " 0)   3.100 us    |  } /* kmap_high <-minix_lookup ret=0xff800000 */\n"
        " 0)   0.123 us    |  kunmap_high [minix](); /* = 0xff801000 */\n"
        " 0)               |  kmap_high(page=0xc0de, prot=1) { /* <-dir_get_page */\n"
        " 0)               |    /* kmap_high: (kmap_high+0x0/0x260) page=0xf69b9db0 */\n"
        " 0)   ==========> |\n 0)               |  alloc_vmap_area() {\n 0)   <========== |\n"
        " ------------------------------------------\n 0)  kswapd0-50   =>   bash-112   \n"
        " ------------------------------------------\n\n"
        " 0) + 10.120 us   |  } /* = -12 */\n 0)   9.000 us    |  } /* kmap_high = 0xff802000 */\n"
    )
    real = texts("i386-func-*", ("trace_graph.txt.gz",))
    return single("function-graph", [*(text.encode() for text in made), *real.values()])


_NUMBERED: Final = (
    b"# tracer: nop\n#\n5 0 1000000001 type: 1580\nCPU:1 [LOST 7 EVENTS]\n"
    b"5 1 1000000002 # c1179121 begin of it: # 3\n5 1 1000000003 : c1280010 : count 5\n"
    b"5 1 1000000004 # f8000004 from trace_printk()\n5 1 1000000005 # 77 buf: 01 02\n"
    b"0 0 1000000006 c126f824 c1280000\n0 0 1000000008 type: 370\n5 1 1000000009 type: 4\n"
    b"5 1 99999999999999999999 type: 4\n"
)
"""Option ``raw``: every kind of line."""
_FORMATS: Final = (
    b"name: anything\nID: 1580\nformat:\n"
    b"\tfield:unsigned long __probe_ip;\toffset:8;\tsize:4;\tsigned:0;\n"
    b"name: sched_switch\nID: 370\nformat:\n"
    b"\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n"
)


def numbered_seeds() -> list[Case]:
    """Options raw and hex, with what explains the numbers beside them."""
    folder = FIXTURES / "i386-minix-pae-smp2"
    saved = plain(folder / "saved_cmdlines")
    probes = plain(folder / "kprobe_events")
    real = texts(folder.name, ("trace_raw.txt.gz", "trace_hex.txt.gz"))
    kept = {
        "event_formats": plain(folder / "event_formats.gz"),
        "saved_cmdlines": saved,
        "kprobe_events": probes,
    }
    found = [Case("numbered-text", {"input": data, **kept}, "input") for data in real.values()]
    beside = {
        "event_formats": _FORMATS,
        "saved_cmdlines": b"5 a name\n",
        "kprobe_events": b"p:hm/anything vfree addr=%ax:x32\n",
        "kallsyms": b"c1179100 t tracing_mark_write\nc126f820 T kmap_high\nc1280000 T f\t[mine]\n",
        "trace_clock": b"[local] global\n",
    }
    found.append(Case("numbered-text", {"input": _NUMBERED, **beside}, "input"))
    binary = {
        "trace.dat": _honest_dat(random.Random(1), 7, "none"),
        "perf.data": perfdata.write(liars.perf_spec(random.Random(2), honest=True)),
    }
    found += [
        Case("numbered-text", {"input": _NUMBERED.replace(b"1580", b"1500"), name: data}, "input")
        for name, data in binary.items()
    ]
    return found


def report_seeds() -> list[Case]:
    real = texts("i386-*", ("report*.txt.gz",))
    events = [
        ftracetext.Event("bash", 7, i % 2, 10**9 + i * 1000, f"kmap_high: (c126f820) page={i:#x}")
        for i in range(40)
    ]
    return single("trace-cmd-report", [ftracetext.report(events).encode(), *real.values()])


def script_seeds() -> list[Case]:
    real = texts("*-perf", ("perf-script.txt.gz",))
    lines = (
        b"bash 100 [000]  1000.000000: kprobes:kmap_high: (c126f820) page=0xdead000\n"
        b"\tc126f821 kmap_high+0x1 ([kernel.kallsyms])\n\tc1000000 x+0x0 ([k])\n\n"
        b"a b   7/8   [001]  1000.000001234:          1 hm:kmap_high_ret: "
        b"(c126f820 <- f7929c10) vaddr=0xff004000\n\n"
        b"x 5 [000] 1000.1: PERF_RECORD_LOST lost 5\n"
    )
    return single("perf-script", [lines, *real.values()])


# Binary -----------------------------------------------------------------------------------


def dat_seeds() -> list[Case]:
    rng = random.Random(1)
    made = [_honest_dat(rng, v, c) for v, c in ((6, "none"), (7, "none"), (7, "zstd"), (7, "zlib"))]
    real = (FIXTURES / "i386-func-minix-pae-smp2" / "trace.dat").read_bytes()
    text = written_text()[-1]
    texts_in_it = [latency.make(form, text) for form in ("v6", "zstd-chunks", "tagged")]
    return single("trace.dat", [*made, real, *texts_in_it])


def pages_seeds() -> list[Case]:
    rng = random.Random(5)
    specs = [replace(_honest_spec(rng, 6, "none"), order=order) for order in ("little", "big")]
    return [Case("ring-buffers", ringbuffers.files(spec)) for spec in specs]


def make_pages(rng: random.Random) -> Case:
    """What the recorder copied, with a file that lies, is packed, or is not there."""
    files = dict(rng.choice(pages_seeds()).files)
    name = rng.choice(sorted(files))
    content = mutate(rng, files.pop(name), (), text=not name.startswith("trace_pipe"))
    if rng.random() < 0.9:
        files[name] = content
    if name in files and rng.random() < 0.1:
        _pack_one(rng, files, name)
    return Case("ring-buffers", files)


def _honest_dat(rng: random.Random, version: int, compression: str) -> bytes:
    return tracedat.write(_honest_spec(rng, version, compression))


def _honest_spec(rng: random.Random, version: int, compression: str) -> tracedat.FileSpec:
    events = tracedat.kernel_events(4)
    items = {
        cpu: [
            tracedat.Item(
                "event", 10**9 + 1000 * n + cpu,
                events["mapper"].payload("little", 7, [0xC126F820, 0xF6000000 + n]),
            )
            for n in range(20)
        ]
        for cpu in (0, 2)
    }  # fmt: skip
    return tracedat.FileSpec(
        [tracedat.BufferSpec(items)], list(events.values()), version=version,
        compression=compression, kallsyms="c126f820 T kmap_high\n", comms={7: "bash"},
        page_size=rng.choice((512, 4096)),
    )  # fmt: skip


def make_dat(rng: random.Random) -> Case:
    if rng.random() < 0.05:
        text = mutate(rng, rng.choice(written_text()), (), text=True)
        data = latency.make(rng.choice(("v6", *latency.FORMS)), text)
    else:
        data = liars.trace_dat(rng)
    return Case("trace.dat", {"input": data}, "input")


def perf_seeds() -> list[Case]:
    rng = random.Random(2)
    specs = [liars.perf_spec(rng, honest=True) for _ in range(6)]
    for spec in specs[:3]:  # call chains
        spec.attrs = [
            replace(a, sample_type=a.sample_type | perfdata.CALLCHAIN) for a in spec.attrs
        ]
    made = [perfdata.write(spec) for spec in specs]
    return single("perf.data", made)


def make_perf(rng: random.Random) -> Case:
    files = liars.perf_data(rng)
    return Case("perf.data", files, "data" if "data" in files else "perf.data")


@functools.cache
def _written_parquet() -> list[tuple[bytes, dict[str, str]]]:
    """Files as hmtrace writes them, and their metadata."""
    import polars as pl

    from collectors import write_parquet

    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in folder_seeds()[:4]:
            place = folder / str(len(found))
            target = folder / "made.parquet"
            write_parquet(case.lay_out(place), target)
            found.append((target.read_bytes(), pl.read_parquet_metadata(target)))
    return found


def parquet_seeds() -> list[Case]:
    return single("hmtrace-parquet", [data for data, _ in _written_parquet()])


def make_parquet(rng: random.Random) -> Case:
    return Case(
        "hmtrace-parquet", {"input": liars.parquet(rng, *rng.choice(_written_parquet()))}, "input"
    )


def arrow_seeds() -> list[Case]:
    rng = random.Random(4)
    return single(
        "hmtrace-arrow",
        [liars.arrow(rng, *made, compression="lz4", changes=0) for made in _written_parquet()],
    )


def make_arrow(rng: random.Random) -> Case:
    compression = rng.choice(("lz4", "lz4", "uncompressed", "zstd"))
    made = liars.arrow(
        rng, *rng.choice(_written_parquet()), compression=compression, changes=rng.choice((1, 2, 3))
    )
    return Case("hmtrace-arrow", {"input": made}, "input")


# Wrappers ---------------------------------------------------------------------------------


def _small_folder() -> dict[str, bytes]:
    text = texts("i386-hog-a-*", ("trace.txt.gz",))
    return {
        "trace": next(iter(text.values())),
        "cmdline": b"vmalloc=192M\n",
        "trace_clock": b"[mono]",
    }


def pack(kind: int, data: bytes) -> bytes:
    """Compress; the last kinds are two members, and padding behind."""
    match kind:
        case 0:
            return gzip.compress(data)
        case 1:
            return lzma.compress(data, preset=0)
        case 2:
            return zstandard.compress(data)
        case 3:
            return gzip.compress(data[:500]) + gzip.compress(data[500:])
        case 4:
            return zstandard.compress(data[:500]) + zstandard.compress(data[500:])
        case _:
            return lzma.compress(data, preset=0) + bytes(64)


def wrapped_seeds() -> list[Case]:
    text = written_text()[0]
    return single("gz-xz-zst", [pack(kind, text) for kind in range(6)])


def make_wrapped(rng: random.Random) -> Case:
    """Mutated before it is compressed, compressed once or twice, then damaged."""
    data = mutate(rng, rng.choice(written_text()), (), text=True)
    packed = pack(rng.randrange(6), data)
    if rng.random() < 0.1:
        packed = pack(rng.randrange(6), packed)
    return Case("gz-xz-zst", {"input": packed}, "input")


def tar_seeds() -> list[Case]:
    members = _small_folder()
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(f"c/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        made.append(out.getvalue())
    return single("tar", made)


def make_tar(rng: random.Random) -> Case:
    data = liars.archive(rng, _small_folder())
    return Case("tar", {"input": gzip.compress(data) if rng.random() < 0.3 else data}, "input")


# Capture folders --------------------------------------------------------------------------


_MAPPING: Final = re.compile(rb"kmap|vmap|vmalloc")
"""Symbols of kallsyms."""
_OF_MEMORY: Final = re.compile(rb"HIGH|PAE|SPLIT|PAGE|NR_CPUS|X86_32|ARM|SMP")
"""Lines of a config."""


@functools.cache
def _facts_of(folder: Path) -> dict[str, bytes]:
    """Files of a fixture that say what its machine is, cut to what matters."""
    found = {}
    for name in FACTS:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                data = plain(path)
                if name == "kallsyms":
                    lines = data.splitlines(keepends=True)
                    data = b"".join([*filter(_MAPPING.search, lines), *lines[:50]])
                if name == "config":
                    lines = data.splitlines(keepends=True)
                    data = b"".join([*lines[:5], *filter(_OF_MEMORY.search, lines)][:150])
                found[name] = data
    return found


def _machines() -> list[Path]:
    return sorted({p.parent for p in FIXTURES.rglob("zoneinfo")})


_MOST_LINES: Final = 60


def _shortened(name: str, data: bytes) -> bytes:
    """First, middle and last lines of a long file; JSON is left whole."""
    lines = data.splitlines(keepends=True)
    if name == "state.json" or len(lines) <= _MOST_LINES:
        return data
    part = _MOST_LINES // 3
    middle = len(lines) // 2
    return b"".join(lines[:part] + lines[middle : middle + part] + lines[-part:])


@functools.cache
def folder_seeds() -> list[Case]:
    seeds = []
    for folder in _machines():
        facts = {name: _shortened(name, data) for name, data in _facts_of(folder).items()}
        trace = folder / "trace.txt.gz"
        if not trace.is_file():
            trace = WAITERS / "trace.txt.gz"
        facts["trace"] = excerpt(plain(trace), 12, [(400, 20)])
        seeds.append(Case("folder", facts))
    return seeds


def _pack_one(rng: random.Random, files: dict[str, bytes], name: str) -> None:
    """Put a file in compressed, whole or cut, under the name of any compression."""
    packed = pack(rng.randrange(3), files.pop(name))
    cut = len(packed) if rng.random() < 0.5 else rng.randrange(len(packed))
    files[name + rng.choice((".gz", ".xz", ".zst"))] = packed[:cut]


def _some(rng: random.Random, files: dict[str, bytes]) -> dict[str, bytes]:
    """A few of the files, mostly, or all; the trace always."""
    if rng.random() < 0.05:
        return dict(files)
    names = rng.sample(list(files), min(len(files), rng.choice((1, 2, 3, 4, 6))))
    return {name: data for name, data in files.items() if name in names or name == "trace"}


def make_folder(rng: random.Random) -> Case:
    """Some files of a machine and of others, some compressed, some cut."""
    seeds = folder_seeds()
    case = rng.choice(seeds)
    files = _some(rng, case.files)
    for _ in range(rng.randrange(1, 5)):
        name, content = rng.choice(list(rng.choice(seeds).files.items()))
        if rng.random() < 0.7:
            content = mutate(rng, content, (), text=True)
        files[name] = content
        if rng.random() < 0.2:
            _pack_one(rng, files, name)
        if rng.random() < 0.1:
            files[name + rng.choice((".start", ".end", ".txt", ".gz"))] = content
    return Case("folder", files)


# Machines and costs -----------------------------------------------------------------------

_MACHINE: Final = b"""arch = "arm"
ram = "2G"
pae = true
cpus = 4
split = "2g"
vmalloc = "256M"
pkmap_slots = 512
config = ["CONFIG_HIGHMEM", "SMP"]
[costs]
ipi_base = 500
"""
_RANGES: Final = (
    b'arch = "i386"\nram = [[0x1000, 0x9f000], [0x100000, 0x3ffd4000]]\nhighmem = "64M"\n'
)
_COSTS: Final = b'invlpg = 140\nipi_cpu = 2.5\n[walk]\nvalue = 90\nunit = "ns"\n'


def toml_seeds() -> list[Case]:
    presets = sorted((Path(__file__).parents[2] / "replay" / "machine" / "presets").glob("*.toml"))
    return [
        Case("machine-toml", {"machine.toml": text}, "machine.toml")
        for text in (_MACHINE, _RANGES, *(path.read_bytes() for path in presets))
    ]


def costs_seeds() -> list[Case]:
    trace = written_text()[2]
    whole = (Path(__file__).parents[2] / "replay" / "machine" / "costs.toml").read_bytes()
    return [
        Case("costs-toml", {"trace": trace, "costs.toml": costs, "machine.toml": machine}, "trace")
        for costs, machine in ((_COSTS, _MACHINE), (whole, _RANGES))
    ]


# Event streams ----------------------------------------------------------------------------


@functools.cache
def _streams() -> list[tuple[dict[str, bytes], list[bytes]]]:
    return [
        (_facts_of(path.parent), plain(path).splitlines())
        for path in sorted(FIXTURES.glob("i386-*/trace.txt.gz"))
        if "latfmt" not in str(path) and "func" not in str(path)
    ]


def make_stream(rng: random.Random) -> Case:
    """Disturbed or invented events on the machine of some fixture, or on none."""
    facts, text = rng.choice(_streams())
    made = streams.disturb(rng, text) if rng.random() < 0.6 else streams.invent(rng)
    if rng.random() < 0.3:
        facts = rng.choice(_streams())[0] if rng.random() < 0.5 else {}
    return Case("events", {**facts, "trace": made})


def stream_seeds() -> list[Case]:
    rng = random.Random(3)
    return [make_stream(rng) for _ in range(10)]


_FACT_WORDS: Final = (
    b"0x" + b"f" * 40, b"9" * 25, b"-1", "²".encode(), b"System RAM", b"HighMem", b"Normal",
    b"[    0.000000] ", b"<6>", b"CONFIG_", b"0-ffffffff", b"4096M", b"@0x80000000", b"\r",
)  # fmt: skip
"""What matters to the readers of machine files."""


@functools.cache
def facts_seeds() -> list[Case]:
    """Machine files alone, a machine's in three parts."""
    found = []
    for case in folder_seeds():
        names = [name for name in case.files if name not in ("trace", "kallsyms")]
        for part in range(3):
            files = {name: case.files[name] for name in names[part::3]}
            found.append(Case("facts", files, "", "facts"))
    return [case for case in found if case.files]


def make_facts(rng: random.Random) -> Case:
    """Files of several machines together, with numbers and words that matter, some packed."""
    seeds = facts_seeds()
    files = _some(rng, rng.choice(seeds).files)
    for _ in range(rng.randrange(1, 4)):
        name, content = rng.choice(list(rng.choice(seeds).files.items()))
        made = bytearray(mutate(rng, content, (), text=True) if rng.random() < 0.6 else content)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(made) + 1)
            made[at : at + rng.randrange(12)] = rng.choice(_FACT_WORDS)
        files[name] = bytes(made)
        if rng.random() < 0.1:
            _pack_one(rng, files, name)
    return Case("facts", files, "", "facts")


READERS: Final = (
    Reader("ftrace-text", ftrace_seeds),
    Reader("function-graph", graph_seeds),
    Reader("numbered-text", numbered_seeds),
    Reader("trace-cmd-report", report_seeds),
    Reader("perf-script", script_seeds),
    Reader(
        "trace.dat", dat_seeds, text=False, made=make_dat,
        commands=(*TABLES, *COMMANDS, "buffer", "buffer"),
    ),
    Reader(
        "ring-buffers", pages_seeds, text=False, made=make_pages, ways=OPENED,
        commands=("csv", "lines", *COMMANDS),
    ),
    Reader("perf.data", perf_seeds, text=False, made=make_perf),
    Reader("hmtrace-parquet", parquet_seeds, text=False, made=make_parquet, ways=OPENED),
    Reader("hmtrace-arrow", arrow_seeds, text=False, made=make_arrow, ways=OPENED),
    Reader(
        "gz-xz-zst", wrapped_seeds, text=False, made=make_wrapped,
        ways=("unpacked", OPEN), commands=("info", "stdin"),
    ),
    Reader(
        "tar", tar_seeds, text=False, made=make_tar,
        ways=("unpacked", OPEN), commands=("info", "stdin"),
    ),
    Reader(
        "folder", folder_seeds, made=make_folder, still=frozenset({"trace"}),
        commands=("csv", "lines", *COMMANDS),
    ),
    Reader(
        "elf", elves.elf_seeds, text=False, made=elves.make_elf, ways=("elf",), commands=()
    ),
    Reader("facts", facts_seeds, made=make_facts, ways=("facts",), commands=()),
    Reader(
        "machine-toml", toml_seeds, ways=("machine",), commands=("layout", "layout-json")
    ),
    Reader(
        "costs-toml", costs_seeds, ways=("described",),
        commands=("report-costs", "replay-machine"), still=frozenset({"trace"})
    ),
    Reader(
        "events", stream_seeds, made=make_stream, ways=(WALK,), still=frozenset(FACTS),
        commands=("report-json", *(c for c in COMMANDS if not c.startswith("info"))),
    ),
    Reader("workload", surfaces.workload_seeds, text=False, made=surfaces.make_workload,
           ways=("kept",), commands=()),
    Reader("loop", surfaces.loop_seeds, text=False, ways=("loop",), commands=(),
           still=frozenset({"whole"})),
    Reader("options", surfaces.option_seeds, made=surfaces.make_options, ways=(WORDS, "options"),
           commands=(), still=frozenset({"trace"})),
)  # fmt: skip
"""Every reader, in the order in which they take their turns."""
