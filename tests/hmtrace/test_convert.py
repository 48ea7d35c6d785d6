"""`hmtrace convert` from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from collectors import open_capture
from collectors.errors import HmtraceError
from collectors.events import SCHEMA
from hmtrace import __main__ as process
from hmtrace.cli import app
from hmtrace.cli.quiet import native_stderr_dropped
from tests.hmtrace.terminals import pieces
from tests.writers import ftracetext
from tests.writers.ftracetext import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"
WAITERS = FIXTURES / "i386-hog-a-waiters-pae-smp2"
RUNNER = CliRunner()


def run(*arguments):
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, HmtraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def document(command, path):
    found = json.loads(run(command, "--format", "json", path).stdout)
    return {k: v for k, v in found.items() if k != "source"}


@pytest.mark.parametrize("command", ["info", "report"])
@pytest.mark.parametrize("name", ["i386-hog-a-waiters-pae-smp2", "arm-61-1g-minix"])
def test_the_same_figures_from_parquet(command, name, tmp_path):
    target = tmp_path / "x.parquet"
    run("convert", FIXTURES / name, "-o", target)
    assert document(command, target) == document(command, FIXTURES / name)


def test_csv_and_ndjson_hold_the_table(tmp_path):
    run("convert", WAITERS, "-o", tmp_path / "x.csv")
    run("convert", WAITERS, "-o", tmp_path / "x.ndjson")
    table = open_capture(WAITERS).events.collect()
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(SCHEMA)
    lines = (tmp_path / "x.ndjson").read_text().splitlines()
    assert len(rows) == len(lines) == table.height
    for at in (0, 77, table.height - 1):
        expected = table.row(at, named=True)
        assert json.loads(lines[at]) == expected
        shown = {k: str(v).lower() if isinstance(v, bool) else v for k, v in expected.items()}
        assert rows[at] == {k: "" if v is None else str(v) for k, v in shown.items()}


def test_text_on_stdout():
    shown = run("convert", WAITERS, "-o", "-", "--format", "csv").stdout
    assert shown.startswith("seq,ts,end_ts,")
    assert len(shown.splitlines()) == open_capture(WAITERS).events.collect().height + 1


def test_task_names_may_hold_anything(tmp_path):
    comm = 'a,"b\x1b[2J'
    events = [Event(comm, 7, 0, 10**9, "p: (kmap_high+0x0/0x260) page=0x1")]
    (tmp_path / "t").write_text(ftracetext.tracefs(events))
    run("convert", tmp_path / "t", "-o", tmp_path / "x.csv")
    run("convert", tmp_path / "t", "-o", tmp_path / "x.jsonl")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert rows[0]["comm"] == comm
    assert json.loads((tmp_path / "x.jsonl").read_text())["comm"] == comm


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "x.json"), "could be many things"),
        (("-o", "-", "--format", "pftrace"), "cannot be written to a pipe"),
        (("-o", "x.txt"), "does not say what to write"),
        (("-o", "-"), "does not say what to write"),
        (("-o", "-", "--format", "parquet"), "cannot be written to a pipe"),
        (("-o", "none/x.csv"), "folder of the output file does not exist"),
    ],
)
def test_wrong_usage(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HmtraceError, match=said) as caught:
        run("convert", WAITERS, *arguments)
    assert caught.value.exit_code == 2


def test_nothing_is_overwritten(tmp_path):
    target = tmp_path / "x.csv"
    target.write_text("mine")
    with pytest.raises(HmtraceError, match="output file exists"):
        run("convert", WAITERS, "-o", target)
    assert target.read_text() == "mine"
    run("convert", WAITERS, "-o", target, "--force")
    assert target.read_text().startswith("seq,")


def test_the_trace_itself_is_not_overwritten(tmp_path):
    trace = tmp_path / "t.parquet"
    run("convert", WAITERS, "-o", trace)
    before = trace.read_bytes()
    for name in (trace, tmp_path / "link.parquet"):
        if name != trace:
            name.symlink_to(trace)
        with pytest.raises(HmtraceError, match="never replaced"):
            run("convert", trace, "-o", name, "--force")
    assert trace.read_bytes() == before


def test_a_damaged_trace_leaves_nothing(tmp_path):
    (tmp_path / "t").write_text("no trace\n")
    for form in ("parquet", "csv"):
        with pytest.raises(HmtraceError):
            run("convert", tmp_path / "t", "-o", tmp_path / f"x.{form}")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A trace of about 260 MB: large enough to be spooled."""
    events = [Event("a", 7, 0, 1000 * i, "p: (kmap_high+0x0/0x260) page=0x1") for i in range(4_000)]
    trace = tmp_path_factory.mktemp("large") / "t"
    trace.write_text(ftracetext.tracefs(events) * 750)
    yield trace
    trace.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_killed_run_leaves_nothing(number, form, large, tmp_path):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-m", "hmtrace", "convert", str(large), "-o", f"{out}/x.{form}"]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(temporary)}, stderr=subprocess.PIPE
    )
    for _ in range(6000):  # until something is written
        written = [p for p in [*out.iterdir(), *temporary.rglob("*")] if p.is_file()]
        if process.poll() is not None or any(p.stat().st_size for p in written):
            break
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(300) == (130 if number == signal.SIGINT else 143)
    assert not list(out.iterdir())
    assert not list(temporary.iterdir())


def test_progress_is_for_terminals():
    shown = run("convert", WAITERS, "-o", "-", "--format", "csv")
    assert "\x1b" not in shown.stderr


def test_batches_of_a_spooled_capture(tmp_path, monkeypatch):
    import collectors

    monkeypatch.setattr(collectors, "LARGE", 10)
    spooled = open_capture(WAITERS)
    assert spooled.spooled
    frames = list(spooled.batches(1000))
    assert len(frames) > 5
    monkeypatch.undo()
    assert pl.concat(frames).equals(open_capture(WAITERS).events.collect())


def test_a_lazy_source(tmp_path):
    import collectors

    whole = open_capture(WAITERS).events.collect()
    lazy = collectors.scan(WAITERS)
    assert lazy.collect_schema() == pl.Schema(SCHEMA)
    assert lazy.collect().equals(whole)
    assert lazy.head(7).collect().equals(whole.head(7))
    wanted = (pl.col("op") == "kmap") & (pl.col("seq") > 100)
    some = lazy.filter(wanted).select("pid", "vaddr")
    assert re.search(rf"PROJECT [24]/{len(SCHEMA)} COLUMNS", some.explain())
    assert "SELECTION" in some.explain()
    assert some.collect().equals(whole.filter(wanted).select("pid", "vaddr"))
    (tmp_path / "t").write_text("no trace\n")
    with pytest.raises(HmtraceError):
        collectors.scan(tmp_path / "t").collect()


def test_perf_script_out_of_order_through_a_file(tmp_path):
    from collectors import write_parquet

    times = [5000, 3000, 9000, 1000, 3000]
    lines = [
        f"perl 143 [001] 10.{t:06d}: hm:kmap_high: (c126f820) page={n:#x}\n"
        for n, t in enumerate(times)
    ]
    (tmp_path / "t").write_text("".join(lines))
    made = write_parquet(tmp_path / "t", tmp_path / "x.parquet").events.collect()
    assert made.equals(open_capture(tmp_path / "t").events.collect())
    assert made["page"].to_list() == [3, 1, 4, 0, 2]


def test_what_a_native_library_says_is_dropped(capfd):
    with native_stderr_dropped():
        os.write(2, b"thread panicked\n")
        sys.stderr.write("mine\n")
    os.write(2, b"after\n")
    said = capfd.readouterr().err
    assert "panicked" not in said
    assert "mine" in said
    assert "after" in said


def test_damage_is_told_in_one_line(tmp_path, monkeypatch, capfd):
    """What native libraries write to descriptor 2 included."""
    path = tmp_path / "x.parquet"
    run("convert", WAITERS, "-o", path)
    data = path.read_bytes()
    for at in range(8, len(data), len(data) // 7):
        path.write_bytes(data[:at] + bytes(40) + data[at + 40 :])
        monkeypatch.setattr("sys.argv", ["hmtrace", "info", str(path)])
        code, told = process.run(), capfd.readouterr().err
        assert code in (0, 3)
        assert "panicked" not in told
        assert code == 0 or told.startswith(f"hmtrace: {path}: ")


def hostile(tmp_path):
    """A capture whose task has a name that a terminal would act on."""
    name = "\x1b[31m\x9b1m\u202ex\x7f\u00e9"
    text = ftracetext.tracefs(
        [Event(name, 7, 0, 10**9, "p: (kmap_high+0x0/0x260) page=0xf6000000")]
    )
    trace = tmp_path / "trace.txt"
    trace.write_text(text)
    return name, trace


def test_names_as_json_are_ascii(tmp_path):
    name, trace = hostile(tmp_path)
    line = run("convert", trace, "--format", "ndjson", "-o", "-").stdout_bytes
    assert all(32 <= char < 127 for char in line.strip())
    assert json.loads(line)["comm"] == name


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_terminal_acts_on_no_name(form, tmp_path):
    _, trace = hostile(tmp_path)
    master, slave = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "hmtrace", "convert", trace, "--format", form, "-o", "-"],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    os.close(slave)
    shown = b"".join(pieces(master)).decode().replace("\r\n", "")
    assert done.stderr == b""
    assert shown.isprintable()
    assert "\\u202e" in shown


def test_a_pipe_gets_names_as_they_are(tmp_path):
    name, trace = hostile(tmp_path)
    assert name.encode() in run("convert", trace, "--format", "csv", "-o", "-").stdout_bytes
