"""`sweep --cluster`: a real scheduler and real workers, some of which are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app, cluster, serving
from hmtrace.cli.journal import NAME, Journal
from replay.machine.costs import CostRange
from replay.machine.model import Machine, Told
from replay.whatif.sweep import Candidate
from replay.whatif.written import encode, machine_from
from tests.hmtrace.sweeps import journalled, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
WAITERS = ROOT / "fixtures" / "i386-hog-a-waiters-pae-smp2"
AXES = ("--axis", "pkmap=64..1024*2", "--axis", "cpus=1,2,4", "--axis", "split=3g,2g")
MACHINES = 30
LIMIT = 240
"""Seconds after which a test is given up."""


class Dask:
    """A scheduler with its workers, each a process of its own; the scheduler has no hmtrace."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(self.file.exists)

    def worker(self, *, bare: bool = False) -> subprocess.Popen[bytes]:
        return self._run("worker", "--no-nanny", "--nthreads", "1", bare=bare)

    def _run(self, what: str, *words: str, bare: bool = True) -> subprocess.Popen[bytes]:
        """Run a part of dask, in which hmtrace cannot be imported if it is `bare`."""
        program = f"from distributed.cli.dask_{what} import main; main()"
        if bare:
            program = f"import sys; sys.modules['hmtrace'] = None; {program}"
        command = [sys.executable, "-c", program, *words]
        command += ["--scheduler-file", str(self.file), "--no-dashboard"]
        with (self._folder / f"{what}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1"},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def wait_for(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    def give_up(number: int, frame: object) -> None:
        pytest.fail("the test takes too long")  # no Exception: nobody takes it for a lost call

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def dask_in(folder: Path) -> Iterator[Dask]:
    dask = Dask(folder)
    try:
        yield dask
    finally:
        dask.end()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler with one worker."""
    with dask_in(tmp_path_factory.mktemp("dask")) as found:
        found.worker()
        yield found


def document(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("sweep", WAITERS, *words, "--format", "json"))
    return found


def refusal(*words: object) -> Any:
    """The error that a sweep ends with."""
    result = CliRunner().invoke(app, ["sweep", *map(str, (WAITERS, *words))])
    assert getattr(result.exception, "exit_code", None) == result.exception.exit_code  # type: ignore[union-attr]
    return result.exception


def after(number: int, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something when so many machines have been written down."""
    real, added = Journal.add, []

    def add(journal: Journal, *words: Any) -> None:
        real(journal, *words)
        added.append(words)
        if len(added) == number:
            do()

    monkeypatch.setattr(Journal, "add", add)


def test_workers_find_what_this_process_finds(dask: Dask, shelf: Path) -> None:
    here = document(*AXES)
    assert len(here["machines"]) == MACHINES
    (folder,) = shelf.iterdir()
    (folder / NAME).unlink()
    assert document(*AXES, "--cluster", dask.file) == here
    assert len(set(journalled(shelf))) == MACHINES
    address = json.loads(dask.file.read_text())["address"]
    assert document(*AXES, "--cluster", address) == here
    assert len(journalled(shelf)) == MACHINES, "what is known is served again"


def test_searches_side_by_side(dask: Dask, shelf: Path) -> None:
    words = "--find", "min:pkmap", "--where", "waits=0", "--axis", "cpus=1,2,4"
    here = document(*words)
    (folder,) = shelf.iterdir()
    (folder / NAME).unlink()
    assert document(*words, "--cluster", dask.file) == here
    assert [answer["value"] for answer in here["answers"]] == [1024] * 3


def test_a_worker_that_is_killed_loses_nothing(
    dask: Dask, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun with some machines, and will not answer: others serve them, once each."""
    from distributed import Client

    here = document(*AXES)
    (folder,) = shelf.iterdir()
    (folder / NAME).unlink()
    victim = dask.worker()
    with Client(scheduler_file=str(dask.file), set_as_default=False) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(2, LIMIT)
    victim.send_signal(signal.SIGSTOP)
    after(3, victim.kill, monkeypatch)
    assert document(*AXES, "--cluster", dask.file) == here
    assert victim.wait(LIMIT) == -signal.SIGKILL
    keys = journalled(shelf)
    assert len(keys) == len(set(keys)) == MACHINES


@pytest.mark.parametrize("ending", ["scheduler", "interrupt"])
def test_a_sweep_that_ends_midway_goes_on_from_there(
    ending: str, dask: Dask, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    here = document(*AXES)
    (folder,) = shelf.iterdir()
    (folder / NAME).unlink()
    with monkeypatch.context() as patch, dask_in(tmp_path) as other:
        if ending == "scheduler":
            other.worker()
            after(3, other.scheduler.kill, patch)
            error = refusal(*AXES, "--cluster", other.file)
            assert error.exit_code == 3
            assert "does not answer any more" in str(error)
            assert "goes on from there" in error.hint
        else:
            after(3, interrupt, patch)
            assert (
                CliRunner()
                .invoke(app, ["sweep", str(WAITERS), *AXES, "--cluster", str(dask.file)])
                .exit_code
            )
    known = journalled(shelf)
    assert 3 <= len(known) < MACHINES
    assert document(*AXES) == here
    keys = journalled(shelf)
    assert keys[: len(known)] == known
    assert len(keys) == len(set(keys)) == MACHINES


def test_a_worker_that_cannot_serve_is_named(
    dask: Dask, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = *AXES, "--cluster", dask.file
    real = serving.Terms.of
    with monkeypatch.context() as patch:

        def elsewhere(workload: str, *rest: Any, **more: Any) -> serving.Terms:
            return real(str(tmp_path / "elsewhere"), *rest, **more)

        patch.setattr(serving.Terms, "of", elsewhere)
        error = refusal(*words)
        assert error.exit_code == 3
        assert str(error).startswith("worker tcp://127.0.0.1:")
        assert f"{tmp_path}/elsewhere: No such file" in str(error)
        assert "under the same name" in error.hint
    with monkeypatch.context() as patch:
        patch.setattr(serving, "_program", lambda: ("9.9", "0123"))
        error = refusal(*words)
        assert str(error).startswith("worker tcp://127.0.0.1:")
        assert "is asked by 9.9 of source 0123" in str(error)
        assert "the same hmtrace" in error.hint
    document(*words)  # it can still serve


def test_a_worker_without_hmtrace_is_named(shelf: Path, tmp_path: Path) -> None:
    with dask_in(tmp_path) as other:
        other.worker(bare=True)
        error = refusal(*AXES, "--cluster", other.file)
    assert error.exit_code == 3
    assert str(error).startswith("worker tcp://127.0.0.1:")
    assert "it has no hmtrace that serves" in str(error)
    assert "the same hmtrace" in error.hint


def test_a_workload_file_is_what_travels(
    dask: Dask, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the sweep needs no cache that the workers see, nor they the trace."""
    file = tmp_path / "board.workload"
    run("convert", WAITERS, "-o", file)
    here = json.loads(run("sweep", file, *AXES, "--format", "json"))
    shutil.rmtree(shelf)
    monkeypatch.chdir(tmp_path)
    words = "--format", "json", "--cluster", dask.file
    there = json.loads(run("sweep", "board.workload", *AXES, *words))
    assert [m["figures"] for m in there["machines"]] == [m["figures"] for m in here["machines"]]
    terms = serving.Terms.of(
        str(file), "0", Machine(arch="i386"), ("class", "closed"), is_file=True
    )
    refused = json.loads(serving.answer(serving.question(terms, [])))
    assert refused["refused"] == f"it sees another workload at {file}"
    file.unlink()
    refused = json.loads(serving.answer(serving.question(terms, [])))
    assert "board.workload" in refused["refused"]
    assert refused["hint"]


def test_a_machine_travels_whole_and_in_few_words() -> None:
    captured = Machine(arch="i386", pae=True, config=frozenset({"SMP"}), ram=((0, 3 << 30),))
    told = Told(lowmem_end_pfn=7, vmalloc=(1, 2), zones=(("Normal", 1, 2),))
    costs = replace(captured.costs, ranges=(CostRange("scan", 0.5, 2.0),))
    there = replace(captured, split="2g", told=told, costs=costs, nomap=((4096, 8192),))
    assert machine_from(json.loads(json.dumps(encode(there)))) == there
    terms = serving.Terms.of("here", "0", captured, ("class", "closed"))
    asked = json.loads(serving.question(terms, [Candidate({}, replace(captured, cpus=8))]))
    assert asked["machines"] == [{"cpus": 8}]


def test_no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert "no scheduler answers" in str(refusal(*AXES, "--cluster", address))  # it is silent
    error = refusal(*AXES, "--cluster", address)  # nobody listens
    assert error.exit_code == 3
    assert f"no scheduler answers at {address}" in str(error)
    assert "dask scheduler" in error.hint
    bad = tmp_path / "bad.json"
    for text, told in ((None, "No such file"), ("{", "no scheduler file"), ("[]", "no scheduler")):
        if text is not None:
            bad.write_text(text)
        error = refusal(*AXES, "--cluster", bad)
        assert error.exit_code == 3
        assert told in str(error)
    error = refusal(*AXES, "--cluster", "carrier-pigeon://roof")
    assert error.exit_code == 2
    assert "tcp://host:8786" in error.hint


def test_without_dask_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    error = refusal(*AXES, "--cluster", "tcp://127.0.0.1:1")
    assert error.exit_code == 2
    assert error.hint == "pip install distributed (the extra 'cluster' of hmtrace)"
    error = refusal(*AXES, "--cluster", "tcp://127.0.0.1:1", "--jobs", "2")
    assert error.exit_code == 2
    assert "exclude each other" in str(error)
