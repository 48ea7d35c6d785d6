"""Text of perf script: every form of its lines, and what is said about the others."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import HmtraceError, open_capture, perf_data
from collectors.input.source import Source
from collectors.probes import FUNCTION_OF, KIND_LOST, KIND_STACK, KIND_SWITCH
from collectors.text import perf_script
from collectors.text.layout import Stat
from collectors.text.perf_script.capture import read_raw

FIXTURES = Path(__file__).parents[2] / "fixtures"
FIXTURE = FIXTURES / "i386-minix-pae-smp2-perf"
PERF = shutil.which("perf")
KMAP = 2 * FUNCTION_OF["kmap_high"]
SECOND = 1_000_000_000

ENTRY = "hm:kmap_high: (c126f820) page=0xf6000000"
BACK = "hm:kmap_high_ret: (c126f820 <- f7929c10) vaddr=0xff000000"
SWITCH = (
    "sched:sched_switch: prev_comm=a b prev_pid=100 prev_prio=120 prev_state=D ==> "
    "next_comm=x ==> y next_pid=7 next_prio=0"
)


def reading(text: str, folder: Path | None = None) -> Any:
    return perf_script.read(Source.from_bytes(text.encode(), "perf-script.txt", folder))


def rows(got: Any) -> list[tuple[Any, ...]]:
    raw = got.raw
    return [
        (int(r["ts"]), int(r["cpu"]), int(r["pid"]), raw.comms[r["comm"]], int(r["kind"]),
         int(r["values"][0]), int(r["caller"]))
        for r in raw.rows
    ]  # fmt: skip


def lines(left: str) -> str:
    """An entry, a return and a switch, each behind the same left half."""
    return "".join(f"{left} {event}\n" for event in (ENTRY, BACK, SWITCH))


NS = 1_000_123_456_789
US = NS // 1000 * 1000
FORMS = {
    "default": ("            bash   100 [000]  1000.123456:         ", US, 0, 100, "bash"),
    "ns": ("            bash   100 [000]  1000.123456789:", NS, 0, 100, "bash"),
    "pid-tid": ("            bash    99/100   [003]  1000.123456: ", US, 3, 100, "bash"),
    "period": ("            bash   100 [003]  1000.123456:          1 ", US, 3, 100, "bash"),
    "no-cpu": ("            bash   100  1000.123456: ", US, 0, 100, "bash"),
    "misc": ("            bash   100 [000] K        1000.123456: ", US, 0, 100, "bash"),
    "misc-no-cpu": ("            bash   100 Sp   1000.123456: ", US, 0, 100, "bash"),
    "spaces": ("   Web Content 1   100 [002]  1000.123456: ", US, 2, 100, "Web Content 1"),
    "numbers": ("           1 2 3   100 [002]  1000.123456: ", US, 2, 100, "1 2 3"),
    "brackets": ("      [001] 1.5:   100 [002]  1000.123456: ", US, 2, 100, "[001] 1.5:"),
    "time-in-comm": ("   1 2.000000: x   100 [002]  1000.123456: ", US, 2, 100, "1 2.000000: x"),
    "chains": ("bash   100 [000]  1000.123456: ", US, 0, 100, "bash"),
    "long-pid": ("            bash 4194303 [127]  1000.123456: ", US, 127, 4194303, "bash"),
    "kworker": (" kworker/u4:1-ev   100 [000]  1000.123456: ", US, 0, 100, "kworker/u4:1-ev"),
    "early": ("            bash   100 [000]     0.000007: ", 7000, 0, 100, "bash"),
    # 20.618527642 s of a 32-bit perf: what is left after 20e9 modulo 2**32
    "ns-32-bit": ("     bash   100 [000]    20.17798396826: ", 20_618_527_642, 0, 100, "bash"),
    "dead": ("             :-1    -1 [000]  1000.123456: ", US, 0, -1, ":-1"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_left_half(form: str) -> None:
    left, ts, cpu, pid, comm = FORMS[form]
    got = reading(lines(left))
    assert rows(got) == [
        (ts, cpu, pid, comm, KMAP, 0xF6000000, 0),
        (ts, cpu, pid, comm, KMAP + 1, 0xFF000000, 0xF7929C10),
        (ts, cpu, 100, comm, KIND_SWITCH, 100, 0),
    ]
    assert got.raw.rows["values"][2].tolist() == [100, 1, 7, 0]
    assert set(got.raw.rows["ctx"]) == {128}
    assert got.raw.counts == {"kmap_high": 1, "kmap_high (return)": 1, "sched_switch": 1}
    assert (got.format, got.clock_is_ns, got.span_ns) == ("perf-script", True, 0)
    assert not [n for n in got.notes if "could not be read" in n]


def test_columns_left_out() -> None:
    forms = (
        ("  1000.123456: ", "t"),
        ("bash [002]  1000.123456: ", "ct"),
        ("  100 [002]  1000.123456: ", "pct"),
        ("[002]  1000.123456: ", "ct"),
    )
    for left, has in forms:
        got = reading(lines(left))
        assert [r[4] for r in rows(got)] == [KMAP, KMAP + 1, KIND_SWITCH], left
        assert {r[0] for r in rows(got)} == {US}
        assert {r[1] for r in rows(got)} == {2 if "c" in has else 0}, left
        assert rows(got)[0][2] == (100 if "p" in has else 0)
        assert any("no task column" in n for n in got.notes) == ("p" not in has)
        assert any("no CPU column" in n for n in got.notes) == ("c" not in has)


def test_without_time_the_order_is_kept() -> None:
    got = reading(lines("            bash   100 [001]  ") * 3)
    assert not got.clock_is_ns
    assert got.span_ns == 0
    assert [r[4] for r in rows(got)] == [KMAP, KMAP + 1, KIND_SWITCH] * 3
    assert (np.diff(got.raw.rows["ts"]) > 0).all()
    assert any("no time column" in n for n in got.notes)


def test_call_chains_headers_and_side_records() -> None:
    text = (
        "# ========\n# captured on    : Sun Nov 22 16:10:37 2026\n# nrcpus online : 2\n"
        "# os release : 6.1.0-50-686-pae\n#\n"
        "bash   100 [000]     1.000001: PERF_RECORD_COMM exec: bash:100/100\n"
        f"bash   100 [000]     1.000002:  {ENTRY}\n"
        "\t        c126f821 kmap_high+0x1 ([kernel.kallsyms])\n"
        "\t        f7929c10 dir_get_page+0x5a1: ([minix])\n\n"
        "bash   100 [001]     1.000003: PERF_RECORD_LOST lost 12\n"
        "PERF_RECORD_FINISHED_ROUND\n"
        f"bash   100 [001]     1.000004:  {BACK}\n\n"
        "bash   100 [001]     1.000005: PERF_RECORD_MMAP2 1/1: [0xb7eea000(0x2000)]: r-xp x y\n"
        "bash   100 [001]     0.000000: PERF_RECORD_LOST_SAMPLES lost 3\n"
    )
    source = Source.from_bytes(text.encode(), "t")
    _, _, stats, _ = read_raw(source)
    assert (stats[Stat.LINES], stats[Stat.EVENTS], stats[Stat.UNREAD]) == (16, 2, 0)
    assert stats[Stat.STACK] == 2
    got = perf_script.read(source)
    assert (got.release, got.cpus) == ("6.1.0-50-686-pae", 2)
    assert [r[4] for r in rows(got)] == [KMAP, KIND_STACK, KIND_LOST, KMAP + 1, KIND_LOST]
    assert got.raw.stacks == ["", "kmap_high+0x1<-dir_get_page+0x5a1: [minix]"]
    first, second = got.lost.intervals
    assert (first.cpu, first.count, first.after_seq) == (1, 12, 2)
    assert (second.cpu, second.count, second.after_seq) == (1, 3, 4)


CHAIN = "\tc126f821 kmap_high+0x1 ([kernel.kallsyms])\n"


@pytest.mark.parametrize(
    "between",
    [
        "?\n",
        "\n",
        "# x\n",
        "PERF_RECORD_FINISHED_ROUND\n",
        "a 1 [001] 1.1: PERF_RECORD_LOST lost 2\n",
    ],
)
def test_a_call_chain_stands_under_its_event(between: str) -> None:
    sample = f"bash   100 [000]     1.000002:  {ENTRY}\n"
    assert KIND_STACK in [r[4] for r in rows(reading(sample + CHAIN))]
    assert KIND_STACK not in [r[4] for r in rows(reading(sample + between + CHAIN))]


@pytest.mark.parametrize("room", range(2, 7))
def test_no_call_chain_is_lost_at_the_end_of_a_block(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.text.scanning._OVERFLOW", room)
    sample = f"bash   100 [000]     1.000002:  {ENTRY}\n"
    got = reading(sample + (sample + CHAIN + "\n") * 9)
    assert [r[4] for r in rows(got)] == [KMAP, *[KMAP, KIND_STACK] * 9]


def test_other_events_are_counted_by_their_names() -> None:
    left = "            bash   100 [000]  1000.123456: "
    text = lines(left) + (
        f"{left}    250000 cycles:u:  ffffffff8104 native_write_msr+0x4 ([kernel])\n"
        f"{left} hm:kmap_high:k: (c126f820) page=0xf6000028\n"
        f"{left} vmalloc:alloc_vmap_area: va_start: 4039180288 size=4096\n"
        f"{left} sched:sched_wakeup: comm=a pid=1 prio=120 target_cpu=000\n"
        f"{left} cpu/event=0x3c/: 1\n"
    )
    got = reading(text)
    assert got.raw.counts == {
        "alloc_vmap_area (tracepoint)": 1,
        "cpu/event=0x3c/": 1,
        "cycles:u": 1,
        "kmap_high": 2,
        "kmap_high (return)": 1,
        "sched_switch": 1,
        "sched_wakeup": 1,
    }


def test_symbols_behind_the_payload() -> None:
    left = "            bash   100 [000]  1000.123456: "
    text = "".join(f"{line}         c126ec11 [unknown]\n" for line in lines(left).splitlines())
    got = reading(text)
    assert [r[5] for r in rows(got)] == [0xF6000000, 0xFF000000, 100]
    assert got.raw.rows["values"][2].tolist() == [100, 1, 7, 0]


def test_kallsyms_beside_the_text_decides(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text("c126f820 t kunmap_high\n")
    got = reading(lines(FORMS["default"][0]), tmp_path)
    assert "kunmap_high" in got.raw.counts


def test_unsorted_output_is_sorted() -> None:
    left = "            bash   100 [000]     {}.000000: "
    text = "".join(f"{left.format(s)} {ENTRY}\n" for s in (5, 3, 4, 3))
    assert [r[0] // SECOND for r in rows(reading(text))] == [3, 3, 4, 5]


def test_pieces_and_threads_change_nothing() -> None:
    text = gzip.decompress((FIXTURE / "perf-script.txt.gz").read_bytes())
    source = Source.from_bytes(text, "t", FIXTURE)
    whole = read_raw(source, threads=1, chunk=1 << 30)[0]
    parts = read_raw(source, threads=3, chunk=100_000)[0]
    assert np.array_equal(whole.rows, parts.rows)
    assert (whole.comms, whole.sites, whole.counts) == (parts.comms, parts.sites, parts.counts)


VARIANTS = (
    ("comm,tid,time,event,trace", {"cpu"}),
    ("comm,pid,tid,cpu,time,period,event,trace", set()),
    ("time,event,trace", {"cpu", "comm", "pid"}),
    ("comm,tid,cpu,event,trace", {"ts"}),
    ("tid,time,event,trace", {"cpu", "comm"}),
    ("comm,cpu,time,event,trace", {"pid"}),
    ("comm,time,event,trace", {"cpu", "pid"}),
    ("cpu,time,event,trace", {"comm", "pid"}),
    ("comm,tid,cpu,time,event,ip,sym,trace", set()),
    ("comm,tid,cpu,misc,time,event,trace,flags", set()),
)


@pytest.mark.skipif(PERF is None, reason="perf is not installed")
@pytest.mark.parametrize(("fields", "without"), VARIANTS)
def test_every_choice_of_fields(fields: str, without: set[str], tmp_path: Path) -> None:
    data = gzip.decompress((FIXTURE / "perf.data.gz").read_bytes())
    (tmp_path / "perf.data").write_bytes(data)
    command = [str(PERF), "script", "-f", "-i", str(tmp_path / "perf.data"), "-F", fields]
    text = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout
    got = perf_script.read(Source.from_bytes(text, "t", FIXTURE)).raw
    want = perf_data.read(Source.from_bytes(data, "d", FIXTURE)).raw
    assert got.counts == want.counts
    for column in ("values", "caller", "kind", "present"):
        assert np.array_equal(got.rows[column], want.rows[column]), column
    for column in {"cpu", "pid"} - without:
        assert np.array_equal(got.rows[column], want.rows[column]), column
    if "ts" not in without:
        assert np.array_equal(got.rows["ts"], want.rows["ts"] // 1000 * 1000)
    if "comm" not in without:
        names = [np.array(x.comms, object)[x.rows["comm"]] for x in (got, want)]
        assert np.array_equal(*names)


def test_other_texts_are_not_taken() -> None:
    for text in (
        b"", b"\n\n", b"cpus=2\n", b"hello world: this is a text\n" * 9,
        b"     bash-100   [000] d..1.  1000.123456: kmap_high: (kmap_high+0x0/0x60) page=0x1\n",
        b"            bash-100   [000]  1000.123456: kmap_high:  (c126f820) page=0x1\n",
        b"            bash-100  1000.123456: kmap_high:  (c126f820) page=0x1\n",
        b"kmap_high: (kmap_high+0x0/0x60) page=0x1\n", b"\0" * 100,
    ):  # fmt: skip
        assert not perf_script.sniff(text), text
    for path in FIXTURES.glob("*/*.txt*"):
        data = path.read_bytes()
        head = gzip.decompress(data)[: 1 << 16] if path.suffix == ".gz" else data[: 1 << 16]
        assert perf_script.sniff(head) == path.name.startswith("perf-script"), path


def test_a_long_header() -> None:
    header = "# ========\n# perf version : 6.1.176\n" + "# event : name = hm:x, type = 2\n" * 9000
    text = header + lines(FORMS["default"][0])
    assert perf_script.sniff(text.encode()[: 1 << 16])
    assert len(reading(text).raw.rows) == 3


def test_found_by_content(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_text(lines(FORMS["default"][0]))
    assert open_capture(path).origin.format == "perf-script"
    folder = tmp_path / "capture"
    folder.mkdir()
    (folder / "perf-script.txt").write_text(lines(FORMS["default"][0]))
    assert open_capture(folder).origin.format == "perf-script"


def test_without_payloads() -> None:
    text = "            bash   100 [000]  1000.123456: hm:kmap_high: \n" * 3
    assert reading(text).raw.counts == {"kmap_high (tracepoint)": 3}


def test_only_side_records() -> None:
    text = "            bash   100 [000]  1000.123456: PERF_RECORD_COMM: bash:1/1\n"
    with pytest.raises(HmtraceError, match="no line is a sample"):
        reading(text)


NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126) | st.just(" "), min_size=1, max_size=15
).filter(lambda s: s == s.strip() and bool(s))


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            NAMES,
            st.integers(0, 4194303),
            st.integers(0, 4095),
            st.integers(0, 10**17),
            st.integers(0, (1 << 32) - 1),
        ),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_written_and_read(
    events: list[tuple[str, int, int, int, int]],
    nanoseconds: bool,  # noqa: FBT001
) -> None:
    events = sorted(events, key=lambda e: e[3])
    text = ""
    for comm, pid, cpu, ts, page in events:
        fraction = f"{ts % SECOND:09d}" if nanoseconds else f"{ts % SECOND // 1000:06d}"
        text += f"{comm:>16} {pid:5d} [{cpu:03d}] {ts // SECOND:5d}.{fraction}: "
        text += f"{'hm:kmap_high':>22}: (c126f820) page={page:#x}\n"
    unit = 1 if nanoseconds else 1000
    want = sorted(
        ((t // unit * unit, c, p, n, KMAP, v, 0) for n, p, c, t, v in events), key=lambda e: e[0]
    )
    assert rows(reading(text)) == want


@settings(max_examples=150)
@given(st.binary(max_size=300), st.integers(0, 4000))
def test_damage_is_counted_and_never_breaks(damage: bytes, at: int) -> None:
    text = (lines(FORMS["default"][0]) * 12).encode()
    at = min(at, len(text))
    data = text[:at] + damage + text[at:]
    try:
        raw, _, stats, _ = read_raw(Source.from_bytes(data, "t"))
    except HmtraceError:
        return
    assert stats[Stat.LINES] == data.count(b"\n") + (not data.endswith(b"\n"))
    total = stats[Stat.EVENTS] + stats[Stat.UNREAD] + stats[Stat.CONTROL] + stats[Stat.STACK]
    assert total == stats[Stat.LINES]
    assert len(raw.rows) <= stats[Stat.LINES]
