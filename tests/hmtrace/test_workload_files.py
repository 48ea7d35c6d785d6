"""Workload files: what travels gives the answers of the capture, and a stranger's is checked."""

from __future__ import annotations

import copy
import io
import json
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from collectors import container
from collectors.capture import Origin
from collectors.errors import HmtraceError
from collectors.input.source import Source
from hmtrace.cli import app
from hmtrace.cli.packing import WorkloadFile
from replay.whatif import checked

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
FAILING = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
EVERY = (
    "arm-612-percpu-lpae-smp2", "i386-44-mix-pae-smp2", "i386-arena-pae-m2048-smp2",
    "i386-func-minix-pae-smp2", "i386-hog-h-race-pae-smp4", "i386-lost-overrun-pae-smp2",
    "i386-twin-vmap-vmalloc128", "mips32-61-minix",
)  # fmt: skip
"""Captures that fill tables which others leave empty."""
QUESTIONS = (
    ("replay", "--split", "2g", "--vmalloc", "192M"),
    ("replay", "--pkmap", "128", "--timing", "fixed"),
    ("sweep", "--axis", "pkmap=256,1024", "--axis", "split=3g,2g"),
    ("sweep", "--find", "min:pkmap", "--where", "waits=0"),
    ("advise",),
)


@pytest.fixture(autouse=True)
def _empty_shelf(shelf: Path) -> None:
    """Nothing is kept from other tests."""


def run(*words: str | Path, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def answer(path: str | Path, question: tuple[str, ...], stdin: bytes | None = None) -> str:
    command, *options = question
    result = run(command, path, *options, "--format", "json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def distilled(capture: Path, folder: Path) -> Path:
    file = folder / f"{capture.name}.workload"
    file.write_bytes(content(capture))
    return file


@cache
def content(capture: Path) -> bytes:
    """Of a capture's workload file."""
    result = run("convert", capture, "--format", "workload", "-o", "-")
    assert result.exit_code == 0, result.output
    found: bytes = result.stdout_bytes
    return found


def _without_paths(document: str) -> list[str]:
    told = ('"path":', '"trace":', '"capture":')
    return [line for line in document.splitlines() if not line.lstrip().startswith(told)]


@pytest.mark.slow
@pytest.mark.parametrize("capture", [WAITERS, FAILING], ids=lambda path: path.name)
def test_a_workload_file_gives_the_documents_of_its_capture(capture: Path, tmp_path: Path) -> None:
    file = distilled(capture, tmp_path)
    for question in QUESTIONS:
        expected = answer(capture, question)
        first = answer(file, question)  # unpacked
        again = answer(file, question)  # from the cache
        assert _without_paths(first) == _without_paths(expected)
        assert again == first
        assert json.loads(first) != json.loads(expected)  # it says which file was read


@pytest.mark.slow
@pytest.mark.parametrize("capture", EVERY)
def test_every_kind_of_capture_travels(capture: str, tmp_path: Path) -> None:
    """Each comes back as it was, passes the check, and gives the same figures."""
    question = ("replay",) if capture.startswith("mips") else ("replay", "--vmalloc", "192M")
    file = distilled(FIXTURES / capture, tmp_path)
    expected = answer(FIXTURES / capture, question)
    assert _without_paths(answer(file, question)) == _without_paths(expected)


def test_a_workload_file_is_read_from_a_pipe_or_compressed(tmp_path: Path) -> None:
    import gzip

    file = distilled(WAITERS, tmp_path)
    question = QUESTIONS[0]
    expected = _without_paths(answer(file, question))
    piped = answer("-", question, file.read_bytes())
    assert _without_paths(piped) == expected
    small = tmp_path / "board.gz"
    small.write_bytes(gzip.compress(file.read_bytes()))
    assert _without_paths(answer(small, question)) == expected


def test_a_workload_file_may_be_written_to_a_pipe(tmp_path: Path) -> None:
    piped = content.__wrapped__(WAITERS)
    file = tmp_path / "board.workload"
    result = run("convert", WAITERS, "-o", file)
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == piped


def test_a_workload_file_does_not_say_where_its_trace_lay(tmp_path: Path) -> None:
    secret = tmp_path / "secret-customer"
    shutil.copytree(FAILING, secret)
    file = distilled(secret, tmp_path)
    told = container.ContainerFile(np.frombuffer(file.read_bytes(), np.uint8), "")
    assert "secret-customer" not in json.dumps(told.document)


@pytest.mark.parametrize(
    "words",
    [("report",), ("validate",), ("convert", "-o", "events.csv"), ("replay", "--calibrate")],
)
def test_what_needs_events_says_so(words: tuple[str, ...], tmp_path: Path) -> None:
    file = distilled(FAILING, tmp_path)
    command, *options = words
    result = run(command, file, *options)
    assert result.exit_code
    told = str(result.exception) + result.output
    assert "workload file" in told
    assert not Path("events.csv").exists()


def test_info_tells_what_it_is(tmp_path: Path) -> None:
    file = distilled(FAILING, tmp_path)
    page = run("info", file)
    assert page.exit_code == 0, page.output
    assert "replay, sweep, advise" in page.stdout
    document = json.loads(run("info", file, "--format", "json").stdout)
    of_trace = json.loads(run("info", FAILING, "--format", "json").stdout)
    assert document["source"]["sha256"] == of_trace["source"]["sha256"]
    assert document["events"] == of_trace["events"]
    assert document["machine"] == of_trace["machine"]
    assert document["workload"]["trace"].startswith("trace")


def test_files_beside_it_do_not_matter(tmp_path: Path) -> None:
    """A fleet's files lie in one folder: neither are they its machine's nor do they make it new."""
    file = distilled(FAILING, tmp_path)
    first = answer(file, ("advise",))
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    (tmp_path / "config").write_text("CONFIG_VMSPLIT_1G=y\n")
    assert answer(file, ("advise",)) == first


def unpacked(data: bytes) -> None:
    WorkloadFile.of(Source.from_bytes(data, "board.workload")).unpack(None)


def refused(data: bytes) -> HmtraceError:
    with pytest.raises(HmtraceError) as told:
        unpacked(data)
    assert told.value.exit_code == 3
    assert told.value.hint
    return told.value


def test_a_file_that_was_cut_off_ends_with_3_and_an_offset(tmp_path: Path) -> None:
    file = distilled(FAILING, tmp_path)
    data = file.read_bytes()
    short = tmp_path / "short.workload"
    for size in (19, 1000, len(data) // 2, len(data) - 1):
        short.write_bytes(data[:size])
        for command in ("replay", "advise", "info"):
            result = run(command, short)
            assert isinstance(result.exception, HmtraceError)
            assert result.exception.exit_code == 3
            assert result.exception.offset is not None
            assert result.exception.hint


def test_a_file_with_a_turned_bit_is_refused(tmp_path: Path) -> None:
    data = distilled(FAILING, tmp_path).read_bytes()
    for at in range(20, len(data), len(data) // 40):
        turned = bytearray(data)
        turned[at] ^= 0x10
        assert refused(bytes(turned)).offset is not None


class Genuine:
    """What is in a workload file: its document as JSON, its tables, and how they lie in it."""

    def __init__(self, data: bytes) -> None:
        file = container.ContainerFile(np.frombuffer(data, np.uint8), "board.workload")
        self.document = json.dumps(file.document)
        self.tables: dict[str, Any] = {
            name: np.concatenate(list(file.numbers(name)) or [np.zeros(0, np.int64)])
            if file.is_column(name)
            else file.table(name)
            for name in file.rows
        }
        end, document = file._read_document()
        self.told: dict[str, Any] = document["tables"]
        self.packed = data[:end]


@cache
def taken_apart(data: bytes) -> Genuine:
    return Genuine(data)


class Forged:
    """A workload file that is taken apart, to be put together with something else in it."""

    def __init__(self, data: bytes) -> None:
        self._genuine = taken_apart(data)
        self.document = json.loads(self._genuine.document)
        self.tables = dict(self._genuine.tables)

    def bytes(self) -> bytes:
        """Tables that are not the genuine ones are packed behind all of those."""
        data = io.BytesIO()
        packer = container.ContainerWriter(data.write)
        packer._put(self._genuine.packed[packer._at :])
        for name, table in self.tables.items():
            if table is self._genuine.tables.get(name):
                packer._tables[name] = self._genuine.told[name]
            elif isinstance(table, pl.DataFrame):
                packer.table(name, table)
            else:
                packer.numbers(name, table)
        packer.finish(self.document)
        return data.getvalue()


def _set(table: str, column: str, value: object) -> Callable[[Forged], None]:
    def forge(file: Forged) -> None:
        frame = file.tables[table]
        values = frame.get_column(column).to_list()
        values[len(values) // 2] = value
        file.tables[table] = frame.with_columns(
            pl.Series(column, values, dtype=frame.schema[column])
        )

    return forge


def _number(column: str, value: int) -> Callable[[Forged], None]:
    def forge(file: Forged) -> None:
        values = file.tables[column].copy()
        values[values.size // 2] = value
        file.tables[column] = values

    return forge


def _told(name: str, value: object) -> Callable[[Forged], None]:
    def forge(file: Forged) -> None:
        file.document["workload"][name] = value

    return forge


FORGERIES: dict[str, Callable[[Forged], None]] = {
    "a page that is none": _set("calls-0", "page", 1 << 30),
    "a page before the first": _set("holds-0", "page", -(1 << 30)),
    "a site that is none": _set("holds-0", "key", 1 << 30),
    "a member that is none": _set("members", "key", 1 << 30),
    "a page held that is none": _set("held-0", "page", 1 << 30),
    "a depth that is none": _set("held-0", "depth", 1 << 30),
    "more below than there are": _set("held-0", "below", 60_000),
    "a CPU that is none": _set("held-0", "cpu", -1),
    "a site held that is none": _set("held-0", "key", 1 << 30),
    "a turn that is none": _set("turns-0", "kind", 200),
    "a turn's page that is none": _set("turns-0", "page", 1 << 30),
    "a turn's task that is none": _set("turns-0", "task", 1 << 30),
    "a turn's CPU that is none": _set("turns-0", "cpu", 1 << 30),
    "a turn's site that is none": _set("turns-0", "key", 1 << 30),
    "a turn's row that is none": _set("turns-0", "row", 1 << 60),
    "a page of the pool that is none": _number("pool-page", 1 << 30),
    "a task that is none": _number("pool-task", 1 << 30),
    "a call that is none": _number("pool-code", 200),
    "a time that is none": _number("pool-time", (1 << 63) - 1),
    "a page twice": _set("pool-first", "page", 1),
    "a size that is none": _set("arena-allocs-0", "size", 1 << 60),
    "a missing address": _set("arena-allocs-0", "size", None),
    "no last piece": _set("arena-facts-0", "last", value=False),
    "windows that are not there": _told("windows", 1 << 40),
    "another pool": _told("pool", "../../etc"),
    "no figures": _told("figures", 7),
    "figures of another kind": _told("figures", {"Moment": {"ts": 1}}),
    "a class that is none": _told("figures", {"os.system": {"command": "true"}}),
    "an unknown array": _told("nameless", {"array": ["|O", [1]]}),
    "a name too few": _told("site_names", {"tuple": ["a"]}),
}


@pytest.fixture
def genuine() -> bytes:
    return content(WAITERS)


def test_what_is_put_together_again_is_good(genuine: bytes) -> None:
    file = Forged(genuine)
    assert file.bytes() == genuine
    file.tables = {name: copy.copy(table) for name, table in file.tables.items()}
    WorkloadFile.of(Source.from_bytes(file.bytes())).unpack(None)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_file_with_right_digests_is_refused(forgery: str, genuine: bytes) -> None:
    file = Forged(genuine)
    FORGERIES[forgery](file)
    assert "damaged workload" in str(refused(file.bytes()))


def test_a_column_too_few_or_too_many_is_refused(genuine: bytes) -> None:
    for table in Forged(genuine).tables:
        file = Forged(genuine)
        del file.tables[table]
        refused(file.bytes())
    file = Forged(genuine)
    file.tables["more"] = pl.DataFrame({"a": [1]})
    refused(file.bytes())
    file = Forged(genuine)
    file.tables["pool-page"] = file.tables["pool-page"].astype(np.int64)
    refused(file.bytes())


def test_figures_of_a_wrong_type_are_refused_wherever_they_are(genuine: bytes) -> None:
    """Every number of the figures in turn becomes a text, every text a number."""

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        pairs = (
            value.items() if isinstance(value, dict)
            else enumerate(value) if isinstance(value, list) else None
        )  # fmt: skip
        if pairs is None:
            return [path] if isinstance(value, int | float) and "array" not in path else []
        return [place for key, part in pairs for place in places(part, (*path, key))]

    document = Forged(genuine).document["workload"]["figures"]
    tried = places(document)
    assert len(tried) > 50
    for path in tried[:: max(len(tried) // 60, 1)]:
        file = Forged(genuine)
        part = file.document["workload"]["figures"]
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = "\x1b[2J"
        refused(file.bytes())


def test_a_workload_of_another_machine_is_refused(genuine: bytes, tmp_path: Path) -> None:
    """The machine that it was distilled on has to be the one that its facts tell."""
    file = Forged(genuine)
    file.document["machine"] = file.document["machine"].replace("3g", "2g")
    path = tmp_path / "other.workload"
    path.write_bytes(file.bytes())
    result = run("replay", path)
    assert isinstance(result.exception, HmtraceError)
    assert result.exception.exit_code == 3
    assert "distilled by hmtrace" in str(result.exception)


def test_the_check_knows_every_table(genuine: bytes) -> None:
    """A table that is new to the check would not be looked at: it is refused until it is."""
    workload = WorkloadFile.of(Source.from_bytes(genuine)).unpack(None)
    checked.check(workload)
    workload.parts.put("news-0", pl.DataFrame({"page": [1 << 40]}))
    with pytest.raises(ValueError, match="news-0"):
        checked.check(workload)


def test_an_origin_is_the_file(genuine: bytes) -> None:
    file = WorkloadFile.of(Source.from_bytes(genuine, "board.workload"))
    origin = file.capture.origin
    assert isinstance(origin, Origin)
    assert (origin.path, origin.trace) == ("board.workload", "board.workload")
    assert origin.format == "ftrace-text" or origin.format.startswith("trace")
