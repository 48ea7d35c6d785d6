"""What a trace shows goes before what is supposed, or said of another kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app
from replay.machine.from_facts import machine_from

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "# tracer: nop\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n"
I386 = "CONFIG_X86_32=y\nCONFIG_X86_PAE=y\nCONFIG_SMP=y\n"


def line(cpu: int, us: int, body: str, task: str = "cp-80") -> str:
    return f"{task:>24} [{cpu:03d}] .....   100.{us:06d}: {body}\n"


def kmap(cpu: int, us: int, page: int, vaddr: int, task: str = "cp-80") -> str:
    call, site = "(kmap_high+0x0/0x1e0)", "(copy_pages+0x30/0x90 <- kmap_high)"
    return line(cpu, us, f"kmap_high: {call} page=0x{page:x}", task) + line(
        cpu, us + 2, f"kmap_high_ret: {site} vaddr=0x{vaddr:x}", task
    )


def folder_of(path: Path, trace: str, **files: str) -> Path:
    (path / "trace.txt").write_text(HEAD + trace)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def report(path: Path) -> str:
    result = CliRunner().invoke(app, ["report", str(path)], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    return result.output


def test_kernel_that_maps_highmem_has_highmem(tmp_path: Path) -> None:
    """Without, the pool has no slot: 514 calls slept "because all 0 slots were in use"."""
    path = folder_of(tmp_path, kmap(0, 0, 0xF5000000, 0xFF601000), config=I386)
    machine, assumed = machine_from(open_capture(path).facts.snapshot())
    assert machine.highmem_enabled
    assert any("kernel with HIGHMEM: kmap() gave 0xff601000" in words for words in assumed)
    text = report(path)
    assert " waits       none\n" in text
    assert "all 0 slots" not in text


def test_choice_of_how_much_highmem_is_a_choice_of_highmem(tmp_path: Path) -> None:
    trace = line(0, 0, "kunmap_high: (kunmap_high+0x0/0xc4) page=0xf5000000")
    for option in ("CONFIG_HIGHMEM4G=y", "CONFIG_HIGHMEM64G=y", "CONFIG_HIGHMEM=y"):
        path = folder_of(tmp_path, trace, config=f"{I386}{option}\n")
        assert open_capture(path).facts.get("highmem_enabled") is True
    path = folder_of(tmp_path, trace, config=I386)
    assert open_capture(path).facts.get("highmem_enabled") is False


def test_address_outside_the_pool_of_a_known_architecture_is_said(tmp_path: Path) -> None:
    log = "PROMLIB: Sun Boot Prom Version 0 Revision 2\nLinux version 5.17.0 (a@b) (gcc) #1\n"
    path = folder_of(tmp_path, kmap(0, 0, 0xF5000000, 0xFE101000), dmesg=log)
    said = [words for words in report(path).split(" - ") if "not in the pool" in words]
    assert [words.split(",")[0] for words in said] == ["kmap() gave 0xfe101000"]


def test_cpus_that_have_events_are_there(tmp_path: Path) -> None:
    first, second = kmap(0, 0, 0xF5000000, 0xFF601000), kmap(2, 9, 0xF5000028, 0xFF602000, "a-9")
    path = folder_of(tmp_path, first + second, config=f"{I386}CONFIG_HIGHMEM=y\n")
    text = report(path)
    assert "i386 PAE, 3 CPUs," in text
    assert "3 CPUs: no file shows them, the trace has events of CPU 2" in text


def test_nothing_follows_from_ram_that_is_a_guess(tmp_path: Path) -> None:
    trace = line(0, 0, "vfree: (vfree+0x0/0x90) vaddr=0xf7900000")
    path = folder_of(tmp_path, trace, config=I386)
    text = report(path)
    assert "1 GiB of RAM from 0 on: no file says" in text
    assert "of RAM are not used" not in text
    (path / "meminfo").write_text("MemTotal:        2060000 kB\n")
    assert "of RAM are not used by this kernel: it is built without HIGHMEM" in report(path)


def test_modules_area_of_which_nothing_is_seen(tmp_path: Path) -> None:
    ask = "size=0x1000000 align=0x1 start=0xbf000000 end=0xc0000000"
    trace = line(0, 0, f"vmalloc: (__vmalloc_node_range+0x0/0x5b0) {ask}") + line(
        0, 9, "vmalloc_ret: (module_alloc+0x40/0x50 <- __vmalloc_node_range) vaddr=0x0"
    )
    path = folder_of(tmp_path, trace, config="CONFIG_ARM=y\nCONFIG_MMU=y\n")
    text = report(path)
    assert "failed in the modules area of 16 MiB" in text
    assert "0 B of it in use" not in text


def test_ram_that_the_log_says_is_ignored(tmp_path: Path) -> None:
    """An AST2500 (openbmc/openbmc issue 3871): 64 MiB behind a region that is not mapped."""
    log = (
        "[    0.000000] Linux version 5.15.50 (a@b) (gcc) #1\n"
        "[    0.000000] CPU: ARMv6-compatible processor [410fb767] revision 7, cr=00c5387d\n"
        "[    0.000000] Ignoring RAM at 0x98000000-0x9c000000\n"
        "[    0.000000] Consider using a HIGHMEM enabled kernel.\n"
        "[    0.000000] Zone ranges:\n"
        "[    0.000000]   Normal   [mem 0x0000000080000000-0x0000000097ffffff]\n"
    )
    trace = line(0, 0, "vfree: (vfree+0x0/0x90) vaddr=0xb8900000")
    text = report(folder_of(tmp_path, trace, dmesg=log))
    assert "RAM or highmem is not what it was told to be" in text
    assert "Ignoring RAM at 0x98000000-0x9c000000" in text
    assert "384 MiB lowmem + no highmem" in text
