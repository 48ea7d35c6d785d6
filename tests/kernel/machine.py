"""One guest: its files, the emulator, and what it brought out.

Software emulation only: KVM of some machines emulates instructions of 32-bit guests wrongly.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernel import images
from tests.kernel.initramfs import Cpio
from tests.kernel.matrix import DISKS, WORKS, Guest
from tests.kernel.modules import Package
from tests.kernel.packages import UnavailableError

FILES = Path(__file__).with_name("guest")
CAPTURE_MIB = 1024
RESULTS_MIB = 64
"""Sizes of the disks that results come out on; the files are sparse."""
_BOOT = "panic=-1 no_hash_pointers quiet loglevel=4 oops=panic"
_ARM_LIMIT_MIB = 3072
"""Above it qemu-system-arm 7.2 does not walk the page tables."""
_MARK = re.compile(r"hmtrace mark (\w+)")
_LOOK_S = 0.02
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Booted:
    """What came out of a guest.

    Attributes
    ----------
    folder
        Has ``capture.tar.gz``, ``console.log`` of the kernel and ``results/`` of ``run.sh``.
    release
        The kernel's release, as its package names it.
    package
        Name and version of the package.
    seconds
        Time from power on to power off.
    trouble
        Why there are no results; "" where there are.
    cpu_s
        CPU time that the emulator had taken at each mark of a name: it depends less than the time
        of day on what else this machine does.
    """

    folder: Path
    release: str
    package: str
    seconds: float
    trouble: str = ""
    cpu_s: dict[str, list[float]] = field(default_factory=dict)

    @property
    def capture(self) -> Path:
        return self.folder / "capture.tar.gz"

    def result(self, name: str) -> str:
        """Text of a file that the guest wrote, "" where it wrote none."""
        path = self.folder / "results" / name
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass(frozen=True)
class Prepared:
    """Files that a guest is booted with."""

    guest: Guest
    folder: Path
    release: str
    package: str
    kernel: Path
    disks: tuple[tuple[str, Path], ...]

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs"

    def command(self) -> list[str]:
        """The emulator's command line."""
        guest = self.guest
        machines = {
            "i386": ["-cpu", "n270"],
            "armhf": ["-M", "virt,highmem=on", "-cpu", "cortex-a15"],
            "mipsel": ["-M", "malta", "-cpu", "24Kf"],
        }
        emulators = {"i386": "i386", "armhf": "arm", "mipsel": "mipsel"}
        architecture = guest.kernel.architecture
        emulator = emulators[architecture]
        if emulator == "arm" and guest.ram > _ARM_LIMIT_MIB:
            emulator = "aarch64"
        console = "ttyAMA0" if architecture == "armhf" else "ttyS0"
        block = "virtio-blk-device" if architecture == "armhf" else "virtio-blk-pci"
        threads = "single" if architecture == "mipsel" else "multi"
        command = [f"qemu-system-{emulator}", *machines[architecture]]
        command += ["-accel", f"tcg,thread={threads}", "-m", f"{guest.ram}"]
        command += ["-smp", f"{guest.cpus}", "-nic", "none", "-nographic", "-no-reboot"]
        command += ["-kernel", f"{self.kernel}", "-initrd", f"{self.initramfs}"]
        for serial, path in self.disks:
            command += ["-drive", f"file={path},if=none,id={serial},format=raw,cache=unsafe"]
            command += ["-device", f"{block},drive={serial},serial={serial}"]
        return [*command, "-append", f"console={console} {_BOOT} {guest.boot}".strip()]


def prepare(guest: Guest, recorder: str, folder: Path, settings: dict[str, str]) -> Prepared:
    """Fetch what a guest needs and lay it into a folder.

    Parameters
    ----------
    recorder
        The recorder's script.
    folder
        Of this run; made anew.
    settings
        Variables of ``guest/run.sh``.

    Raises
    ------
    UnavailableError
        A package is not to be had here.
    """
    archive = guest.kernel.archive
    name = archive.find(guest.kernel.pattern)
    package = Package.fetched(archive, name)
    busybox = guest.kernel.programs.unpacked("busybox-static")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    disks = []
    for serial, size in (("results", RESULTS_MIB), ("capture", CAPTURE_MIB)):
        path = folder / f"{serial}.disk"
        with path.open("wb") as disk:
            disk.truncate(size << 20)
        disks.append((serial, path))
    for kind in images.KINDS:
        if kind in guest.works:
            path = folder / f"{kind}.img"
            shutil.copy(images.image(kind), path)
            disks.append((kind, path))
    content = _root(guest, busybox, package)
    content.file("job/hmrecord.sh", recorder.encode(), 0o755)
    settings = {"WORK": " ".join(guest.works), **settings}
    lines = (f"{name}='{value}'\n" for name, value in settings.items())
    content.file("job/settings", "".join(lines).encode())
    (folder / "initramfs").write_bytes(content.bytes())
    told = f"{name} {archive.version(name)}"
    prepared = Prepared(guest, folder, package.release, told, package.kernel, tuple(disks))
    if shutil.which(prepared.command()[0]) is None:
        raise UnavailableError(f"there is no {prepared.command()[0]}")
    return prepared


def boot(prepared: Prepared, timeout_s: float) -> Booted:
    """Run a guest until it powers off, and unpack what it wrote."""
    folder = prepared.folder
    console = folder / "console.log"
    cpu_s: dict[str, list[float]] = {}
    begun = ""
    started = time.monotonic()
    with console.open("wb") as to:
        running = subprocess.Popen(
            ["nice", "-n", "5", *prepared.command()],
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with console.open(errors="replace") as said:
            while running.poll() is None and time.monotonic() - started < timeout_s:
                *lines, begun = (begun + said.read()).split("\n")  # letters come one by one
                for name in _MARK.findall("\n".join(lines)):
                    cpu_s.setdefault(name, []).append(_cpu_seconds(running.pid))
                time.sleep(_LOOK_S)
        trouble = "" if running.poll() is not None else f"not done within {timeout_s:.0f} s"
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    seconds = time.monotonic() - started
    if not trouble:
        trouble = _last_words(console.read_text(errors="replace"))
    if not trouble:
        bring_out(folder)
    for serial, path in prepared.disks:
        if serial not in {"results", "capture"} or not trouble:
            path.unlink()
    prepared.initramfs.unlink()
    return Booted(folder, prepared.release, prepared.package, seconds, trouble, cpu_s)


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its threads (proc(5), fields 14 and 15 of stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _last_words(console: str) -> str:
    """Why a guest ended early, "" where it did not."""
    if "hmtrace guest done" in console:
        return ""
    for line in console.splitlines():
        if "Kernel panic" in line:
            return line.strip()
    told = [line for line in console.splitlines() if line.strip()]
    return f"ended early: {told[-1].strip()}" if told else "ended early and said nothing"


def _root(guest: Guest, busybox: Path, package: Package) -> Cpio:
    root = Cpio()
    program = next(busybox.glob("**/bin/busybox"))
    root.file("bin/busybox", program.read_bytes(), 0o755)
    root.folder("dev")
    root.device("dev/console", 5, 1)
    root.file("init", (FILES / "init").read_bytes(), 0o755)
    for name in ("run.sh", "work.sh"):
        root.file(f"job/{name}", (FILES / name).read_bytes(), 0o755)
    place, config = package.config
    root.file(place.removeprefix("usr/"), config.read_bytes())
    loaded = package.order(list(DISKS[guest.kernel.architecture]))
    root.file("job/boot-modules", _lines(loaded))
    needed = dict.fromkeys(loaded)
    for work in guest.works:
        order = package.order(list(WORKS[work]))
        root.file(f"job/modules/{work}", _lines(order))
        needed.update(dict.fromkeys(order))
    for name in needed:
        root.file(f"modules/{name}.ko", package.content(name))
    return root


def bring_out(folder: Path) -> None:
    """Unpack the results; cut the capture, a gzip member, out of its disk."""
    with tarfile.open(folder / "results.disk", "r:") as packed:
        packed.extractall(folder / "results", filter="data")
    unpacking = zlib.decompressobj(_GZIP)
    with (folder / "capture.disk").open("rb") as disk, (folder / "capture.tar.gz").open("wb") as to:
        while not unpacking.eof and (piece := disk.read(io.DEFAULT_BUFFER_SIZE << 4)):
            try:
                unpacking.decompress(piece)
            except zlib.error:
                break
            to.write(piece[: len(piece) - len(unpacking.unused_data)])


def _lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()
