"""Manual pages say what the commands say, in a language that groff and mandoc read alike."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from hmtrace.cli import tree
from hmtrace.manual import files, roff
from hmtrace.manual.pages import pages

if TYPE_CHECKING:
    from pathlib import Path

PAGES = pages("2026-01-31")
COMMANDS = {command.path.replace(" ", "-"): command for command in tree.root().walk()}
MACROS = {"TH", "SH", "PP", "TP", "EX", "EE", "ad"}
_ESCAPES = {r"\-": "-", r"\e": "\\", r"\(aq": "'", r"\(ga": "`", r"\(ha": "^", r"\(ti": "~"}


def read(page: str) -> str:
    """Words of a page without its macros, as a reader sees them."""
    text = " ".join(line for line in page.splitlines() if not line.startswith("."))
    text = re.sub(r"\\f[BIR]|\\[%&]", "", text)
    for escape, char in _ESCAPES.items():
        text = text.replace(escape, char)
    return text


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_all_of_its_command(name: str) -> None:
    command, text = COMMANDS[name], read(PAGES[name])
    assert text.startswith(f"{name} - ")
    assert command.synopsis in text
    for words in (*command.description, *command.examples):
        assert words in text
    for parameter in (*command.arguments, *command.options):
        assert parameter.help in text
        for option in (*parameter.names, *parameter.negations):
            assert option in text
        for choice in parameter.choices:
            assert choice in text
        if parameter.default:
            assert f"default: {parameter.default}" in text
    orders = re.findall(r"(?m)^\.(\S*)", PAGES[name])
    assert set(orders) <= MACROS | {'\\"'}
    assert PAGES[name].isascii()
    assert f'.TH {roff.literal(name.upper())} 1 "2026-01-31" ' in PAGES[name]


def test_the_first_page_tells_codes_variables_and_files() -> None:
    text = read(PAGES["hmtrace"])
    for words in (*tree.EXIT_CODES.values(), *tree.ENVIRONMENT.values(), *tree.FILES.values()):
        assert words in text
    assert set(PAGES) == set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "set_as"),
    [
        (".ko is no order", r"\&.ko is no order"),
        ("'x' neither", r"\&'x' neither"),
        (r"C:\n", r"C:\en"),
        ("≥ 3 µs …", ">= 3 us ..."),
        ("One. Two? Three", "One.\nTwo?\nThree"),
    ],
)
def test_prose_is_set_as_it_was_meant(words: str, set_as: str) -> None:
    assert roff.prose(words) == set_as


def test_a_full_stop_at_the_end_of_a_line_ends_no_sentence() -> None:
    lines = roff.prose("a" * 70 + " etc. and so on").splitlines()
    assert lines == ["a" * 70 + r" etc.\&", "and so on"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_warns_of_nothing() -> None:
    for device in ("utf8", "ascii"):
        done = subprocess.run(
            ["groff", "-man", f"-T{device}", "-ww", "-z"],
            input="".join(PAGES.values()), text=True, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stderr == ""


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_nothing(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / f"{name}.1").write_text(text)
    done = subprocess.run(
        ["mandoc", "-Tlint", *sorted(map(str, tmp_path.iterdir()))],
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_scripts_of_their_shells(shell: str) -> None:
    text = next(text for place, text in files().items() if shell in place and "man1" not in place)
    assert "_HMTRACE_COMPLETE" in text
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=text, text=True, check=True, timeout=60)


def test_zsh_completes_at_the_first_tab_too() -> None:
    lines = files()["share/zsh/site-functions/_hmtrace"].split("\n")
    assert lines[0] == "#compdef hmtrace"
    assert lines[-2:] == ['_hmtrace_completion "$@"', ""]
