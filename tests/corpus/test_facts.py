"""Machine files that are damaged or absurd: remarks, never an end; and a machine or words."""

from __future__ import annotations

import json
import re

import pytest

from tests.corpus.damage import check
from tests.fuzz.readers import FACTS, folder_seeds

WAYS = ("report-json", "validate-json")
NUMBERS = ("0", "1", "4294967296", "18446744073709551616", "9" * 40, "-5", "0x" + "f" * 20)


def seeds() -> list[dict[str, bytes]]:
    """Files of every machine of fixtures/; read by the test that asks, not while collecting."""
    return [case.files for case in folder_seeds()]


def first(name: str) -> dict[str, bytes]:
    """Files of the first machine that has this one."""
    return next(files for files in seeds() if name in files)


@pytest.mark.parametrize("name", FACTS)
def test_each_file_damaged(name: str) -> None:
    files = first(name)
    content = files[name]
    digits = list(re.finditer(rb"\d+", content))
    step = max(1, len(digits) // 5)
    broken = [
        b"",
        b"\0" * 5000,
        b"\xff" * 5000,
        b"x" * (1 << 20),
        content[: len(content) // 2],
        content[len(content) // 2 :],
        content.replace(b"\n", b" "),
        content.replace(b" ", b""),
        content * 3,
        b"\n".join(reversed(content.splitlines())),
        *(
            content[: m.start()] + number.encode() + content[m.end() :]
            for m, number in zip(digits[::step], NUMBERS, strict=False)
        ),
    ]
    for n, damaged in enumerate(broken):
        way = (*WAYS, "open", "open")[n % 4]
        check({**files, name: damaged}, opened="", way=way)


def test_every_number_of_every_file_is_absurd() -> None:
    machines = seeds()
    for n, number in enumerate(NUMBERS):
        files = {
            name: content if name == "trace" else re.sub(rb"\d+", number.encode(), content)
            for name, content in machines[n % len(machines)].items()
        }
        check(files, opened="", way=WAYS[n % 2])


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    "state",
    [
        {}, [], None, 5, "x", {"free": None}, {"free": 5}, {"free": []}, {"free": [1]},
        {"free": [1, 2, 0, None, None]}, {"free": ["a", "b", 0, None, None]},
        {"free": [HUGE * 9, 0, 1, None, None], "busy": [0, HUGE, 1, None, None]},
        {"free": [-1, -5, 7, [1], {}], "busy": {}, "lazy": True},
        {"free": [5.5, float("1e300"), 0, None, None]},
        {"pages": {"x": "y"}, "pool": [[]]},
        {"last": 1, "count": {"\u00b2": 1, "1": HUGE * 9, "2": -1, "99999999999": 1}},
        {"last": HUGE * 9, "count": [1, 2]},
        {"last": 3, "count": [1, 2], "pages": [HUGE * 9, HUGE, -1]},
    ],
    ids=lambda state: json.dumps(state)[:30],
)  # fmt: skip
def test_states_of_the_arena(state: object) -> None:
    files = {**first("vmallocinfo.start"), "state.json": json.dumps(state).encode()}
    check(files, opened="", way="report-json")


def test_a_state_nested_without_end() -> None:
    trace = first("cmdline")["trace"]
    deep = "[1,2,0," * 20_000 + "null" + ",null]" * 20_000
    for text in (f'{{"free": {deep}}}', '{"free": ' + "[" * 100_000, '{"a":' * 100_000):
        check({"trace": trace, "state.json": text.encode()}, opened="")


@pytest.mark.parametrize(
    "iomem",
    [
        "00000000-ffffffffffffffff : System RAM\n",
        "ffffffff-00000000 : System RAM\n",
        "00001000-00000fff : System RAM\n" * 3000,
        "".join(f"{n:x}000-{n:x}fff : System RAM\n" for n in range(0, 60_000, 2)),
        "00000000-3fffffff : System RAM\n00000000-3fffffff : System RAM\n",
    ],
    ids=["all", "backwards", "empty", "many", "twice"],
)
def test_memory_maps(iomem: str) -> None:
    files = {**first("iomem"), "iomem": iomem.encode()}
    for way in ("report-json", "replay-json"):
        check(files, opened="", way=way)


@pytest.mark.parametrize(
    "options",
    [
        "vmalloc=0", "vmalloc=1", "vmalloc=4095M", "vmalloc=99999999999G", "vmalloc=-1",
        "highmem=0", "highmem=3G", "highmem=99999G", "mem=0", "mem=1", "mem=64G", "mem=1K",
        "reservetop=0xffffffff", "reservetop=4G", "nr_cpus=0", "maxcpus=99999999",
        "vmalloc=" + "9" * 99,
    ],
)  # fmt: skip
def test_boot_options(options: str) -> None:
    check({**first("config"), "cmdline": options.encode()}, opened="", way="report-json")


@pytest.mark.parametrize(
    "release", ["0.0", "99999999999.1", "2.4.1", "6.", "6.1.0-" + "x" * 5000, "v"]
)
def test_releases(release: str) -> None:
    text = f"Linux version {release} (x@y) (gcc 1) #1 SMP PREEMPT_DYNAMIC\n"
    check({**seeds()[0], "version": text.encode()}, opened="", way="validate-json")


def test_a_pool_snapshot_that_contradicts_itself() -> None:
    lines = ["last_pkmap_nr 99999999999 (rc 0 0 0 0) pkmap_page_table f6ff9000 npk 512"]
    lines += [f"slot {n} count {c} pte {HUGE:x} pfn {HUGE:x}" for n in (0, 0, 511, 512, 1 << 40)
              for c in (0, 1, -1, 1 << 40)]  # fmt: skip
    files = {**first("pkmap.start"), "pkmap.start": "\n".join(lines).encode()}
    for way in (*WAYS, "replay-json"):
        check(files, opened="", way=way)
