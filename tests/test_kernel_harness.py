"""What ``make test-kernel`` does around its guests; the guests themselves are no part of this."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tarfile
import time
from argparse import Namespace
from pathlib import Path

import pytest

from tests.kernel import machine, table
from tests.kernel.__main__ import run, summary
from tests.kernel.checks import Outcome, absent, functions, judge, profile, restored
from tests.kernel.initramfs import Cpio
from tests.kernel.matrix import DISKS, WORKS, Guest, Kernel, guests
from tests.kernel.modules import Package
from tests.kernel.packages import Archive, UnavailableError

FIXTURES = Path(__file__).parents[1] / "fixtures"
PACKAGES = (
    "linux-image-5.10.0-30-686-pae",
    "linux-image-5.10.0-32-686-pae",
    "linux-image-6.1.0-50-686",
    "linux-image-6.1.0-9-686-pae",
    "linux-image-6.1.0-50-686-pae",
    "linux-image-6.1.0-50-686-pae-unsigned",
    "linux-image-6.1.0-50-686-pae-dbg",
    "linux-image-6.1.0-50-rt-686-pae",
    "linux-image-6.5.0-0.deb12.4-686-pae",
    "linux-image-686-pae",
    "linux-image-6.12.107+deb13-armmp",
    "linux-image-6.12.117+deb13-armmp",
    "linux-image-6.12.117+deb13-armmp-lpae",
    "linux-image-6.12.117+deb13-rt-armmp",
    "linux-image-armmp",
)


@pytest.mark.parametrize(
    ("flavour", "release", "newest"),
    [
        ("686-pae", "6.1.", "linux-image-6.1.0-50-686-pae"),
        ("686-pae", "5.10", "linux-image-5.10.0-32-686-pae"),
        ("686-pae", "", "linux-image-6.5.0-0.deb12.4-686-pae"),
        ("686", "", "linux-image-6.1.0-50-686"),
        ("rt-686-pae", "", "linux-image-6.1.0-50-rt-686-pae"),
        ("armmp", "", "linux-image-6.12.117+deb13-armmp"),
        ("armmp-lpae", "", "linux-image-6.12.117+deb13-armmp-lpae"),
    ],
)
def test_the_newest_package_of_a_flavour_is_taken(
    monkeypatch: pytest.MonkeyPatch, flavour: str, release: str, newest: str
) -> None:
    archive = Archive("i386", "bookworm")
    monkeypatch.setattr(Archive, "_update", lambda self: None)
    monkeypatch.setattr(Archive, "_apt", lambda self, *words: "\n".join(PACKAGES))
    kernel = Kernel("one", "i386", "bookworm", flavour, release)
    assert archive.find(kernel.pattern) == newest


def test_a_flavour_that_is_not_there_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Archive, "_update", lambda self: None)
    monkeypatch.setattr(Archive, "_apt", lambda self, *words: "\n".join(PACKAGES))
    with pytest.raises(UnavailableError, match=r"no package .* for mipsel in sid"):
        Archive("mipsel", "sid").find(Kernel("one", "mipsel", "sid", "4kc-malta").pattern)


def test_where_packages_come_from_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "'http://tools.example/apt/dists/stable/InRelease' tools_InRelease 0 \n"
        "'http://mirror.example/debian-security/dists/bookworm-security/InRelease' a 0 \n"
        "'http://mirror.example/debian/dists/bookworm/InRelease' b 0 \n"
    )
    monkeypatch.setattr("tests.kernel.packages._run", lambda *words: said)
    from tests.kernel.packages import mirror

    assert mirror() == "http://mirror.example/debian"


def module(**told: str) -> bytes:
    """The part of a module that says what it is."""
    # the first of them follows whatever the section before ends with
    return b"\x7fELF\x04" + b"".join(f"{key}={value}\0".encode() for key, value in told.items())


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    kernel = tmp_path / "lib/modules/6.1.0-x/kernel"
    kernel.mkdir(parents=True)
    f2fs = module(license="GPL", softdep="pre: crc32", depends="lz4_compress,lz4hc-compress")
    (kernel / "f2fs.ko.xz").write_bytes(lzma.compress(f2fs))
    (kernel / "lz4_compress.ko").write_bytes(module(depends=""))
    (kernel / "lz4hc-compress.ko").write_bytes(module(depends="lz4_compress"))
    (kernel / "crc32_generic.ko").write_bytes(module(depends="", softdep="post: late"))
    (kernel / "late.ko").write_bytes(module())
    (kernel.parent / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    package = Package([tmp_path], "6.1.0-x")
    order = package.order(["f2fs", "ext4", "not-there"])
    assert set(order) == {"crc32_generic", "lz4_compress", "lz4hc_compress", "f2fs"}
    assert order.index("lz4_compress") < order.index("lz4hc_compress") < order.index("f2fs")
    assert order[-1] == "f2fs"
    assert package.content("f2fs") == f2fs
    assert package.has("ext4")
    assert package.has("lz4hc-compress")
    assert not package.has("minix")


def test_a_kernel_in_one_package_and_in_several(tmp_path: Path) -> None:
    files = {
        "one/boot": ("vmlinuz-6.1", "config-6.1"),
        "binary/usr/lib/modules/7.2": ("vmlinuz",),
        "base/usr/lib/modules/7.2": ("config", "modules.builtin"),
    }
    for folder, names in files.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).touch()
    one = Package([tmp_path / "one"], "6.1")
    assert one.kernel == tmp_path / "one/boot/vmlinuz-6.1"
    assert one.config == ("boot/config-6.1", tmp_path / "one/boot/config-6.1")
    several = Package([tmp_path / "image", tmp_path / "binary", tmp_path / "base"], "7.2")
    assert several.kernel == tmp_path / "binary/usr/lib/modules/7.2/vmlinuz"
    assert several.config[0] == "usr/lib/modules/7.2/config"
    with pytest.raises(UnavailableError, match=r"no boot/vmlinuz-6\.5 in the packages of 6\.5"):
        _ = Package([tmp_path / "one"], "6.5").kernel


def unpack(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Names, modes and contents of a cpio archive (cpio(5), "New ASCII Format")."""
    found, at = [], 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + numbers[11] - 1].decode()
        at = (at + 110 + numbers[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found.append((name, numbers[1], archive[at : at + numbers[6]]))
        at = (at + numbers[6] + 3) & ~3


def test_the_first_root_is_what_a_kernel_unpacks() -> None:
    root = Cpio()
    root.file("job/modules/minix", b"minix\n")
    root.file("job/run.sh", b"echo", 0o755)
    root.device("dev/console", 5, 1)
    assert unpack(root.bytes()) == [
        ("job", 0o040755, b""),
        ("job/modules", 0o040755, b""),
        ("job/modules/minix", 0o100644, b"minix\n"),
        ("job/run.sh", 0o100755, b"echo"),
        ("dev", 0o040755, b""),
        ("dev/console", 0o020600, b""),
    ]


def test_the_matrix_has_every_kernel_and_two_guests_for_ci() -> None:
    found = guests()
    assert len({guest.name for guest in found}) == len(found)
    small = [guest.kernel.architecture for guest in found if guest.small]
    assert sorted(small) == ["armhf", "i386"]
    assert {work for guest in found for work in guest.works} == set(WORKS)
    assert {guest.kernel.architecture for guest in found} == set(DISKS)
    assert {guest.cpus for guest in found} >= {1, 2, 4}
    assert {guest.mounted for guest in found} == {False, True}
    booted = {word.partition("=")[0] for guest in found for word in guest.boot.split()}
    assert booted >= {"vmalloc", "preempt"}


def test_every_workload_is_in_the_guests_script() -> None:
    script = (machine.FILES / "work.sh").read_text()
    for verb in ("prepare", "run"):
        assert set(re.findall(rf"(?m)^{verb}_(\w+)\(\)", script)) == set(WORKS)


@pytest.mark.parametrize("name", ["init", "run.sh", "work.sh"])
def test_the_guests_scripts_are_posix(name: str) -> None:
    path = machine.FILES / name
    subprocess.run(["sh", "-n", path], check=True)
    if shutil.which("shellcheck"):
        done = subprocess.run(
            ["shellcheck", "-s", "sh", path], capture_output=True, text=True, check=False
        )
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("architecture", "ram", "has"),
    [
        ("i386", 1024, ["qemu-system-i386", "n270", "virtio-blk-pci", "console=ttyS0"]),
        ("armhf", 3072, ["qemu-system-arm", "virtio-blk-device", "console=ttyAMA0"]),
        ("armhf", 4096, ["qemu-system-aarch64", "virtio-blk-device", "console=ttyAMA0"]),
        ("mipsel", 1024, ["qemu-system-mipsel", "malta", "thread=single", "console=ttyS0"]),
    ],
)
def test_the_emulator_of_a_guest(
    tmp_path: Path, architecture: str, ram: int, has: list[str]
) -> None:
    guest = Guest(Kernel("one", architecture, "sid", "x"), ram, 2, ("fork",), "vmalloc=64M")
    disks = (("results", tmp_path / "results.disk"),)
    prepared = machine.Prepared(guest, tmp_path, "6.1", "p 1", tmp_path / "vmlinuz", disks)
    line = " ".join(prepared.command())
    assert all(word in line for word in has)
    assert "-accel tcg" in line
    assert "-nic none" in line
    assert line.endswith("oops=panic vmalloc=64M")


def test_results_are_brought_out_of_the_disks(tmp_path: Path) -> None:
    (tmp_path / "console").write_text("run.sh ended with 0\n")
    with tarfile.open(tmp_path / "results.disk", "w") as packed:
        packed.add(tmp_path / "console", "./console")
    with (tmp_path / "results.disk").open("ab") as disk:
        disk.write(bytes(1 << 20))
    capture = gzip.compress(b"trace" * 100_000)
    (tmp_path / "capture.disk").write_bytes(capture + bytes(1 << 20))
    machine.bring_out(tmp_path)
    assert (tmp_path / "results/console").read_text() == "run.sh ended with 0\n"
    assert (tmp_path / "capture.tar.gz").read_bytes() == capture


def test_what_is_not_as_it_was_before() -> None:
    before = "tracing_on: 1\nkernel/kptr_restrict: 0\ninstance mine\n"
    assert restored(before, before) == []
    after = "tracing_on: 1\nkernel/kptr_restrict: 1\ninstance mine\nkprobe_events: p:hm/vmap vmap\n"
    assert restored(before, after) == [
        "not restored, missing: kernel/kptr_restrict: 0",
        "not restored, new: kernel/kptr_restrict: 1",
        "not restored, new: kprobe_events: p:hm/vmap vmap",
    ]


def test_the_kernels_own_counts() -> None:
    assert profile("  kmap_high      7905     0\n  vfree   271    15\n") == {
        "kmap_high": (7905, 0),
        "vfree": (271, 15),
    }
    told = functions(
        "p:hm/kmap_high kmap_high page=%ax:x32\n"
        "r256:hm/alloc_ret alloc_vmap_area.constprop.0 va=$retval:x32\n"
        "p:hm/in_kmap kmap_high+35 page=%di:x32\n"
        "p:hm/area nilfs2:vmap\n"
    )
    assert told == {
        "kmap_high": ("kmap_high", False),
        "alloc_ret": ("alloc_vmap_area", True),
        "area": ("vmap", False),
    }
    notes = "recorder 1\nmissing kmap_high_get vmap_pfn\nrefused p:hm/a kmap_atomic page=%ax:x32\n"
    assert absent([line.split() for line in notes.splitlines()]) == [
        "kmap_high_get",
        "vmap_pfn",
        "kmap_atomic (refused)",
    ]


def booted(folder: Path, status: str = "0") -> machine.Booted:
    """A guest that brought out a capture of fixtures/."""
    with tarfile.open(folder / "capture.tar.gz", "w:gz") as packed:
        packed.add(FIXTURES / "i386-hog-a-waiters-pae-smp2", "capture")
    results = folder / "results"
    results.mkdir()
    (results / "recorder-status").write_text(f"{status}\n")
    for name in ("state-before", "state-after"):
        (results / name).write_text("tracing_on: 1\n")
    cpu_s = {"alone": [10.0, 14.0], "recorded": [20.5, 26.5]}
    package = "linux-image-x 6.1.176-1"
    return machine.Booted(folder, "6.1.0-50-686-pae", package, 30.0, cpu_s=cpu_s)


@pytest.mark.slow
def test_a_capture_is_judged(tmp_path: Path) -> None:
    outcome = judge(booted(tmp_path), "one")
    assert outcome.kinds["kmap"] == (520, 520)
    assert outcome.kinds["kmap_local"] == (7970, 7970)
    assert outcome.kinds["arena"] == (3, 3)
    assert outcome.flushes == (61, 61)
    assert outcome.layout == (19, 19)
    assert outcome.overhead == pytest.approx(0.5)
    # its probes of local mappings went on counting while the trace was copied
    assert [line.partition(":")[0] for line in outcome.failures] == [
        "kmap_local_page",
        "kmap_local_page_ret",
        "kmap_local_pfn",
        "kmap_local_pfn_ret",
        "kunmap_local",
    ]
    assert outcome.failures[0] == "kmap_local_page: 7970 in the trace, 13224 by the kernel"


def test_a_recorder_that_failed_is_told(tmp_path: Path) -> None:
    run = booted(tmp_path, "3")
    (tmp_path / "results/recorder").write_text("hmrecord: no tracefs\n")
    (tmp_path / "results/complaints").write_text("[ 9.1] WARNING: CPU: 0 PID: 1 at mm/highmem.c\n")
    run.capture.unlink()
    assert judge(run, "one").failures == [
        "the recorder ended with 3: hmrecord: no tracefs",
        "the kernel said: [ 9.1] WARNING: CPU: 0 PID: 1 at mm/highmem.c",
        "there is no capture",
    ]


def test_the_last_line_never_says_that_no_test_ran() -> None:
    right, wrong = Outcome("a"), Outcome("b", failures=["wrong"])
    out = Outcome("c", skipped="no package")
    assert summary([right, wrong, out]) == "1 passed, 1 failed, 1 skipped"
    assert summary([out, out]) == "no kernel was booted: 2 left out"


@pytest.mark.parametrize(
    ("seconds", "reason"), [(0.5, "s are left of 0"), (300, "not done in the 300 s allowed")]
)
def test_what_there_is_no_time_for_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, reason: str
) -> None:
    guest = next(guest for guest in guests() if guest.small)
    began = time.monotonic()
    monkeypatch.setattr(machine, "prepare", lambda *words: None)

    def slow(prepared: None, timeout_s: float) -> machine.Booted:
        monkeypatch.setattr(time, "monotonic", lambda: began + 301)
        return machine.Booted(tmp_path, "6.1", "p 1", 300.0, "not done within 300 s")

    monkeypatch.setattr(machine, "boot", slow)
    options = Namespace(
        folder=tmp_path,
        recorder_options="",
        repeat=1,
        seconds=seconds,
        least=60,
        timeout=600,
    )
    assert reason in run(guest, "", options, began + seconds).skipped


def test_a_row_is_renewed_and_the_others_stay() -> None:
    kernel = Kernel("pae", "i386", "bookworm", "686-pae")
    one = Guest(kernel, 1024, 2, ("fork", "minix"))
    other = Guest(kernel, 1024, 1, ("minix",), "vmalloc=64M")
    page = "\n".join(["# Page", "", *table.RUNS, "", "text", "", *table.ABSENT, "", "end\n"])
    first = Outcome(
        one.name,
        package="linux-image-x 6.1.176-1",
        events=340_055,
        kinds={"kmap": (11_605, 11_607), "kmap_local": (62_150, 62_150), "arena": (0, 0)},
        flushes=(1, 1),
        alone_s=4.0,
        recorded_s=6.0,
        absent=["kmap_high_get"],
    )
    page = table.written(page, [one, other], {one.name: first})
    row = (
        "| i386 bookworm 686-pae `6.1.176-1` | 1024 MiB, 2 CPUs | fork, minix | exact | 340 055 "
        "| 11 605 of 11 607 | 62 150 of 62 150 | – | 1 of 1 | 0, 0 | +50% |"
    )
    assert row in page
    assert "| i386 bookworm 686-pae | `kmap_high_get` |" in page
    second = Outcome(other.name, package="linux-image-x 6.1.180-1", failures=["wrong"])
    page = table.written(page, [one, other], {other.name: second})
    assert row in page
    assert "| i386 bookworm 686-pae | `kmap_high_get` |" in page
    assert "| i386 bookworm 686-pae `6.1.180-1` | 1024 MiB, 1 CPU, `vmalloc=64M` | minix |" in page
    assert "1 wrong" in page
    assert page.endswith("\nend\n")
    skipped = {other.name: Outcome(other.name, skipped="no package")}
    assert table.written(page, [one, other], skipped) == page
    # a guest that the matrix has no more
    assert "vmalloc=64M" not in table.written(page, [one], {})
