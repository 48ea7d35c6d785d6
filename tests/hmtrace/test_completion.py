"""What Tab offers, asked as the scripts that --show-completion prints ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from hmtrace.cli import app, completion
from replay.machine.presets import presets
from tests import warm

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = ("numpy", "polars", "numba", "rich")
SHELLS = {
    "bash": {"COMP_WORDS": "{line}", "COMP_CWORD": "{at}"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "{line}"},
    "fish": {"_TYPER_COMPLETE_ARGS": "{line}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def offered(line: str, shell: str = "bash") -> list[str]:
    """Words offered at the end of a line."""
    at = str(len(line.split(" ")) - 1)
    asked = {name: text.format(line=line, at=at) for name, text in SHELLS[shell].items()}
    result = subprocess.run(
        warm.program(),
        env=os.environ | asked | {"_HMTRACE_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.stderr == ""
    return [word for word in result.stdout.split("\n") if word]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hmtrace rep", ["report", "replay"]),
        ("hmtrace re", ["report", "replay", "recorder"]),
        ("hmtrace replay x --pl", ["--placement"]),
        ("hmtrace replay x --split 3", ["3g", "3g_opt"]),
        ("hmtrace replay x --machine rpi4", ["rpi4-4g-lpae", "rpi4-8g-lpae"]),
        ("hmtrace replay x --machine l", ["list"]),
        ("hmtrace replay x --pkmap 1", ["1024", "128"]),
        ("hmtrace layout --arch mi", ["microblaze", "mips32"]),
        ("hmtrace layout --page-size 6", ["64K"]),
        ("hmtrace synth kmap-", ["kmap-deadlock", "kmap-leak"]),
        ("hmtrace synth mixed --kernel 6.1", ["6.1", "6.12"]),
        ("hmtrace synth mixed --arch ", ["i386", "arm"]),
        ("hmtrace report --format ", ["table", "json", "prometheus"]),
        ("hmtrace report fixt", []),  # none: the shell offers files
    ],
)
def test_words_in_bash(line: str, words: list[str]) -> None:
    assert offered(line) == words


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_what_a_name_means(shell: str) -> None:
    text = "\n".join(offered("hmtrace replay x --machine turris", shell))
    assert "turris-omnia-2g" in text
    assert "Armada 385" in text


def test_every_name_is_one_that_the_program_knows() -> None:
    assert dict(completion.arches(""))["csky"] == "C-SKY"
    shown = " ".join(CliRunner().invoke(app, ["layout", "--help"]).output.split())
    assert f"{', '.join(name for name, _ in completion.arches(''))}; i386" in shown
    assert completion.splits("") == [
        ("3g", "3 GiB for user space"),
        ("3g_opt", "2.75 GiB for user space; not with PAE"),
        ("2g", "2 GiB for user space"),
        ("2g_opt", "1.875 GiB (i386) or 1.75 GiB (arm) for user space; not with PAE"),
        ("1g", "1 GiB for user space"),
    ]
    sizes = ["4K", "8K", "16K", "64K", "256K"]
    assert [size for size, _ in completion.page_sizes("")] == sizes
    names = [name for name, _ in completion.machines("")]
    assert names == [*(preset.name for preset in presets()), "list"]


def test_completing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom hmtrace.cli import app, completion as c\n"
        "for f in (c.arches, c.splits, c.machines, c.scenarios, c.kernels): list(f(''))\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("shell", list(SHELLS))
def test_the_scripts_are_what_the_shell_reads(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = subprocess.run(
        [*warm.program(), "--show-completion", shell],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    path = tmp_path / "completion"
    path.write_text(script)
    subprocess.run([shell, "-n", str(path)], check=True, timeout=300)
    assert "_HMTRACE_COMPLETE" in script
