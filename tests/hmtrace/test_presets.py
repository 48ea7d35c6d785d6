"""Presets: every one loads and lays out as arithmetic, or the board's boot log, says."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from hmtrace.cli import app
from hmtrace.cli.machines import (
    captured_machine,
    default_machine,
    read_machine,
    target_machine,
)
from hmtrace.cli.presets import costs_file, machine_file
from replay.machine.costs import Costs
from replay.machine.cpus import cpu_costs
from replay.machine.layout import layout_of
from replay.machine.presets import presets
from tests.opened import opened

MIB = 1 << 20
PC_HOLE = 1 + 0x100 - 0x9F
"""Frames of a PC's first MiB without RAM: the first, and from 636 KiB on."""

# lowmem and highmem in MiB. ARM, 3G split, vmalloc=240M (the default): 768 MiB from the start of
# RAM, the rest is highmem. i386 with NR_CPUS 32: MAXMEM 0x36bfe pages (0x36ffe with PAE), as
# booted kernels print it. The others: the size of the segment that is mapped directly.
EXPECTED = {
    "ecx2000-16g-lpae": (768, 4088 - 768 + 12288),
    "gr740-256m": (192, 64),
    "hsdk-2g-pae40": (1024, 1024),
    "imx6q-wandboard-2g": (768, 1280),
    "jetson-tk1-2g-lpae": (768, 1280),
    "kc705-1g": (128, 768),
    "mt7621-512m": (448, 64),  # lowmem ends at 512 MiB, 64 of them are a hole
    "odroid-xu4-2g": (768, 0x7EA00000 / MIB - 768),
    "p2020rdb-1g": (768, 256),
    "pc-2g": ((0x36BFE - PC_HOLE) / 256, (0x7FFF0 - 0x36BFE) / 256),
    "pc-4g-pae": ((0x36FFE - PC_HOLE) / 256, (0xBFFE0 - 0x36FFE) / 256 + 1024),
    "rpi2-1g": (768, 948 - 768),
    "rpi3-1g": (768, 948 - 768),
    "rpi4-4g-lpae": (768, 948 - 768 + 3008),
    "rpi4-8g-lpae": (768, 948 - 768 + 3008 + 4096),
    "sama7d65-1g": (768, 256),
    "turris-omnia-2g": (768, 1280),
}


def test_every_preset_is_expected():
    assert {preset.name for preset in presets()} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_preset(name):
    machine = default_machine(None, Path(name))
    layout = layout_of(machine)
    low, high = EXPECTED[name]
    assert layout.lowmem_bytes == low * MIB
    assert layout.highmem_bytes == high * MIB
    assert machine.cpus <= machine.nr_cpus


def test_every_preset_says_where_it_is_from():
    for preset in presets():
        assert preset.title
        assert preset.source
        assert all(isinstance(line, str) and line for line in preset.source)


FIXTURES = Path(__file__).parents[2] / "fixtures"


@cache
def drawn(name):
    machine = default_machine(None, Path(name))
    return machine, layout_of(machine)


@pytest.mark.parametrize(
    "capture", sorted(path.name for path in FIXTURES.iterdir() if (path / "version").exists())
)
def test_a_preset_is_the_same_machine_beside_every_capture(capture):
    """What `replay --machine` takes is what `layout --machine` draws."""
    captured, _ = captured_machine(opened(capture)[0], None)
    for preset in presets():
        beside = target_machine(captured, Path(preset.name))
        assert (beside, layout_of(beside)) == drawn(preset.name), preset.name


@pytest.mark.parametrize("name", ["imx6q-wandboard-2g", "sama7d65-1g"])
def test_replay_and_layout_say_the_same_of_a_preset(name):
    arguments = ["--machine", name, "--format", "json"]
    capture = str(FIXTURES / "arm-61-1g-minix")
    replayed = CliRunner().invoke(app, ["replay", capture, *arguments])
    drawn = CliRunner().invoke(app, ["layout", *arguments])
    assert json.loads(replayed.stdout)["machine"] == json.loads(drawn.stdout)["machine"]


def test_a_file_without_ram_changes_the_captured_machine(tmp_path):
    base = dataclasses.replace(default_machine("arm", None), vmalloc=512 * MIB, cpus=4)
    file = tmp_path / "more.toml"
    file.write_text('arch = "arm"\ncpus = 2\n')
    assert read_machine(file, base) == dataclasses.replace(base, cpus=2)
    file.write_text('arch = "arm"\ncpus = 2\nram = "2G"\n')
    assert read_machine(file, base) == default_machine(None, file)


def test_costs_of_the_capture_stay():
    base = default_machine("arm", None)
    base = dataclasses.replace(base, costs=base.costs.with_values({"sleep": 77.0}, source="here"))
    assert read_machine(Path("turris-omnia-2g"), base).costs == base.costs


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pc-2g").write_text('arch = "arm"\nram = [["1G", "2G"]]\n')
    assert machine_file(Path("pc-2g")) == Path("pc-2g")
    assert read_machine(Path("pc-2g")).arch == "arm"


def test_neither_preset_nor_file():
    with pytest.raises(HmtraceError, match="neither a preset nor a file") as caught:
        read_machine(Path("turris-omnia"))
    assert "turris-omnia-2g" in caught.value.hint
    with pytest.raises(HmtraceError, match="cannot be read"):
        read_machine(Path("nowhere/turris.toml"))


def test_the_list():
    run = CliRunner().invoke
    result = run(app, ["layout", "--machine", "list", "--format", "json"])
    document = json.loads(result.stdout)
    assert document["schema"] == "hmtrace/presets/1"
    assert [entry["name"] for entry in document["presets"]] == sorted(EXPECTED)
    shown = run(app, ["layout", "--machine", "list"]).stdout
    assert all(name in shown for name in EXPECTED)


@pytest.mark.parametrize(("name", "full"), [("gr740-256m", True), ("turris-omnia-2g", False)])
def test_no_more_is_said_to_wait_for_a_purge_than_the_arena_holds(name, full):
    """LEON: 96 MiB may wait by the number of CPUs, and the arena has 22 MiB."""
    result = CliRunner().invoke(app, ["layout", "--machine", name])
    (line,) = (line for line in result.stdout.splitlines() if line.startswith(" lazy "))
    assert line.endswith("wait for a purge, or until the arena is full") is full


CPUS = ["atom-n270", "cortex-a15", "cortex-a7", "cortex-a8", "cortex-a9", "skylake"]


def test_costs_of_cpus_are_closer_than_the_usual_ones():
    """Each says where it is from, and lies in the ranges that hold for all machines."""
    usual = Costs.default()
    assert [cpu.name for cpu in cpu_costs()] == CPUS
    capture, _ = opened("arm-61-1g-minix")
    for cpu in cpu_costs():
        costs = captured_machine(capture, Path(cpu.name))[0].costs
        changed = [f for f in vars(usual) if f != "ranges" and costs.spread(f) != usual.spread(f)]
        assert changed, cpu.name
        assert all(cpu.source), cpu.name
        for figure in changed:
            here, all_machines = costs.spread(figure), usual.spread(figure)
            assert all_machines.low <= here.low <= here.likely <= here.high <= all_machines.high
            width, usual_width = here.high - here.low, all_machines.high - all_machines.low
            assert width < usual_width, figure


def test_a_cpu_that_is_not_known_is_said_to_be_none():
    with pytest.raises(HmtraceError) as caught:
        costs_file(Path("cortex-a51"))
    assert caught.value.exit_code == 2
    assert "cortex-a15" in caught.value.hint
    assert costs_file(Path("mine.toml")) == Path("mine.toml")


def test_a_report_says_where_its_costs_are_from():
    capture = str(FIXTURES / "arm-61-1g-minix")
    told = CliRunner().invoke(app, ["report", capture, "--costs", "cortex-a15", "--format", "json"])
    document = json.loads(told.stdout)
    assert document["machine"]["costs"]["tlb_entries"] == 512
    (words,) = [c for c in document["caveats"] if c.startswith("costs in ns")]
    assert words.startswith("costs in ns: 2 of 24 figures were given or measured")
