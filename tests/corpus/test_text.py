"""Damaged text traces: numbers beyond every type, time that runs backwards, lines without end."""

from __future__ import annotations

import pytest

from tests.corpus.damage import check
from tests.fuzz.readers import report_seeds, script_seeds, written_text
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

PAGE, SLOT = 0xF6000000, 0xFF000000
KMAP = f"p: (kmap_high+0x0/0x260) page={PAGE:#x}"
BACK = f"r: (f+0x4/0x90 <- kmap_high) vaddr={SLOT:#x}"
LINE = "            bash-7       [000] .....     1.000000: " + KMAP
WAYS = ("open", "report", "validate-json")
FORMS = {
    "ftrace": written_text()[4],
    "latency": written_text()[5],
    "report": report_seeds()[0].files["input"],
    "perf-script": script_seeds()[0].files["input"],
}
NUMBERS = (
    "0", "-1", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "9" * 40, "0x" + "f" * 16, "0x" + "f" * 17,
    "1e9", "nan", "",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_cut_anywhere(form: str) -> None:
    data = FORMS[form]
    for size in range(len(data) - 100, len(data)):
        check(data[:size])


@pytest.mark.parametrize("form", FORMS)
def test_one_byte_missing_or_more(form: str) -> None:
    data = FORMS[form]
    start = data.index(b"\n", len(data) // 2)
    for at in range(start, start + 90, 2):
        check(data[:at] + data[at + 1 :])
        check(data[:at] + b"\0" + data[at:])


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_a_line(number: str) -> None:
    good = "\n".join([LINE] * 3)
    lines = [
        LINE.replace("bash-7 ", f"bash-{number} "),
        LINE.replace("[000]", f"[{number}]"),
        LINE.replace("1.000000", f"{number}.000000"),
        LINE.replace("1.000000", f"1.{number}"),
        LINE.replace(f"{PAGE:#x}", number),
        LINE.replace("+0x0/", f"+{number}/"),
        f"CPU:{number} [LOST {number} EVENTS]",
        f"##### CPU {number} buffer started ####",
        f"# entries-in-buffer/entries-written: {number}/{number}   #P:{number}",
        LINE.replace(KMAP, f"sched_switch: prev_comm=a prev_pid={number} prev_prio=120 "
                     f"prev_state=D ==> next_comm=b next_pid={number} next_prio=1"),
        LINE.replace(KMAP, f"alloc: (alloc_vmap_area+0x0/0x9) size={number} align={number} "
                     f"start={number} end={number}"),
        LINE.replace(KMAP, f"f: (flush_tlb_kernel_range+0x0/0x9) start={number} end={number}"),
    ]  # fmt: skip
    for line in lines:
        check(f"{line}\n{good}\n".encode())
        check(f"{good}\n{line}\n{good}\n".encode())
    together = "\n".join([good, *lines, good]) + "\n"
    for way in ("report", "validate-json"):
        check(together.encode(), way=way)


@pytest.mark.parametrize(
    "times",
    [
        [5, 4, 3, 2, 1],
        [0, (1 << 63) - 1, 0, (1 << 63) - 1],
        [(1 << 63) - 1] * 4,
        [10**18 * 9, 1, 10**18 * 9],
    ],
)
@pytest.mark.parametrize("clock", ["us", "ns", "counter"])
def test_time_that_jumps(times: list[int], clock: str) -> None:
    events = [Event("bash", 7, n % 2, ts, (KMAP, BACK)[n % 2]) for n, ts in enumerate(times * 3)]
    data = (ftracetext.header(5) + ftracetext.tracefs(events, clock=clock)).encode()
    for way in WAYS:
        check(data, way=way)


@pytest.mark.parametrize("cpu", [255, 4096, 65535, 65536, 1 << 31, 1 << 64])
def test_cpu_numbers_beyond_any_machine(cpu: int) -> None:
    events = [Event("bash", 7, c, 10**9 + c, KMAP) for c in (0, cpu)]
    data = ftracetext.tracefs(events).encode()
    for way in WAYS:
        check(data, way=way)


@pytest.mark.parametrize(
    "piece",
    ["x" * (1 << 20), "=" * 70000, " " * (1 << 20), "a=1 " * 50000, "(" * 70000, "\t" * 70000],
)
def test_lines_without_end(piece: str) -> None:
    for line in (piece, LINE + " " + piece, piece + LINE, LINE.replace("bash", piece)):
        check(f"{LINE}\n{line}\n{LINE}\n".encode())
    check((LINE.replace("page", piece[:70000]) + "\n" + LINE).encode())


def test_thousands_of_names_of_everything() -> None:
    lines = [
        LINE.replace("bash-7", f"t{n}-{n}")
        .replace("[000]", f"[{n % 300:03d}]")
        .replace("p:", f"p{n}:")
        for n in range(2500)
    ]
    lines += [LINE.replace(KMAP, f"f{n} <-g{n}") for n in range(2500)]
    lines += [LINE.replace(KMAP, f"p: (kmap_high+0x0/0x9) a{n}={n}") for n in range(2500)]
    for way in ("open", "info"):
        check("\n".join(lines).encode(), way=way)


@pytest.mark.parametrize(
    "lines",
    [
        ["#"] * 100_000,
        ["# tracer: nop"] * 5000,
        ["CPU:0 [LOST 1 EVENTS]"] * 20_000,
        ["CPU:0 [LOST 18446744073709551615 EVENTS]"] * 5000,
        ["##### CPU 0 buffer started ####"] * 20_000,
        [" => f"] * 50_000,
        [LINE.replace(KMAP, "<stack trace>")] * 5000,
        ["cpus=2"] * 5000,
        ["\tc1000000 f ([k])"] * 50_000,
    ],
    ids=lambda lines: lines[0][:20],
)
def test_the_same_line_without_end(lines: list[str]) -> None:
    check("\n".join(lines).encode())
    check("\n".join([LINE, *lines, LINE]).encode(), way="info-json")


def test_deeply_nested_calls_that_never_return() -> None:
    local = LINE.replace(KMAP, "l: (__kmap_local_page_prot+0x0/0x60) page=0xf6000000")
    back = LINE.replace(KMAP, "r: (f+0x1/0x9 <- __kmap_local_page_prot) vaddr=0xfffbb000")
    for way in WAYS:
        check("\n".join([local] * 3000 + [back] * 3000).encode(), way=way)
