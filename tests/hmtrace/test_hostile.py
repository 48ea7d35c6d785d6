"""Whatever a capture holds, a terminal gets printable text and colours, a JSON reader ASCII.

Task names, symbols, file names and the machine's files come from somebody else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.case import WAYS, Case
from tests.fuzz.trial import command, unprintable
from tests.writers import ftracetext, tracedat
from tests.writers.ftracetext import Event
from tests.writers.tracedat import BufferSpec, FileSpec, Item

if TYPE_CHECKING:
    import pytest

PIECES = (
    "\x1b[2J", "\x1b[31m", "\x1b]0;owned\x07", "\x1bP", "\x9b31m", "\x90", "\u202e", "\u2066",
    "\u200b", "\u2028", "\r", "\b", "\x7f", "\v", "\f", "[red]", "[/]", "[bold]x[/bold]",
    "[link=file:///etc]", ":boom:", "\\", "%s", "{0}", "\ufeff", "\U000e0041", "e\u0301", "漢",
    "\ud800", "-1 [000] 1.0: ", " ", "=",
)  # fmt: skip
"""Escape sequences of 7 and 8 bits, direction overrides, invisible characters, rich's markup."""

names = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(min_size=1, max_size=5)), min_size=1, max_size=4
).map("".join)
lines = names.map(lambda text: text.replace("\n", " ").replace("\0", " ") or "x")
file_names = lines.map(lambda text: text.replace("/", "_").encode("utf-8", "replace")[:200]).map(
    lambda raw: raw.decode("utf-8", "ignore").strip(". ") or "x"
)

WITHOUT_TOML = {way: words for way, words in WAYS.items() if "toml" not in "".join(words)}
READS = [way for way, words in WITHOUT_TOML.items() if words[0] != "layout"]
READS_OF_FOLDERS = [way for way in READS if way != "stdin"]


def raw(text: str) -> bytes:
    """Bytes of a name: what is no UTF-8 stays as it is."""
    return text.encode("utf-8", "surrogatepass")


def capture(comm: str, symbol: str, fact: str) -> dict[str, bytes]:
    """A text capture and machine files with these names everywhere."""
    page, vaddr = 0xF6000000, 0xFF000000
    bodies = (
        f"p: (kmap_high+0x0/0x260) page={page:#x}",
        f"r: ({symbol}+0x4/0x90 <- kmap_high) vaddr={vaddr:#x}",
        f"{symbol}: (kunmap_high+0x0/0x90) page={page:#x}",
        f"l: (__kmap_local_page_prot+0x0/0x60) page={page:#x}",
        f"m: ({symbol} <- __kmap_local_page_prot) vaddr=0xfffbb000",
        f"{symbol}: pages:1 reason:{fact}",
        f"sched_switch: prev_comm={comm} prev_pid=7 prev_prio=120 prev_state=D ==> "
        f"next_comm={comm} next_pid=8 next_prio=120",
        f"alloc: (alloc_vmap_area+0x0/0x90) size=0x2000 align=0x1000 start={fact} end=0",
        f"{symbol} <-{symbol}",
    )
    events = [
        Event(comm, 7 + n % 2, n % 2, 10**9 + 1000 * n, bodies[n % len(bodies)]) for n in range(36)
    ]
    text = ftracetext.header(5, entries=36) + ftracetext.tracefs(events)
    return {
        "trace": raw(text),
        "version": raw(f"Linux version 6.1.0-{fact} (gcc {fact}) #1 SMP {fact}\n"),
        "cmdline": raw(f"root={fact} vmalloc={fact} highmem=64M\n"),
        "cpuinfo": raw(f"processor\t: 0\nvendor_id\t: {fact}\nmodel name\t: {fact}\n"),
        "dmesg": raw(f"[    0.0] DMI: {fact}\n[    0.0] Machine model: {fact}\n"),
        "config": raw(f'CONFIG_X86_32=y\nCONFIG_HIGHMEM64G=y\nCONFIG_LOCALVERSION="{fact}"\n'),
        "trace_clock": raw(f"local [{fact}]\n"),
        "kprobe_events": raw(f"p:{symbol}/{symbol} kmap_high page=%ax:x32\n"),
        "kallsyms": raw(f"c1000000 T {symbol}\nc126f820 T kmap_high\t[{symbol}]\n"),
        "stats": raw(f"CPU 0\nentries: 5\noverrun: {fact}\n"),
        "state.json": raw('{"free": "' + fact.replace('"', "") + '"}'),
    }


@settings(max_examples=30)
@given(lines, lines, lines, st.sampled_from(READS_OF_FOLDERS))
def test_names_of_a_text_capture(comm: str, symbol: str, fact: str, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = Case("hostile", capture(comm, symbol, fact), "", way)
        assert command(case, case.lay_out(Path(folder)))[0] == ""


@settings(max_examples=20)
@given(lines, lines, st.sampled_from(["info", "info-json", "report", "validate"]))
def test_names_in_a_trace_dat(comm: str, name: str, way: str) -> None:
    kmap = tracedat.kernel_events(4)["mapper"]
    items = [Item("event", n, kmap.payload("little", 7, [0xC126F820, 2])) for n in range(3)]
    spec = FileSpec(
        [BufferSpec({0: items}, clock=clean(name)), BufferSpec({1: items}, clean(name))],
        [kmap, tracedat.EventSpec(clean(name), clean(name), 99, ())],
        kallsyms=f"c126f820 T kmap_high\n{clean(name)}\n",
        comms={7: clean(comm)},
        options=[(5, clean(name).encode()), (2, clean(name).encode()), (1, clean(name).encode())],
    )
    with tempfile.TemporaryDirectory() as folder:
        case = Case("hostile", {"input": tracedat.write(spec)}, "input", way)
        assert command(case, case.lay_out(Path(folder)))[0] == ""


def clean(text: str) -> str:
    """What the writer can encode."""
    return text.encode("utf-8", "replace").decode()


@settings(max_examples=12)
@given(file_names, st.sampled_from(READS), st.sampled_from([b"", None]))
def test_names_of_files(name: str, way: str, trace: bytes | None) -> None:
    files = {f"{name}/{n}": content for n, content in capture("bash", "f", "x").items()}
    if trace is not None:
        files[f"{name}/trace"] = trace
    with tempfile.TemporaryDirectory() as folder:
        case = Case("hostile", files, f"{name}/trace", way)
        assert command(case, case.lay_out(Path(folder)))[0] == ""


@settings(max_examples=25)
@given(names, names, st.sampled_from(["arch", "split", "release", "config", "ram", "costs"]))
def test_machine_descriptions(key: str, value: str, known: str) -> None:
    def quoted(text: str) -> str:
        plain = clean(text).replace("\\", "\\\\").replace('"', '\\"')
        return (
            '"'
            + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in plain)
            + '"'
        )

    text = f'arch = "i386"\n{known} = {quoted(value)}\n{quoted(key)} = {quoted(value)}\n'
    with tempfile.TemporaryDirectory() as folder:
        for content in (text, f"{known} = {quoted(value)}\n", clean(value)):
            case = Case("hostile", {"m.toml": content.encode()}, "m.toml", "layout")
            assert command(case, case.lay_out(Path(folder)))[0] == ""


def test_the_name_of_the_output_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmtrace.__main__ import run

    for name in ("\x1b[2J.json", "[red]x", "\u202e"):
        target = tmp_path / name
        for expected in (0, 2):  # the second finds that it exists
            monkeypatch.setattr("sys.argv", ["hmtrace", "layout", "-o", str(target)])
            assert run() == expected
            told = capsys.readouterr()
            assert unprintable(told.out + told.err) == ""


@given(st.text(max_size=200))
def test_what_unprintable_finds(text: str) -> None:
    found = unprintable(text)
    assert (found == "") == all(c.isprintable() or c == "\n" for c in text)
    assert unprintable("\x1b[1;31mred\x1b[0m", colours=True) == ""
    assert unprintable("\x1b[1;31mred\x1b[0m") != ""
    assert unprintable("\x1b[2J", colours=True) != ""
