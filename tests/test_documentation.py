"""What the README and docs/ say is what the program does; ``make readme`` renews the outputs."""

from __future__ import annotations

import gzip
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collectors.probes import function_of, slot_of
from hmtrace import __version__
from hmtrace.cli import app
from replay.machine.generations import generation_for, is_older
from tests.expected import VALIDATIONS
from tests.readme import PAGES, README, REST, ROOT, Command, Workshop, blocks, commands

if TYPE_CHECKING:
    from _pytest.tmpdir import TempPathFactory

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PAGES}
FRONT = TEXTS["README.md"]
CONSOLES = [
    pytest.param(commands(body), id=f"{name}-{i}")
    for name, text in TEXTS.items()
    for i, body in enumerate(blocks(text, "console"), start=1)
]
COMMANDS = [c for text in TEXTS.values() for b in blocks(text, "console") for c in commands(b)]
BOARD = "/sys/kernel/tracing"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: TempPathFactory, shared_folder: Path) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("readme") / "hmtrace", shared_folder / "printed")


@pytest.mark.slow
@pytest.mark.parametrize("console", CONSOLES)
def test_commands_print_what_the_page_shows(shop: Workshop, console: list[Command]) -> None:
    place = shop.bench()
    for command in console:
        printed = shop.run(command.line, place)
        assert "Traceback" not in "\n".join(printed)
        expected = [line for line in command.shown if line != REST]
        kept = len(expected) if command.shortened else len(printed)
        assert printed[:kept] == expected, f"{command.line}: renew with make readme"
        assert command.agrees(printed)


def test_python_of_the_pages_runs(shop: Workshop) -> None:
    programs = [body for text in TEXTS.values() for body in blocks(text, "python")]
    assert programs
    for program in programs:
        place = shop.bench()
        (place / "example.py").write_text(program)
        printed = shop.run("python example.py && echo fine", place)
        assert printed[-1:] == ["fine"], printed


def test_machines_of_the_pages_are_drawn(shop: Workshop) -> None:
    boards = [body for text in TEXTS.values() for body in blocks(text, "toml")]
    assert boards
    for board in boards:
        place = shop.bench()
        (place / "board.toml").write_text(board)
        printed = shop.run("hmtrace layout --machine board.toml", place)
        assert printed[0].startswith("hmtrace layout"), printed


def test_every_command_and_option_of_the_program_is_told() -> None:
    import typer

    group = typer.main.get_command(app)
    pages = "\n".join(TEXTS.values())
    used = {c.line.split()[1] for c in COMMANDS if c.line.startswith("hmtrace ")}
    used |= {c.line.split("| hmtrace ")[1].split()[0] for c in COMMANDS if "| hmtrace" in c.line}
    assert group.commands.keys() <= used  # type: ignore[attr-defined]
    options = {
        option
        for command in group.commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert {o for o in options if not re.search(rf"(?<![\w-]){o}\b", pages)} <= {"--help"}


def test_outputs_fit_eighty_columns() -> None:
    lines = [
        line
        for text in TEXTS.values()
        for body in blocks(text, "console")
        for line in body.split("\n")
    ]
    assert [line for line in lines if len(line) > 80 and not line.startswith("$")] == []


def test_the_readme_is_one_screen_with_both_commands_and_a_report() -> None:
    lines = FRONT.split("\n")
    assert len(lines) <= 81
    head = "\n".join(lines[:20])
    assert "make demo" in head
    assert "make test" in head
    assert "$ hmtrace report fixtures/" in head


def test_every_page_is_reached_from_the_readme() -> None:
    """By links, over other pages where need be."""
    reached, waiting = set(), {README}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = re.findall(r"\]\(([^)#:]+)[^)]*\)", page.read_text())
        found = {(page.parent / target).resolve() for target in targets}
        waiting |= {path for path in found if path.suffix == ".md"} - reached
    written = {*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")}
    assert written - reached == set()


def test_the_demo_is_the_capture_of_the_first_report() -> None:
    makefile = (ROOT / "Makefile").read_text()
    demo = re.search(r"DEMO\s*\?=\s*(\S+)", makefile)
    assert demo is not None
    first = commands(blocks(FRONT, "console")[0])[0]
    assert first.line == f"hmtrace report {demo[1]}"


def test_make_knows_every_target() -> None:
    pages = "\n".join(TEXTS.values())
    named = set(re.findall(r"(?m)(?:`|^    )make ([a-z][a-z-]*)", pages))
    assert {"demo", "test", "lint", "bench", "readme"} <= named
    for target in sorted(named):
        subprocess.run(
            ["make", "-n", target], cwd=ROOT, check=True, capture_output=True, timeout=300
        )


def test_lines_for_the_board_are_shell_and_probe_what_is_known() -> None:
    scripts = [body for text in TEXTS.values() for body in blocks(text, "sh") if BOARD in body]
    assert scripts
    probes = 0
    for script in [text.replace("${l}", prefix) for text in scripts for prefix in ("", "local_")]:
        subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=300)
        for kind, symbol, rest in re.findall(
            r"^([pr])\d*:\w+/\w+ (\S+)(.*)$", script, re.MULTILINE
        ):
            function = function_of(symbol)
            assert function is not None, symbol
            for argument in re.findall(r"(\w+)=", rest):
                assert slot_of(function, argument, is_return=kind == "r") is not None, argument
            probes += 1
    assert probes >= 10


@pytest.mark.parametrize(
    ("uname", "version", "registers", "flush"),
    [
        ("i686", "#1 SMP", "%ax %dx %cx $stack1", "flush_tlb_all"),
        ("armv7l", "#1 PREEMPT", "%r0 %r1 %r2 %r3", "flush_tlb_all"),
        ("mips", "#1 PREEMPT", "%r4 %r5 %r6 %r7", "local_flush_tlb_all"),
        ("mips", "#1 SMP PREEMPT", "%r4 %r5 %r6 %r7", "flush_tlb_all"),
    ],
)
def test_lines_for_the_board_fill_a_capture_folder(
    tmp_path: Path, uname: str, version: str, registers: str, flush: str
) -> None:
    """Run on a made-up tracefs: nothing of the machine that runs the tests is changed."""
    board, capture = tmp_path / "tracing", tmp_path / "capture"
    for folder in ("events/hm", "events/sched/sched_switch", "per_cpu/cpu0"):
        (board / folder).mkdir(parents=True)
    for name in ("trace", "kprobe_profile", "per_cpu/cpu0/stats", "vmallocinfo", "trace_clock"):
        (board / name).write_text("something\n")
    script = next(body for body in blocks(TEXTS["docs/capture.md"], "sh") if BOARD in body)
    for there, here in (
        (BOARD, str(board)),
        ("/tmp/capture", str(capture)),
        ("$(uname -m)", uname),
        ("$(uname -v)", f"'{version}'"),
        ("/proc/sys/kernel/kptr_restrict", str(board / "kptr_restrict")),
        ("/proc/vmallocinfo", str(board / "vmallocinfo")),
        ("sleep 10", "true"),
        ("\necho > kprobe_events", "\ntrue"),  # a file keeps what was added, tracefs does not
    ):
        assert there in script
        script = script.replace(there, here)
    subprocess.run(["sh"], input=script, text=True, check=False, timeout=300, capture_output=True)
    probes = (board / "kprobe_events").read_text()
    size, align, start, end = registers.split()
    assert f"alloc_vmap_area size={size}:x32 align={align}:x32 vstart={start}:x32" in probes
    assert f"vend={end}:x32" in probes
    assert "vaddr=$retval:x32" in probes
    assert f"p:hm/flush_tlb_all {flush}\n" in probes
    assert (board / "tracing_on").read_text() == "0\n"
    assert (board / "kptr_restrict").read_text() == "0\n"  # put back
    assert gzip.decompress((capture / "trace.txt.gz").read_bytes()) == b"something\n"
    assert (capture / "stats").read_text() == "== cpu0\nsomething\n"
    assert (capture / "vmallocinfo.start").read_text() == "something\n"
    assert script.index("> tracing_on") < script.index("kprobe_events")  # off, before all else


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_folders_that_are_named_exist(page: str) -> None:
    inside = {p.name for p in ROOT.iterdir()}
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", TEXTS[page]):
        if name.split("/")[0] in inside:
            assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", TEXTS[page]):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_table_of_what_was_proven_has_the_figures_of_the_tests() -> None:
    rows = re.findall(r"(?m)^\|.*\| `fixtures/(\S+)` \| (.*) \|$", TEXTS["docs/support.md"])
    assert [name for name, _ in rows] == [*dict.fromkeys(name for name, _ in rows)]
    assert {name for name, _ in rows} == VALIDATIONS.keys()
    for name, cells in rows:
        expected = VALIDATIONS[name]
        flushes = expected["pool_flushes"]
        kinds = [expected["kmap"], expected["kmap_local"]]
        kinds.append({"total": flushes["observed"], "exact": flushes["matched"]})
        if "exact" in expected["vmap"]:
            kinds.append(expected["vmap"])
        for cell, kind in zip(cells.split(" | "), kinds, strict=False):
            shown = f"{kind['exact']:,} of {kind['total']:,}".replace(",", " ")
            assert cell == (shown if kind["total"] else "–"), f"{name} in docs/support.md"


def test_the_table_of_boards_counts_them() -> None:
    """A row for each generation, from its first release on, a column for each kind of machine."""
    boards = tomllib.loads((ROOT / "tests/replay/boards.toml").read_text())["board"]
    text = TEXTS["docs/support.md"]
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text[text.index("| kernel | i386 PAE | i386 | ARM | ARM LPAE | MIPS32 | P") :]
        .split("\n\n")[0]
        .splitlines()
    )
    arches = {"MIPS32": "mips32", "PowerPC": "powerpc32", "MicroBlaze": "microblaze"}
    arches |= {"SPARC": "sparc32"}
    counted: Counter[tuple[str, str]] = Counter()
    for board in boards:
        machine, release = board["machine"], board["machine"]["release"]
        name = "older" if is_older(release) else generation_for(release)
        kind = next((k for k, arch in arches.items() if arch == machine["arch"]), "")
        wide = machine.get("pae", False)
        if machine["arch"] == "i386":
            kind = "i386 PAE" if wide else "i386"
        elif machine["arch"] == "arm":
            kind = "ARM LPAE" if wide else "ARM"
        counted[name, kind] += 1
    told: Counter[tuple[str, str]] = Counter()
    for span, *cells in rows:
        first = span.split()[0]
        name = "older" if is_older(first) else generation_for(first)
        for kind, cell in zip(head[1:], cells, strict=True):
            told[name, kind] += int(cell or 0)
    assert +told == counted


def test_a_command_that_reads_fixtures_alone_is_run_once(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "hmtrace", tmp_path / "printed")
    place = shop.bench()
    lost, page = "hmtrace info fixtures/none; echo $?", "hmtrace info README.md; echo $?"
    told = shop.run(lost, place)
    assert told[0].startswith("hmtrace: fixtures/none: cannot be read")
    assert told[-1] == "3"
    (kept,) = (tmp_path / "printed").iterdir()
    (kept / "out").write_text("as it was\n")
    assert shop.run(lost, shop.bench()) == ["as it was", *told]
    assert "1" in shop.run("hmtrace info fixtures/none | grep -c was", place)
    for line in (page, "cat README.md | hmtrace info -", "hmtrace info fixtures/none -o x.json"):
        assert shop.run(line, place)
    assert len(list((tmp_path / "printed").iterdir())) == 1


def test_renewing_keeps_the_length_of_what_is_shown() -> None:
    command = Command("x", ("old", "older", REST))
    assert command.renewed(["a", "b", "c"]) == f"$ x\na\nb\n{REST}"
    assert command.renewed(["a", "b"]) == "$ x\na\nb"
    assert Command("x", ("old",)).renewed(["a", "b", "c"]) == "$ x\na\nb\nc"
    assert command.agrees(["old", "older", "new"])
    assert not command.agrees(["old", "older"])
    assert not Command("x", ("a",)).agrees(["a", "b"])


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert __version__ in text
    assert "## [Unreleased]" in text or f"## [{__version__}]" in text


def test_continuous_integration_runs_the_readmes_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make lint" in script
    assert "make test" in script
    assert (Path(ROOT / ".ci" / "run").stat().st_mode & 0o111) != 0
