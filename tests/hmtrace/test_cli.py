"""The command line from outside: exit codes, help, messages, documents."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from hmtrace import __version__
from hmtrace.cli import app
from replay.machine.options import with_options
from tests import warm

if TYPE_CHECKING:
    from replay.outcome import Outcome

COMMANDS = ("info", "report", "replay", "validate", "layout")
TRACE = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 4/4   #P:2
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
perl-77 [001] .....   100.000001: kmap_high: (kmap_high+0x0/0x120) page=0xf6000000
perl-77 [001] .....   100.000002: kmap_high_ret: (f+0x1/0x2 <- kmap_high) vaddr=0xff001000
perl-77 [001] .....   100.000003: kunmap_high: (kunmap_high+0x0/0x90) page=0xf6000000
perl-77 [001] .....   100.000004: kmap_high: (kmap_high+0x0/0x120) page=0xf6000028
"""


def hmtrace(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program as a user runs it."""
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "NO_COLOR"}}
    program = warm.program_with(options.get("env", {}))
    return subprocess.run(
        [*program, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment | options.pop("env", {}),
        **options,
    )


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.txt"
    path.write_text(TRACE)
    return path


@dataclass
class Result:
    """Stands for replay.validate.verdicts.Validation."""

    exact: int = 2
    layout: tuple[Any, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "kmap": {"total": 2, "exact": self.exact},
            "kmap_local": {"total": 0, "exact": 0},
            "vmap": {"total": 0, "exact": 0},
            "pool_flushes": {"observed": 0, "predicted": 0, "matched": 0},
            "waits": {"observed": 0, "predicted": 0},
            "first_divergence": None,
            "inferred": {"initial_state": 0, "ordering": 0},
        }


@pytest.fixture
def replayed(outcomes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replay replaced by outcomes built by hand; the calls are written down."""
    calls = SimpleNamespace(
        what_if=[], outcome=outcomes.busy_outcome(), other=None, validation=Result()
    )

    class Server:
        baseline = calls.outcome

        def __init__(self, *_: object, **__: object) -> None: ...

        def converted(self, _: object) -> None: ...

        def on(self, target: object, **options: object) -> Outcome:
            calls.what_if.append((target, options))
            return calls.other or calls.outcome

    fake: Any = ModuleType("replay.walk")
    fake.replay = lambda *_, **__: calls.outcome
    monkeypatch.setitem(sys.modules, "replay.walk", fake)
    fake = ModuleType("replay.whatif.run")
    fake.Server = Server
    monkeypatch.setitem(sys.modules, "replay.whatif.run", fake)
    fake = ModuleType("replay.whatif.workload")
    fake.distil = lambda *_, **__: None
    monkeypatch.setitem(sys.modules, "replay.whatif.workload", fake)
    monkeypatch.setattr("hmtrace.cli.workloads.Place.of", lambda _: None)
    fake = ModuleType("replay.validate.run")
    fake.validate = lambda *_, **__: calls.validation
    monkeypatch.setitem(sys.modules, "replay.validate.run", fake)
    return calls


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


# --- help --------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['hmtrace', '--help']\n"
        "from hmtrace.__main__ import run\n"
        "assert run() == 0\n"
        "heavy = ('polars', 'numba', 'numpy', 'rich.table', 'rich.console', 'pydantic')\n"
        "sys.stderr.write(' '.join(m for m in heavy if m in sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert result.stderr == ""
    assert all(name in result.stdout for name in COMMANDS)


SEEN = """
import sys
from hmtrace.__main__ import run
heavy = sys.argv.pop(1).split(",")
assert run() == 0
sys.stderr.write(" ".join(name for name in heavy if name in sys.modules))
"""


def heavy_modules(heavy: str, *words: object) -> str:
    """Those of some modules that a command imports."""
    result = subprocess.run(
        [sys.executable, "-c", SEEN, heavy, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return result.stderr


def test_layout_imports_nothing_heavy() -> None:
    heavy = "polars,numba,llvmlite,numpy"
    assert heavy_modules(heavy, "layout", "--machine", "pc-2g") == ""


@pytest.mark.parametrize("command", ["info", "report"])
def test_what_is_compiled_runs_without_numba(command: str) -> None:
    capture = Path(__file__).parents[2] / "fixtures" / "i386-minix-pae-smp2"
    assert hmtrace(command, str(capture)).returncode == 0
    assert heavy_modules("numba,pydantic", command, capture) == ""


def test_version() -> None:
    result = hmtrace("--version")
    assert (result.returncode, result.stdout) == (0, f"hmtrace {__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_the_help_are_understood_by_the_parser(command: str) -> None:
    text = run(command, "--help").output
    examples = re.findall(r"^ +(hmtrace .*|.*\| hmtrace .*)$", text.split("Examples:")[1], re.M)
    assert len(examples) >= 3
    parser: Any = typer.main.get_command(app)
    for example in examples:
        ours = next(p for p in example.split("|") if p.strip().startswith("hmtrace"))
        words = shlex.split(ours)
        assert words[1] == command
        context = parser.commands[command].make_context(command, words[2:])
        assert context.params


def test_help_and_readme_name_the_same_exit_codes() -> None:
    assert "0 fine, 1 a check or threshold failed, 2 wrong usage, 3" in run("--help").output


# --- exit codes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["info"],
        ["layout", "--bogus"],
        ["layout", "--ram", "7Q"],
        ["layout", "--pkmap", "500"],
        ["layout", "--split", "5g"],
        ["layout", "--cpus", "0"],
        ["layout", "--arch", "z80"],
        ["layout", "--format", "xml"],
        ["layout", "--machine", "/nowhere.toml"],
        ["layout", "--vmalloc", "-1"],
        ["layout", "--split", "3g_opt", "--pae"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = hmtrace(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


def test_unreadable_input_is_exit_code_3(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage\x1b[2J"
    garbage.write_bytes(bytes(range(256)) * 64)
    for path in (tmp_path / "missing", garbage):
        result = hmtrace("info", str(path))
        assert result.returncode == 3, result.stderr
        assert result.stderr.startswith("hmtrace: ")
        assert "Traceback" not in result.stderr
        assert "\x1b" not in result.stderr


def test_a_bug_is_confessed_without_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, hmtrace.__main__ as m, hmtrace.cli as c\n"
        "def app(**_): raise KeyError('\\x1b[2J')\n"
        "c.app = app\n"
        "m.main()\n"
    )
    for debug in ("0", "1"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=os.environ | {"HMTRACE_DEBUG": debug},
        )
        assert result.returncode == 70
        assert "bug in hmtrace" in result.stderr
        assert ("Traceback" in result.stderr) is (debug == "1")
        assert "\x1b[2J" not in result.stderr


_INTERRUPTS = {
    "anywhere": (
        "import hmtrace.__main__ as m, hmtrace.cli as c\n"
        "def app(**_): raise KeyboardInterrupt\n"
        "c.app = app\n"
    ),
    "while modules are imported": (
        "import signal, sys, hmtrace.__main__ as m\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    ),
    "while a library calls back, as LLVM does": (
        "import ctypes, signal, time, hmtrace.__main__ as m, hmtrace.cli as c\n"
        "def app(**_):\n"
        "    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()\n"
        "    time.sleep(50)\n"
        "c.app = app\n"
    ),
}


@pytest.mark.parametrize("when", _INTERRUPTS)
def test_ctrl_c_is_130_and_quiet(when: str) -> None:
    code = _INTERRUPTS[when] + "m.main()\n"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert (result.returncode, result.stderr) == (130, "")


def test_a_closed_pipe_is_no_error_message() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hmtrace", "layout"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=300) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


# --- output ------------------------------------------------------------------------------------


def test_an_existing_output_file_needs_force(tmp_path: Path) -> None:
    target = tmp_path / "layout.txt"
    target.write_text("precious")
    refused = run("layout", "-o", target)
    assert isinstance(refused.exception, HmtraceError)
    assert refused.exception.exit_code == 2
    assert "--force" in (refused.exception.hint or "")
    assert target.read_text() == "precious"
    assert run("layout", "-o", target, "--force").exit_code == 0
    assert "lowmem" in target.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["layout.txt"]


def test_a_refused_output_file_is_noticed_before_the_capture_is_read(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.touch()
    assert hmtrace("report", str(tmp_path / "missing"), "-o", str(target)).returncode == 2


def test_piped_output_has_80_columns_and_no_colour() -> None:
    piped = hmtrace("layout", env={"TERM": "xterm-256color"})
    assert "\x1b" not in piped.stdout
    lines = piped.stdout.splitlines()
    assert max(map(len, lines)) == 80
    assert not any(line != line.rstrip() for line in lines)
    assert max(map(len, hmtrace("layout", env={"COLUMNS": "100"}).stdout.splitlines())) == 100


def test_colour_is_an_option() -> None:
    assert "\x1b[" in hmtrace("layout", "--color", "always").stdout
    assert "\x1b[" in hmtrace("layout", "--color", "always", env={"NO_COLOR": "1"}).stdout
    forced = {"FORCE_COLOR": "1"}
    assert "\x1b" not in hmtrace("layout", "--color", "never", env=forced).stdout
    without = hmtrace("layout", env=forced | {"NO_COLOR": "1", "TERM": "xterm"}).stdout
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", without)


def test_a_terminal_without_unicode_still_gets_a_report() -> None:
    result = hmtrace("layout", env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0
    assert "lowmem" in result.stdout


# --- commands ----------------------------------------------------------------------------------


def test_layout_document() -> None:
    document = json.loads(run("layout", "--pae", "--ram", "4G", "--format", "json").stdout)
    assert document["schema"] == "hmtrace/layout/1"
    machine = document["machine"]
    assert machine["page_offset"] == 0xC000_0000
    assert machine["pkmap_slots"] == 512
    assert machine["pkmap_base"] == 0xFF00_0000
    assert machine["vmalloc_end"] == 0xFEFF_E000
    assert machine["lowmem_end"] == 0xF6FF_E000
    assert machine["lowmem_end_phys"] == 0x36FF_E000
    regions = document["regions"]
    assert regions[0]["start"] == 0
    assert regions[-1]["end"] == 1 << 32


def test_info_document(trace: Path) -> None:
    document = json.loads(run("info", trace, "--format", "json").stdout)
    assert document["schema"] == "hmtrace/info/1"
    assert document["source"]["format"] == "ftrace-text"
    assert len(document["source"]["sha256"]) == 64
    assert document["events"] == {"kmap": 2, "kunmap": 1}
    assert document["lost"]["events"] == 0
    assert document["raw_events"]["kmap_high"] == 2
    keys = {"source", "kernel", "cpus", "clock", "span_ns", "events", "raw_events", "lost"}
    assert keys | {"machine"} <= set(document)
    asked = {a["question"]: a["answered"] for a in document["answers"]}
    assert asked["pool pressure, hits, flushes"]
    assert not asked["arena use and fragmentation"]


def test_info_table(trace: Path) -> None:
    output = run("info", trace).output
    assert "kmap_high (return)" in output
    assert "no   arena use and fragmentation" in output


REPORT_KEYS = {
    "machine": {"arch", "split", "ram", "page_offset", "vmalloc_start", "pkmap_base"},
    "pool": {
        "slots",
        "maps",
        "hits",
        "new_mappings",
        "flushes",
        "waits",
        "wait_ns",
        "max_used",
        "mean_used",
        "scan_mean",
        "scan_max",
    },
    "local": {"maps", "max_depth", "saved_on_switch", "tlb_single"},
    "arena": {
        "size",
        "allocs",
        "failures",
        "peak_used",
        "largest_hole_min",
        "lazy_purges",
    },
    "tlb": {"full", "range", "single", "ipis"},
    "cost": {"total_ns", "share_of_span", "by_cause"},
}


def check_outcome(document: dict[str, Any]) -> None:
    for key, names in REPORT_KEYS.items():
        assert names <= set(document[key])
    for key in ("sites", "findings", "caveats"):
        assert isinstance(document[key], list)


def test_report_document(trace: Path, replayed: SimpleNamespace) -> None:
    document = json.loads(run("report", trace, "--format", "json").stdout)
    assert document["schema"] == "hmtrace/report/1"
    check_outcome(document)
    assert document["pool"]["used"]["bin_ns"] == 100_000_000
    assert document["local"]["depth_by_cpu"]["0"][0] == 12000


def test_report_table(trace: Path, replayed: SimpleNamespace) -> None:
    output = run("report", trace).output
    assert "kmap() slept 61 times" in output
    assert output.index("Findings") < output.index("Pool")


def test_replay_document_and_options(trace: Path, replayed: SimpleNamespace) -> None:
    options = ("--split", "2g", "--ram", "2G", "--pkmap", "128", "--vmalloc", "256M", "--cpus", "4")
    result = run("replay", trace, *options, "--timing", "fixed", "--format", "json")
    document = json.loads(result.stdout)
    assert document["schema"] == "hmtrace/replay/1"
    check_outcome(document)
    check_outcome(document["baseline"])
    target, passed = replayed.what_if[0]
    assert (target.split, target.pkmap_slots, target.cpus) == ("2g", 128, 4)
    assert target.vmalloc == 256 << 20
    assert abs(target.ram_bytes - (2 << 30)) < 1 << 22
    assert (passed["placement"], passed["timing"]) == ("class", "fixed")


def test_replay_table_marks_lower_bounds(
    trace: Path, replayed: SimpleNamespace, outcomes: ModuleType
) -> None:
    assert "≥" not in run("replay", trace, "--cpus", "2").output.split("Findings")[0]
    baseline = replayed.outcome
    less = with_options(outcomes.machine(), vmalloc=512 << 20)

    replayed.other = outcomes.busy_outcome(machine=less, bound="least")
    output = run("replay", trace, "--vmalloc", "512M").output
    assert f"≥ {baseline.pool.maps}\n" in output
    assert "≥ marks what is at least so much" in output
    replayed.other = outcomes.busy_outcome(machine=less, bound="most")
    output = run("replay", trace, "--vmalloc", "64M").output
    assert f"≤ {baseline.pool.maps}\n" in output


def test_replay_says_that_nothing_was_changed(trace: Path, replayed: SimpleNamespace) -> None:
    assert "nothing was changed" in run("replay", trace).output
    assert json.loads(run("replay", trace, "--format", "json").output)["changed"] is False


def test_a_share_of_more_cpus_is_no_fall(
    trace: Path, replayed: SimpleNamespace, outcomes: ModuleType
) -> None:
    replayed.other = outcomes.busy_outcome(cpus=8, machine=outcomes.machine(cpus=8))
    (line,) = (
        line
        for line in run("replay", trace, "--cpus", "8").output.splitlines()
        if "share of CPU time" in line
    )
    assert line.endswith("of 8 CPUs")


def test_validate_goes_on_after_a_capture_that_cannot_be_read(
    trace: Path, tmp_path: Path, replayed: SimpleNamespace
) -> None:
    missing = tmp_path / "missing"
    result = run("validate", missing, trace, "--format", "json")
    assert result.exit_code == 3
    captures = json.loads(result.stdout)["captures"]
    assert [c["path"] for c in captures] == [str(missing), str(trace)]
    assert "error" in captures[0]
    assert captures[1]["kmap"] == {"total": 2, "exact": 2}
    assert "missing" in result.stderr


def test_validate_threshold(trace: Path, replayed: SimpleNamespace) -> None:
    assert run("validate", trace, "--min-exact", "100").exit_code == 0
    replayed.validation.exact = 1
    assert run("validate", trace).exit_code == 0
    assert run("validate", trace, "--min-exact", "50").exit_code == 0
    below = run("validate", trace, "--min-exact", "50.1")
    assert below.exit_code == 1
    assert "below --min-exact" in below.stderr


def test_the_whole_way_without_any_file_of_the_machine(trace: Path) -> None:
    document = json.loads(run("report", trace, "--format", "json").stdout)
    check_outcome(document)
    assert (document["pool"]["maps"], document["pool"]["unmaps"]) == (2, 1)
    assert document["pool"]["still_used"] == 1
    assert document["findings"]
    assert any("no file" in words for words in document["assumptions"])
    assert json.loads(run("validate", trace, "--format", "json").stdout)["captures"]
    check_outcome(json.loads(run("replay", trace, "--cpus", "4", "--format", "json").stdout))
    for command in ("report", "validate"):
        assert run(command, trace).exit_code == 0


def test_hostile_names_reach_no_terminal(
    trace: Path, replayed: SimpleNamespace, outcomes: ModuleType
) -> None:
    from replay.outcome import Finding, Moment, Site
    from replay.rules.misses import Missed
    from replay.rules.trace import ProbeMisses

    evil = outcomes.HOSTILE
    replayed.outcome = outcomes.busy_outcome(
        sites=(Site(evil, evil, 1, 1, 1.0),),
        findings=(
            Finding(
                evil, evil, ProbeMisses((Missed(evil, 1, 1, 2, None),)), 1, Moment(1, 0, 1, evil)
            ),
        ),
        caveats=(evil,),
    )
    replayed.outcome.cost.by_cause[evil] = {"count": 1, "ns": 1.0, "share": 0.1}
    for arguments in (("report", trace), ("replay", trace, "--cpus", "2")):
        output = run(*arguments).output
        assert not set(output) & {"\x1b", "\x07", "\u202e"}
        assert "\\x1b[2J" in output
        assert "[red]bold[/red]" in output, "markup is text"
    document = run("report", trace, "--format", "json").output
    assert document.isascii()
    assert not set(document) & {"\x1b", "\x07"}


def test_report_tells_times_user_flushes_and_stacks(tmp_path: Path) -> None:
    left = "perl-77 [001] .....   100.0000"
    (tmp_path / "trace").write_text(
        f"{TRACE}{left}05: <stack trace>\n => kmap_high\n => minix_lookup+0x5/0x9\n"
        f"{left}06: tlb_flush: pages:-1 reason:flush on task switch (0)\n"
        f"{left}07: tlb_flush: pages:33 reason:local mm shootdown (3)\n"
    )
    run = CliRunner().invoke(app, ["report", "--format", "json", str(tmp_path / "trace")])
    document = json.loads(run.stdout)
    assert document["durations"] == [
        {"op": "kmap", "calls": 1, "total_ns": 1000, "median_ns": 1000.0, "p99_ns": 1000.0,
         "max_ns": 1000,
         "slowest": {"ts": 100_000_001_000, "cpu": 1, "pid": 77, "comm": "perl",
                     "site": "f+0x1"},
         "histogram": {"from_ns": [861.078], "counts": [1]}}
    ]  # fmt: skip
    assert document["user_flushes"] == [
        {"reason": "local mm shootdown", "count": 1, "full": 0, "pages": 33},
        {"reason": "task switch", "count": 1, "full": 1, "pages": 0},
    ]
    stack = "kmap_high<-minix_lookup+0x5"
    assert document["stacks"] == [{"op": "kmap", "stack": stack, "count": 1}]
    shown = CliRunner().invoke(app, ["report", str(tmp_path / "trace")]).stdout
    for line in ("Time in calls", "TLB flushes of user space", "Call stacks", "minix_lookup\n"):
        assert line in shown


def test_what_a_lost_signal_leaves_behind_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM calls back while it compiles; what is raised in there is dropped, and numba stumbles."""
    from hmtrace import __main__ as program

    def stumble(**_: object) -> None:
        msg = "no compiled object yet"
        raise RuntimeError(msg)

    monkeypatch.setattr(program, "_lost", [])
    monkeypatch.setattr("threading.Timer", lambda *_: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr("hmtrace.cli.app", stumble)
    assert program.run() == 70
    program._unraisable(SimpleNamespace(exc_type=SystemExit, exc_value=SystemExit(143)))  # type: ignore[arg-type]
    assert program.run() == 143
