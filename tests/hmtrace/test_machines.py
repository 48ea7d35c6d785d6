"""Sizes, machine files, cost files, output files."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console, Group

from collectors.errors import HmtraceError
from collectors.facts import Facts
from hmtrace.cli.machines import captured_machine, default_machine, read_machine, target_machine
from hmtrace.cli.output import write_atomically
from hmtrace.cli.sizes import human, parse_size
from hmtrace.report.machine import (
    layout_renderables,
    machine_in_words,
    machine_rows,
    machine_section,
)
from hmtrace.report.text import unglued
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.rules.machine import RamUnmapped, machine_findings

if TYPE_CHECKING:
    from types import ModuleType

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [("256M", 256 << 20), ("4g", 4 * GIB), ("1.5G", 3 * GIB // 2), ("64 MiB", 64 << 20)],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text, "--ram", low=0, high=64 * GIB) == expected
    assert parse_size(human(expected), "--ram", low=0, high=64 * GIB) == expected


@pytest.mark.parametrize(
    "text", ["", "M", "4GG", "-1G", "1e9", "0x100", "4097", "65G", "١G", "9" * 40, "\x1b[2J"]
)
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(HmtraceError) as caught:
        parse_size(text, "--ram", low=4096, high=64 * GIB)
    assert caught.value.exit_code == 2


def test_a_machine_file(tmp_path: Path) -> None:
    file = tmp_path / "imx6q.toml"
    file.write_text(
        'arch = "arm"\nsplit = "2g"\nram = [["1G", "3G"]]\ncpus = 4\nnr_cpus = 4\n'
        'vmalloc = "256M"\nconfig = ["CONFIG_SMP"]\n[costs]\ndsb = 70\n'
    )
    machine = read_machine(file)
    assert (machine.arch, machine.split, machine.cpus) == ("arm", "2g", 4)
    assert machine.ram == ((GIB, 3 * GIB),)
    assert machine.vmalloc == 256 << 20
    assert machine.config == {"SMP"}
    assert machine.costs.dsb == 70
    assert default_machine(None, file) == machine
    assert target_machine(machine, None, split="3g").split == "3g"


def test_the_line_of_a_machine_has_page_offset_where_no_split_has_it() -> None:
    ram = ((0x8000_0000, 0xC000_0000),)
    usual = Machine(arch="microblaze", ram=ram, nr_cpus=1)
    for machine, words, row in (
        (usual, "split 3g", "3g"),
        (replace(usual, page_offset=0xC000_0000), "split 3g", "3g"),
        (replace(usual, page_offset=0x8000_0000), "PAGE_OFFSET 80000000", "80000000"),
    ):
        layout = layout_of(machine)
        line = unglued(machine_in_words(machine, layout))
        assert line == f"microblaze, 1 CPU, {words}: 768 MiB lowmem + 256 MiB highmem"
        assert dict(machine_rows(machine, layout))["split"] == row
        page = Console(record=True, width=90, file=StringIO())
        page.print(Group(*machine_section(machine, layout)))
        (heading,) = (x for x in page.export_text().splitlines() if "Address space" in x)
        assert ("split 3g" in heading) is (row == "3g")
        assert f"PAGE_OFFSET {layout.page_offset:08x}" in heading


def test_a_machine_file_changes_the_captured_machine(tmp_path: Path, outcomes: ModuleType) -> None:
    file = tmp_path / "half.toml"
    file.write_text('ram = "512M"\n')
    base = outcomes.machine()
    machine = read_machine(file, base)
    assert machine.release == base.release
    assert machine.ram_bytes <= 512 << 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "arch"),
        ('arch = "z80"', "z80"),
        ('arch = "arm"\nslpit = "2g"', "did you mean 'split'"),
        ('arch = "arm"\nsplit = "5g"', "5g"),
        ('arch = "arm"\ncpus = "many"', "whole number"),
        ('arch = "arm"\ncpus = -1', "whole number"),
        ('arch = "arm"\npae = 1', "true or false"),
        ('arch = "arm"\nram = [[2, 1]]', "ascending"),
        ('arch = "arm"\nram = [1]', "ascending"),
        ('arch = "arm"\ncosts = 3', "a table"),
        ('arch = "arm"\n[costs]\ninvlpq = 1', "invlpg"),
        ('arch = "arm"\n[costs]\ninvlpg = -1', "invlpg"),
        ('arch = "arm"\nconfig = "SMP"', "list of names"),
        ('arch = "xtensa"\ncache_colours = 3', "powers of two"),
        ('arch = "sparc32"\nnr_cpus = 4294967296', "not between"),
        ('arch = "csky"\npkmap_slots = 65536', "runs into"),
        ('arch = "mips32"\npage_size = "8K"', "known: 4K, 16K, 64K"),
        ('arch = "powerpc32"\nlowmem_limit = "1G"', "at most 768M"),
        ("arch = ", "TOML"),
        ("\x00\xff", "TOML"),
        ("a." * 5000 + "b = 1", "line 1: this line is none of a description"),
        ("\n[" + ".".join("a" * 600) + "]", "line 2: this line is none"),
        (("a." * 90 + "b = 1\n") * 1000, "TOML"),
        ("a = " + "[" * 4000, "TOML"),
        ('arch = "arm"\ncpus = ' + "9" * 4095, "line 2"),
        ('arch = "arm"\ncpus = ' + "9" * 4000, "whole number"),
        ('arch = "arm"\ncpus = 0x' + "f" * 4000, "whole number"),
        ('arch = "arm"\nram = 0x' + "f" * 4000, "a size"),
        ('arch = "arm"\n[costs]\ninvlpg = 0x' + "f" * 4000, "invlpg"),
        ('arch = "i386"\nram = "2G"\ngeneration = "9g"', "unknown kernel generation '9g'"),
        ("#" * (1 << 18) + "\n", "too large"),
    ],
)
def test_wrong_machine_files(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(HmtraceError) as caught:
        read_machine(file)
    assert caught.value.exit_code == 2
    assert str(file) in str(caught.value)
    assert words in f"{caught.value} {caught.value.hint}"


def test_a_file_contradicting_the_option(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('arch = "arm"\nram = [["1G", "2G"]]\n')
    with pytest.raises(HmtraceError, match="contradicts"):
        default_machine("i386", file)


def test_a_pool_has_a_power_of_two_of_slots(outcomes: ModuleType) -> None:
    assert target_machine(outcomes.machine(), None, pkmap=128).pkmap_slots == 128
    with pytest.raises(HmtraceError, match="power of 2"):
        target_machine(outcomes.machine(), None, pkmap=500)


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, b"new", force=True)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("theirs")
    with pytest.raises(HmtraceError, match="exists"):
        write_atomically(target, b"ours", force=False)
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "ours", b"x", force=False)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("text", ["a." * 50_000 + "b = 1", "'a'.\"b\"." * 50 + "c = 1\n"])
def test_dotted_keys_take_no_memory(text: str, tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(text * 300)
    tracemalloc.start()
    try:
        with pytest.raises(HmtraceError):
            read_machine(file)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(HmtraceError, match="neither a preset nor a file") as caught:
        read_machine(Path("a" * 300))
    assert caught.value.exit_code == 2
    with pytest.raises(HmtraceError, match="cannot be read") as caught:
        read_machine(Path("a" * 300 + ".toml"))
    assert caught.value.exit_code == 2


MACHINE = b'arch = "i386"\nram = "2G"\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'arch = ["i386"]\n', "arch: expected a string"),
        (b"ram = " + b"[" * 900 + b"]" * 900, "is no TOML: nested too deep"),
        (MACHINE.decode().encode("utf-16"), "is no TOML: not all of it is UTF-8"),
    ],
)
def test_a_description_that_is_wrong_is_told_in_our_words(
    content: bytes, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "m.toml"
    file.write_bytes(content)
    with pytest.raises(HmtraceError) as caught:
        read_machine(file)
    assert (str(caught.value.message), caught.value.exit_code) == (words, 2)


def test_a_description_that_an_editor_of_windows_wrote(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_bytes(b"\xef\xbb\xbf" + MACHINE.replace(b"\n", b"\r\n"))
    assert read_machine(file).ram_bytes > 2000 << 20


def test_no_arena_is_proposed_where_none_fits(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_bytes(MACHINE + b'reservetop = "4G"\n')
    with pytest.raises(HmtraceError, match="leaves less than 64 MiB of lowmem") as caught:
        layout_of(read_machine(file))
    assert "vmalloc=0M" not in str(caught.value.hint)


def test_a_costs_file(tmp_path: Path) -> None:
    file = tmp_path / "costs.toml"
    capture = SimpleNamespace(facts=Facts())
    for text, words in (("= =", "lines look like"), ("\udcff", "lines look like"), (None, "None")):
        if text is None:
            file.unlink()
        else:
            file.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(HmtraceError) as caught:
            captured_machine(capture, file)  # type: ignore[arg-type]
        assert (caught.value.exit_code, caught.value.source) == (2, str(file))
        assert words in str(caught.value.hint)
    file.write_text("invlpg = 140\n[walk]\nvalue = 30.5\n")
    costs = captured_machine(capture, file)[0].costs  # type: ignore[arg-type]
    assert (costs.invlpg, costs.walk) == (140, 30.5)


def test_a_kernel_is_asked_for_by_its_version() -> None:
    base = default_machine("arm", None)
    for version, generation in (("4.19", "4.19"), ("4.1.52-v7", "4.1"), ("6.12.107", "6.12")):
        machine = target_machine(base, None, kernel=version)
        assert (machine.generation, machine.release) == (generation, version)
    with pytest.raises(HmtraceError, match="no version of a kernel") as caught:
        target_machine(base, None, kernel="bookworm")
    assert caught.value.exit_code == 2


def test_a_kernel_for_fewer_cpus_leaves_the_others_off() -> None:
    base = replace(default_machine("i386", None), cpus=4)
    assert target_machine(base, None, nr_cpus=2).cpus == 2
    machine = target_machine(base, None, nr_cpus=64, cpus=48)
    assert (machine.nr_cpus, machine.cpus) == (64, 48)
    below = layout_of(base).kmap_fix_bottom
    assert layout_of(machine).kmap_fix_bottom == below - 32 * 16 * 4096, "16 slots for each CPU"
    with pytest.raises(HmtraceError, match="built for 1 to 2") as caught:
        target_machine(base, None, nr_cpus=2, cpus=4)
    assert "--nr-cpus" in str(caught.value.hint)


def test_a_kernel_without_highmem_leaves_ram_alone() -> None:
    base = default_machine("arm", None)
    machine = target_machine(base, None, highmem=False)
    layout = layout_of(machine)
    assert (layout.highmem_bytes, layout.pkmap_slots) == (0, 0)
    (found,) = (f for f in machine_findings(machine, layout) if f.rule == "ram-unmapped")
    assert found.figures == RamUnmapped(256 << 20, 768 << 20, more=True)
    assert not [f for f in machine_findings(base, layout_of(base)) if f.rule == "ram-unmapped"]
    with pytest.raises(HmtraceError, match="has no HIGHMEM"):
        target_machine(default_machine("x86_64", None), None, highmem=True)


def test_options_of_the_kernel_are_added_and_gone(tmp_path: Path) -> None:
    base = Machine(arch="arm", ram=((GIB, 2 * GIB),), config=frozenset({"SMP", "HIGHPTE"}))
    file = tmp_path / "kasan.toml"
    file.write_text('config = ["+CONFIG_KASAN", "-HIGHPTE"]\n')
    assert read_machine(file, base).config == {"SMP", "KASAN"}
    file.write_text('config = ["+KASAN", "SMP"]\n')
    with pytest.raises(HmtraceError, match="some options have"):
        read_machine(file, base)


def test_what_remains_of_lowmem_is_without_the_shadow_of_kasan() -> None:
    """One byte for eight of the 768 MiB: 96 MiB of the 744 that remain without it."""
    plain = Machine(arch="arm", ram=((GIB, 2 * GIB),), config=frozenset({"SMP"}))
    for config, words in (
        (plain.config, "8 MiB mem_map, 16 MiB kernel image; 744 MiB remain"),
        (
            plain.config | {"KASAN"},
            "8 MiB mem_map, 16 MiB kernel image, 96 MiB KASAN's shadow; 648 MiB remain",
        ),
    ):
        machine = replace(plain, config=config)
        console = Console(file=StringIO(), width=120)
        console.print(Group(*layout_renderables(machine, layout_of(machine))))
        text = unglued(console.file.getvalue())  # type: ignore[attr-defined]
        assert words in text


def test_more_lowmem_than_kernels_have_is_called_by_its_page_offset() -> None:
    """Lowmem of sparc32 ends at fc000000: 2 GiB of it begin at 7c000000, 192 MiB at f0000000."""
    usual = Machine(arch="sparc32", ram=((0, 4 * GIB),), split="3.75g", nr_cpus=1)
    more = replace(usual, lowmem_limit=2 * GIB)
    assert "split 3.75g" in machine_in_words(usual, layout_of(usual))
    assert "PAGE_OFFSET 7c000000" in machine_in_words(more, layout_of(more))
