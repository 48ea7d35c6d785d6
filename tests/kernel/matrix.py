"""The guests of ``matrix.toml``."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.packages import Archive

MATRIX = Path(__file__).with_name("matrix.toml")
WORKS: dict[str, tuple[str, ...]] = {
    "fork": (),
    "minix": ("minix",),
    "nilfs2": ("nilfs2",),
    "f2fs": ("f2fs", "lz4", "crc32"),
    "erofs": ("erofs",),
    "modules": ("udf", "xfs", "isofs", "hfsplus"),
    "zram": ("zram", "lzo_rle", "lzo", "lz4", "zstd"),
    "hotplug": (),
}
"""Workloads of ``guest/work.sh``, and the kernel modules that each wants."""
DISKS: dict[str, tuple[str, ...]] = {
    "i386": ("virtio_pci", "virtio_blk"),
    "armhf": ("virtio_mmio", "virtio_blk"),
    "mipsel": ("virtio_pci", "virtio_blk"),
}
"""Modules that a guest of an architecture needs to see its disks."""


@dataclass(frozen=True)
class Kernel:
    """A kernel package of Debian.

    Attributes
    ----------
    flavour
        End of the package's name: 686-pae, rt-686-pae, armmp.
    release
        Beginning of the kernel's release, "" for any.
    """

    name: str
    architecture: str
    suite: str
    flavour: str
    release: str = ""

    @property
    def archive(self) -> Archive:
        return Archive(self.architecture, self.suite)

    @property
    def programs(self) -> Archive:
        """Where busybox is: backports have few packages."""
        return Archive(self.architecture, self.suite.removesuffix("-backports"))

    @property
    def pattern(self) -> str:
        """Names that its package may have, the newest of which is meant."""
        begin = re.escape(self.release) or r"\d"
        return rf"linux-image-{begin}[0-9.a-z+~]*(?:-[0-9][0-9a-z.]*)?-{re.escape(self.flavour)}"


@dataclass(frozen=True)
class Guest:
    """A kernel on a machine, and what is recorded on it.

    Attributes
    ----------
    ram
        Memory in MiB.
    boot
        Parameters of the kernel, beside those that every guest has.
    works
        Names in :data:`WORKS`, run one after the other.
    recorder
        Options of the recorder.
    mounted
        Whether tracefs is mounted already: the recorder has to leave it so, or unmount it.
    small
        Whether it is one of the few that CI boots.
    """

    kernel: Kernel
    ram: int
    cpus: int
    works: tuple[str, ...]
    boot: str = ""
    recorder: str = ""
    mounted: bool = False
    small: bool = False

    @property
    def name(self) -> str:
        """Kernel, machine and workloads in one word, as ``--only`` looks for them."""
        words = f"{self.boot} {self.recorder}".replace("=", "").replace("--", "").split()
        machine = f"{self.kernel.name}-m{self.ram}-smp{self.cpus}"
        return "-".join((machine, *words, "+".join(self.works)))


def guests(path: Path = MATRIX) -> list[Guest]:
    """Every guest of the matrix, in its order."""
    told = tomllib.loads(path.read_text())
    kernels = {name: Kernel(name, **kernel) for name, kernel in told["kernels"].items()}
    found = []
    for guest in told["guests"]:
        unknown = set(guest["works"]) - set(WORKS)
        if unknown:
            raise ValueError(f"no workload {', '.join(sorted(unknown))}")
        rest = {**guest, "kernel": kernels[guest["kernel"]], "works": tuple(guest["works"])}
        found.append(Guest(**rest))
    return found
