"""Builders of damaged inputs, and the one check that all of them have to pass."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.case import OPEN, Case, Verdict
from tests.fuzz.trial import run
from tests.writers import perfdata, tracedat
from tests.writers.perfdata import AttrSpec, SampleSpec, SideSpec
from tests.writers.tracedat import BufferSpec, Item

if TYPE_CHECKING:
    from collections.abc import Iterator

TOO_LONG: Final = 60.0  # the first may have to compile loops; the fuzzer knows no more than 10
KMAP: Final = 0xC126F820


def check(content: bytes | dict[str, bytes], *, way: str = OPEN, opened: str = "input") -> Verdict:
    """Read an input; fail the test if anything happens that must not.

    Parameters
    ----------
    content
        Bytes of the file ``input``, or files by name.
    way
        How it is taken (:mod:`tests.fuzz.case`).
    opened
        The file that is opened; "" the folder.

    Returns
    -------
    Verdict
        `ended` is ``read``, or the error in words.
    """
    files = {"input": content} if isinstance(content, bytes) else content
    folder = Path(_folder().name)
    try:
        verdict = run(Case("corpus", files, opened, way), folder)
    finally:
        for path in (folder / "input").iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)
    assert not verdict.trouble, f"{verdict.trouble}\n{verdict.ended}"
    assert verdict.seconds < TOO_LONG
    return verdict


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Folder of all inputs of this process, one after the other."""
    return tempfile.TemporaryDirectory(prefix="hmtrace-corpus-")


def refused(content: bytes | dict[str, bytes], *, opened: str = "input") -> str:
    """As :func:`check` of what cannot be read; give the words."""
    ended = check(content, opened=opened).ended
    assert ended.startswith("HmtraceError"), ended
    return ended


class Numbers:
    """Where a writer writes its numbers, and one of them replaced."""

    def __init__(self, lie_at: int = -1, lie: int = 0) -> None:
        self.lie_at = lie_at
        self.lie = lie
        self.widths: list[int] = []

    def pass_on(self, size: int, value: int) -> int:
        """The number, or the lie in its place."""
        self.widths.append(size)
        if len(self.widths) - 1 == self.lie_at:
            return self.lie & ((1 << 8 * size) - 1)
        return value


class DatWriter(tracedat._Writer):
    """A writer of trace.dat that tells where its numbers stand."""

    def __init__(self, spec: tracedat.FileSpec, numbers: Numbers) -> None:
        super().__init__(spec)
        self.numbers = numbers

    def n(self, size: int, value: int) -> bytes:
        return super().n(size, self.numbers.pass_on(size, value))

    def bytes(self) -> bytes:
        """The whole file."""
        return self.v6() if self.spec.version == 6 else self.v7()


class PerfWriter(perfdata._Writer):
    """The same for perf.data."""

    def __init__(self, spec: perfdata.FileSpec, numbers: Numbers) -> None:
        super().__init__(spec)
        self.numbers = numbers

    def n(self, size: int, value: int) -> bytes:
        return super().n(size, self.numbers.pass_on(size, value))

    def bytes(self) -> bytes:
        """The whole file."""
        return self.pipe() if self.spec.form == perfdata.PIPE else self.file()


def dat_spec(version: int, compression: str) -> tracedat.FileSpec:
    """A trace.dat with one of each: event, loss, instance, option, symbol, task name."""
    events = {
        name: event
        for name, event in tracedat.kernel_events(4).items()
        if name in ("mapper", "with_text")
    }

    def items(start: int) -> list[Item]:
        mapped = events["mapper"].payload("little", 7, [KMAP, 0xF6000000])
        text = events["with_text"].payload("little", 7, [KMAP, b"x\0", -5, b"123456"])
        return [
            Item("event", start, mapped),
            Item("lost", count=4),
            Item("event", start + 10**9, text),
        ]

    return tracedat.FileSpec(
        [BufferSpec({0: items(100), 2: items(50)}), BufferSpec({1: items(10)}, "inner", "mono")],
        list(events.values()),
        version=version,
        compression=compression,
        page_size=512,
        kallsyms=f"{KMAP:x} T kmap_high\n",
        comms={7: "bash"},
        options=[(2, b"CPU: 0\noverrun: 3\n"), (7, b"5\0"), (14, b"\1\0\0\0\1\0\0\0" + bytes(8))],
    )


def perf_spec(form: str = perfdata.FILE, compress: int = 0) -> perfdata.FileSpec:
    """A perf.data with samples of two tasks, a name, a fork, a loss, a switch."""
    events = perfdata.probe_events(4)
    kmap, switch = events["kmap_high"], events["sched_switch"]
    attrs = [AttrSpec(kmap, ids=(10, 11)), AttrSpec(switch, ids=(12,))]
    mapped = kmap.payload("little", 7, [KMAP, 0xF6000000])
    switched = switch.payload("little", 7, [b"a", 7, 120, 2, b"b", 8, 120])
    return perfdata.FileSpec(
        attrs,
        [
            SideSpec("comm", 5, 0, 7, "bash"),
            SampleSpec(100, 0, 7, mapped),
            SideSpec("lost", 150, 0, 7, count=4),
            SideSpec("round"),
            SideSpec("fork", 160, 1, 8, parent=7),
            SampleSpec(200, 1, 8, mapped, id=11),
            SampleSpec(300, 1, 7, switched, attr=1),
        ],
        form=form,
        compress=compress,
        kallsyms=f"{KMAP:x} T kmap_high\n",
        comms={7: "bash"},
    )


def lies(size: int) -> tuple[int, ...]:
    """Numbers that a damaged or forged field may hold; `size` is that of the file."""
    return (0, 1, 1 << 31, 1 << 63, (1 << 64) - 1, size - 1, size, size + 1)


def cuts(data: bytes, step: int) -> Iterator[bytes]:
    """Beginnings of a file: every `step` bytes, and every byte at its start and end."""
    places = {*range(min(len(data), 40)), *range(max(len(data) - 40, 0), len(data))}
    for size in sorted({*places, *range(0, len(data), step)}):
        yield data[:size]
