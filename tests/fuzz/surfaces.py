"""Inputs of readers that are none of traces: caches and command lines."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.case import Case
from tests.fuzz.direct import KEY, LOOP
from tests.fuzz.mutate import mutate
from tests.writers import ftracetext

if TYPE_CHECKING:
    import random

_TRACE: Final = ftracetext.tracefs(
    [
        ftracetext.Event("bash", 7, n % 2, 10**9 + 1000 * n, body)
        for n in range(8)
        for body in (
            f"p: (kmap_high+0x0/0x260) page={0xF6000000 + 40 * n:#x}",
            f"r: (f+0x4/0x90 <- kmap_high) vaddr={0xFF000000 + 4096 * n:#x}",
        )
    ]
).encode()


# Caches -----------------------------------------------------------------------------------


@functools.cache
def _workload() -> dict[str, bytes]:
    """A workload as `replay` keeps it."""
    from collectors import open_capture
    from hmtrace.cli.captures import digest
    from hmtrace.cli.workloads import Place
    from replay.machine.from_facts import machine_from
    from replay.whatif.workload import distil

    with tempfile.TemporaryDirectory() as name:
        trace = Path(name) / "trace"
        trace.write_bytes(_TRACE)
        home = Path(name) / "home"
        home.mkdir()
        capture = open_capture(trace)
        values = capture.facts.snapshot()
        machine = machine_from(values)[0]
        place = Place(home, KEY)
        with place.room() as room:
            assert room is not None
            made = distil(capture.events, machine, values=values, lost=capture.lost, folder=room)
            place.keep(room, capture, digest(capture.origin), machine, made)
        return {
            str(path.relative_to(home)): path.read_bytes()
            for path in sorted(home.rglob("*"))
            if path.is_file()
        }


def workload_seeds() -> list[Case]:
    """The workload of a small trace, which is gone."""
    return [Case("workload", dict(_workload()), "", "kept")]


def make_workload(rng: random.Random) -> Case:
    """One with digests that fit what was changed, so that what is behind them is read."""
    files = dict(_workload())
    name = rng.choice(list(files))
    folder = name.rpartition("/")[0]
    document = f"{folder}/{'workload' if folder == KEY else 'turns'}.json"
    told, _, text = files[document].partition(b"\n")
    if name == document:
        text = mutate(rng, text, (), text=True)
    else:
        files[name] = mutate(rng, files[name], (), text=False)
        if rng.random() < 0.8:
            parsed = json.loads(text)
            key = next(n for n in parsed["digests"] if Path(name).name.startswith(n))
            parsed["digests"][key] = zlib.crc32(files[name])
            text = json.dumps(parsed).encode()
    if rng.random() < 0.9:
        told = hashlib.blake2b(text).hexdigest().encode()
    files[document] = told + b"\n" + text
    return Case("workload", files, "", "kept")


def loop_seeds() -> list[Case]:
    """A compiled loop as it is kept."""
    from collectors.compiled import store

    content = bytes(range(256)) * 8
    head = store.LOOPS.head + hashlib.sha256(content).digest()
    files = {f"hmtrace/{LOOP}.loop": head + content, "whole": content}
    return [Case("loop", files, "", "loop")]


# Command lines ----------------------------------------------------------------------------

_COMMANDS: Final = ("info", "report", "replay", "validate", "layout", "convert", "synth")
_QUICK: Final = ("layout", "layout", "layout", "info", "convert")
_OPTIONS: Final = (
    "--format", "-o", "--output", "--force", "--color", "--split", "--ram", "--pae", "--no-pae",
    "--pkmap", "--vmalloc", "--cpus", "--machine", "--costs", "--calibrate", "--arch",
    "--page-size", "--placement", "--timing", "--min-exact", "--help", "-h", "--version", "--list",
    "--", "-", "-x", "--highmem", "--no-highmem", "--generation", "--nr-cpus", "--kernel",
)  # fmt: skip
_VALUES: Final = (
    "json", "table", "csv", "ndjson", "parquet", "arrow", "always", "never", "auto", "2g", "3g",
    "3g_opt", "1g", "512M", "4G", "1T", "0", "1", "-1", "64", "1024", "65536", "4096", "16K",
    "i386", "arm", "mips32", "x86", "sparc32", "list", "imx6q", "class", "same-pfn", "closed",
    "fixed", "9" * 40, "1e9", "nan", "inf", "²", "\u202e", "\x1b[2J", "", " ", "a" * 300,
    "@trace", "@m.toml", "@c.toml", "@out.csv", "@none", "@", "@trace:", "@trace:x", "/dev/null",
    "6.1", "4.19", "5.10", "9g",
)  # fmt: skip


def option_seeds() -> list[Case]:
    """Command lines as users write them."""
    lines = (
        ("layout", "--arch", "arm", "--ram", "2G", "--split", "2g"),
        ("layout", "--machine", "@m.toml", "--format", "json"),
        ("info", "@trace", "--format", "json"),
        ("convert", "@trace", "-o", "@out.csv"),
        ("layout", "--machine", "list"),
        ("--help",),
    )
    return [_line(words) for words in lines]


def _line(words: tuple[str, ...]) -> Case:
    files = {
        "words": "\0".join(words).encode("utf-8", "surrogateescape"),
        "trace": _TRACE,
        "m.toml": b'arch = "i386"\nram = "2G"\n',
        "c.toml": b"invlpg = 140\n",
    }
    return Case("options", files, "", "options")


def make_options(rng: random.Random) -> Case:
    """Words of the program's own in any order; long commands rarely."""
    words = [rng.choice(_QUICK if rng.random() < 0.97 else _COMMANDS)]
    if words[0] not in ("layout", "synth") and rng.random() < 0.9:
        words.append("@trace")
    if words[0] == "synth":
        words.append("--list")
    for _ in range(rng.randrange(6)):
        words.append(rng.choice(_OPTIONS))
        if rng.random() < 0.8:
            words.append(rng.choice(_VALUES))
    return _line(tuple(words))
