"""The recorder under dash and busybox, on a tree of plain files: what it does where things fail."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.facts import read_facts
from collectors.probes import FUNCTIONS, slot_of
from hmtrace.cli import app
from hmtrace.recorder import recorder_script
from hmtrace.recorder.render import entry_words, recorded, result_words
from tests.hmtrace.recorder.board import GROUP, PAGE, VMALLOCINFO, Board, shells

SHELLS = ("dash", "busybox")
OTHER_SHELLS = ("bash", "mksh", "yash")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    found = shells()
    if request.param not in found:
        pytest.skip(f"{request.param} is not installed")
    return found[request.param]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def test_command_writes_the_script(tmp_path: Path) -> None:
    target = tmp_path / "hmrecord.sh"
    assert CliRunner().invoke(app, ["recorder", "-o", str(target)]).exit_code == 0
    assert target.read_text() == recorder_script()


def test_nothing_is_left_to_be_filled_in() -> None:
    assert not re.search(r"@[A-Z]+@", recorder_script())


def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    script = tmp_path / "hmrecord.sh"
    script.write_text(recorder_script())
    done = subprocess.run([checker, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_every_value_that_is_read_has_its_place_in_an_event() -> None:
    for function in recorded():
        code = FUNCTIONS.index(function)
        for words, is_return in ((entry_words(function), False), (result_words(function), True)):
            names = [word.partition("=")[0].strip("$") for word in words]
            slots = [slot_of(code, name, is_return=is_return) for name in names]
            assert slots == list(range(len(names))), function.name


def test_capture_of_two_cpus(board: Board, shell: list[str]) -> None:
    status, out, said = board.run(shell, "-t", "2")
    assert (status, out) == (0, b""), said
    files = board.archive()
    assert files["trace_pipe_raw.cpu0"] == files["trace_pipe_raw.cpu1"] == PAGE
    assert files["vmallocinfo.start"].decode() == VMALLOCINFO
    assert all(files.values())
    assert files["formats.sched"].startswith(b"name: sched_switch\n")
    assert b"VmPeak:\t    2000 kB" in files["status.end"]
    noted = board.noted()
    assert "snapshot agreed=yes readings=2" in noted
    assert "stopped time" in noted
    assert "began_cs 10000" in noted
    assert "ended_cs 10200" in noted
    assert board.left() == []


@pytest.mark.parametrize("name", OTHER_SHELLS)
def test_other_shells(board: Board, name: str) -> None:
    if name not in shells():
        pytest.skip(f"{name} is not installed")
    status, _, said = board.run(shells()[name], "--", "true")
    assert status == 0, said
    assert board.archive()["trace_pipe_raw.cpu0"] == PAGE
    assert board.archive()["vmallocinfo.start"].decode() == VMALLOCINFO
    assert {"command_status 0", "stopped command"} <= set(board.noted())
    with _started(board, shells()[name]) as running:
        running.send_signal(signal.SIGTERM)
        _, out = running.communicate(timeout=30)
    assert running.returncode == 0, out
    assert board.left() == []


def test_tools_of_toybox(board: Board) -> None:
    if not shutil.which("toybox") or "mksh" not in shells():
        pytest.skip("toybox or mksh is not installed")
    known = subprocess.run(["toybox"], capture_output=True, text=True, check=True).stdout.split()
    tools = {"cat", "date", "df", "grep", "ls", "rm", "mv", "tar", "wc"} & set(known)
    assert {"cat", "grep", "tar"} <= tools
    for name in tools:
        board.command(name, f'exec {shutil.which("toybox")} {name} "$@"')
    status, _, said = board.run(shells()["mksh"], "-t", "1")
    assert status == 0, said
    assert board.archive()["trace_pipe_raw.cpu0"] == PAGE
    assert board.left() == []


def test_probes_of_the_machine(board: Board, shell: list[str]) -> None:
    assert board.run(shell, "-t", "1")[0] == 0
    lines = board.archive()["kprobe_events"].decode().splitlines()
    assert f"p:{GROUP}/kmap_high kmap_high page=%ax:x32" in lines
    assert (
        f"r256:{GROUP}/alloc_vmap_area_ret alloc_vmap_area va=$retval:x32 "
        "va_start=+0($retval):x32 va_end=+4($retval):x32" in lines
    )
    assert not [line for line in lines if "kmap_atomic" in line]  # kmap_local is there
    instance = board.noted()
    assert "filter kunmap_local vaddr >= 0xff000000" in instance


@pytest.mark.parametrize(
    ("machine", "definition"),
    [
        ("armv7l", "start=%r0:x32 end=%r1:x32 caller=%lr:x32"),
        ("mips", "start=%r4:x32 end=%r5:x32 caller=%r31:x32"),
        ("ppc", "start=%gpr3:x32 end=%gpr4:x32 caller=%link:x32"),
        ("arc", "start=%r0:x32 end=%r1:x32 caller=%blink:x32"),
        ("csky", "start=%a0:x32 end=%a1:x32 caller=%lr:x32"),
        ("other", "start=$arg1:x32 end=$arg2:x32"),
    ],
)
def test_registers_of_other_machines(board: Board, machine: str, definition: str) -> None:
    board.command("uname", f"case $1 in -m) echo {machine} ;; *) echo Linux x ;; esac")
    assert board.run(next(iter(shells().values())), "-t", "1")[0] == 0
    line = f"p:{GROUP}/flush_tlb_kernel_range flush_tlb_kernel_range {definition}\n"
    assert line in board.archive()["kprobe_events"].decode()


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("ppc", "architecture powerpc: arguments in %gpr3 %gpr4 %gpr5 %gpr6"),
        ("mips", "architecture mips: arguments in %r4 %r5 %r6 %r7"),
        ("csky", "architecture csky: arguments in %a0 %a1 %a2 %a3"),
        ("arc", "architecture arc: arguments in %r0 %r1 %r2 %r3"),
    ],
)
def test_check_on_other_machines(board: Board, machine: str, said: str) -> None:
    board.command("uname", f"case $1 in -m) echo {machine} ;; *) echo Linux x ;; esac")
    status, out, err = board.run(next(iter(shells().values())), "--check")
    assert status == 0
    assert said in out.decode()
    assert ("can panic under load" in err) == (machine == "mips")
    assert board.left() == []


def test_arm_keeps_unmaps_of_the_pool(board: Board, shell: list[str]) -> None:
    board.command("uname", "case $1 in -m) echo armv7l ;; *) echo Linux x ;; esac")
    board.put(
        "proc/kallsyms",
        board.text("proc/kallsyms").replace("c0000000 T _text", "80008000 T _stext"),
    )
    assert board.run(shell, "-t", "1")[0] == 0
    assert "filter kunmap_local vaddr >= 0xff000000 || vaddr < 0x80000000" in board.noted()


def test_names_that_compilers_and_later_kernels_gave(board: Board, shell: list[str]) -> None:
    symbols = board.text("proc/kallsyms")
    symbols = symbols.replace(" alloc_vmap_area\n", " alloc_vmap_area.constprop.0\n")
    symbols = symbols.replace(" __vmalloc_node_range\n", " nothing\n")
    symbols = re.sub(r"\w+ T kmap_high\n", "", symbols)
    board.put("proc/kallsyms", symbols)
    assert board.run(shell, "-t", "1")[0] == 0
    lines = board.archive()["kprobe_events"].decode()
    assert f"p:{GROUP}/alloc_vmap_area alloc_vmap_area.constprop.0 size=%ax:x32" in lines
    assert f"p:{GROUP}/vmalloc __vmalloc_node_range_noprof size=%ax:x32" in lines
    assert f"p:{GROUP}/kmap_high " not in lines
    assert "missing kmap_high" in board.noted()


def test_kernel_with_kmap_atomic_alone(board: Board, shell: list[str]) -> None:
    symbols = re.sub(
        r"\w+ T (__kmap_local\w+|kmap_atomic_high_prot)\n", "", board.text("proc/kallsyms")
    )
    board.put("proc/kallsyms", symbols)
    assert board.run(shell, "-t", "1")[0] == 0
    lines = board.archive()["kprobe_events"].decode()
    assert f"p:{GROUP}/kmap_atomic_high_prot kmap_atomic_prot page=%ax:x32" in lines


def test_minimal_has_no_local_mappings(board: Board, shell: list[str]) -> None:
    assert board.run(shell, "--minimal", "-t", "1")[0] == 0
    lines = board.archive()["kprobe_events"].decode()
    assert "kmap_local" not in lines
    assert f"r64:{GROUP}/kmap_high_ret" in lines
    assert "formats.sched" not in board.archive()


def test_no_kprobes(board: Board, shell: list[str]) -> None:
    (board.tracing / "kprobe_events").unlink()
    status, _, said = board.run(shell, "-t", "1")
    assert status == 3
    assert "no kprobe events (CONFIG_KPROBE_EVENTS)" in said
    board.put("sys/kernel/tracing/kprobe_events", "")
    assert board.left() == []


def test_kernel_that_refuses_all_probes(board: Board, shell: list[str]) -> None:
    board.refuse("sys/kernel/tracing/kprobe_events")
    status, _, said = board.run(shell, "-t", "1")
    assert status == 3
    assert "the kernel takes no probe" in said
    assert f"refused by the kernel: p:{GROUP}/kmap_high kmap_high page=%ax:x32" in said
    (board.tracing / "kprobe_events").rmdir()
    board.put("sys/kernel/tracing/kprobe_events", "")
    assert board.left() == []


def test_tracefs_that_cannot_be_written(board: Board, shell: list[str]) -> None:
    board.refuse("instance/tracing_on")
    status, _, said = board.run(shell, "-t", "1")
    assert status == 3
    assert "cannot be written" in said
    assert board.left() == []


def test_tracefs_that_nobody_mounted(board: Board, shell: list[str]) -> None:
    board.tracing.rename(board.root / "tracefs")
    board.tracing.mkdir()
    status, _, said = board.run(shell, "-t", "1")
    assert status == 3
    assert "no tracefs" in said
    board.command("mount", 'for where; do :; done; /bin/cp -r "$HMRECORD_ROOT/tracefs/." "$where"')
    board.command("umount", 'echo "$1" >"$HMRECORD_ROOT/unmounted"')
    status, _, said = board.run(shell, "-t", "1")
    assert status == 0, said
    assert board.text("unmounted").strip() == str(board.tracing)
    assert board.left() == []


def test_disk_that_fills_up(board: Board, shell: list[str]) -> None:
    board.command("dd", "exit 1")
    status, _, said = board.run(shell, "-t", "2")
    assert status == 1
    assert "the disk is full: the end of the trace is missing" in said
    assert "kprobe_events" in board.archive()
    assert board.left() == []


def test_archive_without_room_stays_a_folder(board: Board, shell: list[str]) -> None:
    board.command("tar", "exit 1")
    status, _, said = board.run(shell, "-t", "1")
    assert status == 1
    (folder,) = (board.root / "out").glob("hmrecord.[0-9]*")
    assert f"the capture stays as the folder ./{folder.name}" in said
    assert (folder / "trace_pipe_raw.cpu0").read_bytes() == PAGE
    assert [path.name for path in (board.root / "out").glob("*.tar.gz*")] == []
    shutil.rmtree(folder)
    assert board.left() == []


@pytest.mark.parametrize("program", ["tar", "gzip"])
def test_failure_of_what_packs_is_told(board: Board, shell: list[str], program: str) -> None:
    board.command(program, f'/bin/{program} "$@" | head -c 200; exit 1')
    status, out, said = board.run(shell, "-o", "-", "-t", "1")
    assert status == 3
    assert out  # what came is no capture, and only the status tells
    assert "the capture could not be written to stdout" in said
    assert board.left() == []
    status, _, said = board.run(shell, "-o", "cap.tgz", "-t", "1")
    assert status == 1
    assert "no room for cap.tgz" in said
    (folder,) = (board.root / "out").glob("hmrecord.[0-9]*")
    assert [path.name for path in (board.root / "out").glob("cap*")] == []
    shutil.rmtree(folder)
    assert board.left() == []


@pytest.mark.parametrize("also_stderr", [False, True])
def test_reader_that_goes_away(board: Board, shell: list[str], *, also_stderr: bool) -> None:
    board.put("proc/iomem", random.Random(1).randbytes(1 << 20))  # more than a pipe holds
    with board.start(shell, "-o", "-", "-t", "1") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = b""
        if also_stderr:  # as when ssh is cut
            running.stderr.close()
        else:
            said = running.stderr.read()
        assert running.wait(timeout=60) == 3
    assert also_stderr or b"could not be written to stdout" in said
    assert board.left() == []


def test_connection_that_is_cut(board: Board, shell: list[str]) -> None:
    board.put("proc/iomem", random.Random(1).randbytes(1 << 20))
    with _started(board, shell, "-o", "-") as running:
        for pipe in (running.stdout, running.stderr):
            assert pipe is not None
            pipe.close()
        running.send_signal(signal.SIGHUP)
        assert running.wait(timeout=60) == 3
    assert board.left() == []


def test_size_ends_the_recording(board: Board, shell: list[str]) -> None:
    big = "entries: 9000\noverrun: 0\ncommit overrun: 0\nbytes: 20000000\ndropped events: 0\n"
    board.put("instance/per_cpu/cpu0/stats", big)
    status, _, said = board.run(shell, "--max-size", "4K", "-t", "500")
    assert status == 1
    assert "ended early: the trace has 4 kB (--max-size)" in said
    assert "stopped size" in board.noted()


def test_what_buffers_hold_counts_for_the_size(board: Board, shell: list[str]) -> None:
    some = "entries: 9000\noverrun: 0\ncommit overrun: 0\nbytes: 200000\ndropped events: 0\n"
    board.put("instance/per_cpu/cpu0/stats", some)
    assert board.run(shell, "--max-size", "100K", "-t", "500")[0] == 1
    assert "stopped size" in board.noted()


def test_losses_are_said(board: Board, shell: list[str]) -> None:
    stats = r"entries: 0\noverrun: 5\ncommit overrun: 2\nbytes: 0\ndropped events: 1\n"
    board.command("dd", f'/bin/cat "${{1#if=}}"; printf "{stats}" >"$(dirname "${{1#if=}}")/stats"')
    status, _, said = board.run(shell, "-t", "1")
    assert status == 1
    assert "16 events were lost" in said  # on each of two CPUs
    assert "(cpu0 8 cpu1 8)" in said
    assert "lost 16 cpu0 8 cpu1 8" in board.noted()


def test_recording_of_nothing_is_said(board: Board, shell: list[str]) -> None:
    for cpu in ("cpu0", "cpu1"):
        board.put(f"instance/per_cpu/{cpu}/stats", "entries: 0\nbytes: 0\nread events: 0\n")
    status, _, said = board.run(shell, "-t", "1")
    assert status == 1
    assert "nothing was recorded: no function with a probe was called" in said
    assert board.left() == []


def test_areas_that_cannot_be_read(board: Board, shell: list[str]) -> None:
    (board.root / "proc/vmallocinfo").unlink()
    status, _, said = board.run(shell, "-t", "1")
    assert status == 1
    assert "no /proc/vmallocinfo: areas at the start are not known" in said


def test_areas_that_never_stand_still(board: Board, shell: list[str]) -> None:
    changes = Path("/proc/self/io")  # it counts bytes read, these too
    if not changes.exists():
        pytest.skip("this kernel counts no bytes")
    (board.root / "proc/vmallocinfo").unlink()
    (board.root / "proc/vmallocinfo").symlink_to(changes)
    status, _, said = board.run(shell, "-t", "1")
    assert status == 1
    assert "areas at the start are not certain" in said
    assert "snapshot agreed=no readings=10" in board.noted()


def test_second_recorder_leaves_the_first_alone(board: Board, shell: list[str]) -> None:
    shutil.copytree(board.root / "instance", board.tracing / "instances" / GROUP)
    board.put("sys/kernel/tracing/kprobe_events", f"p:{GROUP}/vfree vfree\n")
    board.put("run/hmrecord.state", "1 . . .\n")
    status, _, said = board.run(shell, "-t", "1")
    assert status == 3
    assert "another recorder is running" in said
    assert board.left() == [f"{GROUP}/vfree", GROUP, "hmrecord.state"]


def test_another_tracer_is_told_of(board: Board, shell: list[str]) -> None:
    board.put("sys/kernel/tracing/current_tracer", "function\n")
    board.put("sys/kernel/tracing/events/enable", "X\n")
    (board.tracing / "instances/perfetto").mkdir()
    status, _, said = board.run(shell, "-t", "1")
    assert status == 0
    assert "the tracer function is active too" in said
    assert "events are enabled in the top buffer" in said
    assert "another trace instance: perfetto" in said
    assert board.text("sys/kernel/tracing/current_tracer") == "function\n"


def test_command_ends_the_recording(board: Board, shell: list[str]) -> None:
    status, out, said = board.run(shell, "-o", "-", "--", "sh", "-c", "echo hello; exit 4")
    assert status == 0, said
    assert "hello" in said
    assert out[:2] == b"\x1f\x8b"
    (board.root / "out/hmrecord.tar.gz").write_bytes(out)
    assert {"command_status 4", "stopped command"} <= set(board.noted())
    assert board.left() == []


def test_capture_as_a_folder(board: Board, shell: list[str]) -> None:
    status, _, said = board.run(shell, "-o", "there/", "-t", "1")
    assert status == 0, said
    folder = board.root / "out/there"
    assert (folder / "trace_pipe_raw.cpu0").read_bytes() == PAGE
    status, _, said = board.run(shell, "-o", "there/", "-t", "1")
    assert (status, "there is not empty" in said) == (3, True)
    assert (folder / "trace_pipe_raw.cpu0").exists()
    assert board.left() == []


def test_archive_that_is_not_packed(board: Board, shell: list[str]) -> None:
    assert board.run(shell, "-o", "cap.tar", "-t", "1")[0] == 0
    with tarfile.open(board.root / "out/cap.tar", "r:") as packed:
        assert any(name.endswith("/recorder") for name in packed.getnames())


def test_script_comes_through_a_pipe(board: Board, shell: list[str]) -> None:
    done = subprocess.run(
        [*shell, "-s", "--", "-o", "-", "-t", "1"],
        input=board.script().encode(),
        cwd=board.root / "out",
        env={"PATH": "/usr/bin:/bin", "HMRECORD_ROOT": str(board.root)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout[:2] == b"\x1f\x8b"
    assert board.left() == []


def test_overhead_is_measured(board: Board, shell: list[str]) -> None:
    status, _, said = board.run(shell, "--overhead", "--", "true")
    assert status == 0, said
    assert re.search(r"overhead: without \d+ ms and \d+ ms, recorded \d+ ms", said)
    noted = {line.partition(" ")[0] for line in board.noted()}
    assert {"before_cs", "after_cs", "recorded_cs"} <= noted


def test_counters_of_the_pool_where_symbols_name_them(board: Board, shell: list[str]) -> None:
    data = "d1000000 b last_pkmap_nr.1\nd1000800 b pkmap_count\nd1001800 b other\n"
    board.put("proc/kallsyms", board.text("proc/kallsyms") + data)
    line = (
        " cat-1 [000] d... 1.0: slots512: (uptime_proc_show+0x0/0x9) last=43 c0={0,1,2} c64={1}\n"
    )
    board.put("instance/trace", line)
    assert board.run(shell, "-t", "1")[0] == 0
    files = board.archive()
    lines = (board.tracing / "kprobe_events").read_text()
    assert (
        f"p:{GROUP}_pool/slots512 uptime_proc_show last=@last_pkmap_nr.1:u32 "
        "c0=@pkmap_count+0:u32[64] c64=@pkmap_count+256:u32[64] " in lines
    )
    assert f"p:{GROUP}_pool/slots1024 uptime_proc_show c512=@pkmap_count+2048:u32[64]" in lines
    found = read_facts({"pool_state": files["pool_state"]}).snapshot()
    assert found.pool_state == (43, ((1, 1, None), (2, 2, None), (64, 1, None)))
    assert board.left() == []


def _text(board: Board, shell: list[str], *words: str) -> tuple[int, str]:
    """Record one event as text: status, stderr."""
    event = f"echo a line >{board.tracing}/instances/{GROUP}/trace; sleep 0.2"
    status, _, said = board.run(shell, *words, "--", "/bin/sh", "-c", event)
    return status, said


def test_text_where_pages_cannot_be_had(board: Board, shell: list[str]) -> None:
    board.put("instance/events/header_page", "nothing\n")
    status, said = _text(board, shell)
    assert status == 0, said
    assert "recorded as text" in said
    assert board.archive()["trace.txt"] == b"a line\n"
    assert board.left() == []


def test_text_ends_before_a_buffer_is_full(board: Board, shell: list[str]) -> None:
    board.put("instance/per_cpu/cpu1/stats", "entries: 900\nbytes: 44000\n")
    status, _, said = board.run(shell, "--text", "--buffer", "64K", "-t", "500")
    assert status == 1
    assert "ended early: text is what buffers of 64 kB hold" in said
    assert {"stopped buffer", "lost 0"} <= set(board.noted())


def test_text_that_the_disk_has_no_room_for(board: Board, shell: list[str]) -> None:
    board.command("cat", 'case $1 in */trace) exit 1 ;; esac; exec /bin/cat "$@"')
    status, said = _text(board, shell, "--text")
    assert status == 1
    assert "the disk is full: the end of the trace is missing" in said
    assert board.left() == []


def test_size_of_the_buffers(board: Board, shell: list[str]) -> None:
    assert board.run(shell, "--buffer", "3M", "-t", "1")[0] == 0
    assert "buffer_kb 3072" in board.noted()


@pytest.mark.parametrize("words", [["-t"], ["-t", "x"], ["-t", "1", "--", "true"], ["--overhead"],
                                   ["--max-size", "big"], ["--max-size", "999999999999G"],
                                   ["--buffer", "k"], ["--buffer", "0"], ["--buffer", "08K"],
                                   ["-t", "08"], ["what"], ["-o", ""]])  # fmt: skip
def test_wrong_usage(board: Board, shell: list[str], words: list[str]) -> None:
    status, _, said = board.run(shell, *words)
    assert status == 2
    assert said
    assert board.left() == []


def test_check_says_what_is_missing(board: Board, shell: list[str]) -> None:
    board.put("proc/kallsyms", "c0000000 T _text\nc0000001 T vmap\n")
    status, out, said = board.run(shell, "--check")
    assert status == 0, said
    text = out.decode()
    assert "architecture i386: arguments in %ax %dx %cx $stack1" in text
    assert "  yes  vmap\n" in text
    assert "  no   kmap_high\n" in text
    assert "no tracepoint vmalloc/alloc_vmap_area" in text
    assert board.left() == []


def _started(board: Board, shell: list[str], *words: str) -> subprocess.Popen[bytes]:
    """A recorder that records and does not end."""
    board.command("sleep", "exec /bin/sleep 0.05")
    running = board.start(shell, *words, "-t", "100")
    deadline = time.monotonic() + 30
    while not list(board.root.glob("*/hmrecord.*/kprobe_profile.start")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return running


def test_signal_keeps_what_was_recorded(board: Board, shell: list[str]) -> None:
    with _started(board, shell) as running:
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 0, said
    assert "stopped signal" in board.noted()
    assert board.left() == []


def test_leftovers_of_a_killed_one_are_removed(board: Board, shell: list[str]) -> None:
    with _started(board, shell) as running:
        assert board.run(shell, "--remove")[0] == 3  # it runs
        running.kill()
    assert GROUP in board.left()
    status, _, said = board.run(shell, "--remove")
    assert status == 0, said
    (folder,) = (board.root / "out").glob("hmrecord.[0-9]*")
    assert f"but what it had recorded: {board.root}/out/./{folder.name}" in said
    assert board.left() == [folder.name]


@pytest.mark.slow
def test_interrupted_at_each_step(shell: list[str], tmp_path: Path) -> None:
    board = Board(tmp_path / "board", steps=True)
    assert board.run(shell, "-t", "2")[0] == 0
    steps = board.text("steps").count("\n")
    assert steps > 40
    for number in range(1, steps, 7):
        other = Board(tmp_path / str(number), steps=True)
        other.put("stop-at", f"{number}\n")
        status, _, said = other.run(shell, "-t", "2")
        if "stays as the folder" in said:  # it was being packed: what was recorded is kept
            (folder,) = (other.root / "out").glob("hmrecord.[0-9]*")
            assert (folder / "trace_pipe_raw.cpu0").read_bytes() == PAGE
            shutil.rmtree(folder)
        assert other.left() == [], (number, said)
        assert status in (0, 1, 3), (number, said)
        whole = (other.root / "out/hmrecord.tar.gz").exists()
        assert whole == (status != 3), (number, status, said)
        assert not (other.root / "out/hmrecord.tar.gz.part").exists()
