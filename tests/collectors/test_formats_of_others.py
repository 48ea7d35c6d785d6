"""What other tools make of a trace: Android's recorders, perf script with few fields."""

import zlib
from pathlib import Path

import pytest

from collectors import open_capture
from collectors.errors import HmtraceError

CASES = Path(__file__).parents[2] / "fixtures" / "cases"
ATRACE = CASES / "atrace-z" / "atrace.ctrace"
LINE = b"   sh-361   [000] ...1   992.990670: kmap_high: (kmap_high+0x0/0x100) page=0xc1200000\n"


def test_the_last_line_of_a_systrace_is_no_event():
    capture = open_capture(str(CASES / "systrace-dummy-line"))
    assert capture.raw_events == {"sched_switch": 1, "kmap_high": 1, "kunmap_high": 1}
    assert capture.span_ns == 34_000
    assert any("1 of 8 lines could not be read" in note for note in capture.notes)


def test_perf_script_without_times_is_named():
    with pytest.raises(HmtraceError, match="perf script without times") as caught:
        open_capture(str(CASES / "perf-script-without-time" / "perf.txt"))
    assert "default fields" in (caught.value.hint or "")


def test_atrace_with_compression():
    capture = open_capture(str(ATRACE))
    assert capture.raw_events == {"kmap_high": 1}
    assert capture.origin.format == "ftrace-text"


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b"\0\0"])
@pytest.mark.parametrize("level", [1, 6, 9])
def test_atrace_of_any_level(tmp_path, level, tail):
    text = b"# tracer: nop\n#\n" + LINE * 40_000  # several pieces of output
    path = tmp_path / "trace.txt"
    path.write_bytes(b"TRACE:\n" + zlib.compress(text, level) + tail)
    assert open_capture(str(path)).raw_events == {"kmap_high": 40_000}
    assert open_capture(str(tmp_path)).raw_events == {"kmap_high": 40_000}


def test_atrace_that_is_damaged_or_a_bomb(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(ATRACE.read_bytes()[:60])
    with pytest.raises(HmtraceError, match="the atrace data ends early"):
        open_capture(str(path))
    path.write_bytes(ATRACE.read_bytes()[:40] + b"\xff" * 40)
    with pytest.raises(HmtraceError, match="damaged atrace data"):
        open_capture(str(path))


LOG = b"""\
[   13.998495] vmap allocation for size 430080 failed: use vmalloc=<size> to increase size
[   14.006613] kmodloader: vmalloc: allocation failure: 425984 bytes, mode:0x14000c0(GFP_KERNEL)
[   14.059866] [<c01de158>] (__vmalloc_node_range) from [<c010c0b8>] (module_alloc+0x4c/0x54)
"""


@pytest.mark.parametrize(
    ("text", "words", "others"),
    [
        (LOG, ["address space ran out", "area of their own"], []),
        (LOG[: LOG.index(b"\n") + 1], ["address space ran out"], ["area of their own"]),
        (b"[ 1795.600924@3] dump_vmalloc, va:f652f000-f6545000\n", ["beside a trace"], ["ran out"]),
        (b"vmalloc: allocation failure: 0 bytes\nBacktrace: \n", ["address space ran out"], []),
        (b"Linux version 6.1.0 (a@b) #1 SMP\n", ["beside a trace"], ["ran out"]),
    ],
    ids=["modules", "arena", "vendor", "no times", "boot"],
)
def test_a_kernels_log_is_named(tmp_path, text, words, others):
    path = tmp_path / "trace.txt"
    path.write_bytes(text)
    with pytest.raises(HmtraceError, match="a kernel's log") as caught:
        open_capture(str(path))
    hint = caught.value.hint or ""
    assert [word for word in words if word not in hint] == []
    assert [word for word in others if word in hint] == []


@pytest.mark.parametrize(
    "text",
    [
        b"MemTotal: 1024 kB\nMemFree: 5 kB\n",
        b"Host: a.example\nAccept: */*\n",
        b"a: 1\nb: x == y\n",
    ],
    ids=["meminfo", "mail", "code"],
)
def test_lines_with_a_colon_are_no_events(tmp_path, text):
    path = tmp_path / "x"
    path.write_bytes(text)
    with pytest.raises(HmtraceError, match="no line of this text is a trace event"):
        open_capture(str(path))
    path.write_bytes(text + b"kmap_high: (kmap_high+0x0/0x100) page=0xc1200000\n")
    assert open_capture(str(path)).raw_events["kmap_high"] == 1


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PK\x03\x04" + bytes(60), "this is a zip archive"),
        (b"BZh91AY&SY" + bytes(60), "this is bzip2 data"),
        (b"\xc1\x1f\xfc\xc1" + bytes(60), "this is a CTF trace, as LTTng writes it"),
        (b'{"traceEvents":[{"name":"a"}]}\n', "this is a trace in Chrome's JSON"),
    ],
)
def test_what_is_no_trace_is_called_by_its_name(head: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(head)
    with pytest.raises(HmtraceError) as caught:
        open_capture(path)
    assert caught.value.message == what
