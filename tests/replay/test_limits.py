"""Limits that both architectures share, and the kernel generations."""

import pytest

from replay.machine.generations import (
    GENERATIONS,
    generation_for,
    is_newer,
    is_older,
    was_observed,
)
from replay.machine.model import lazy_max_pages, vmap_block_pages


@pytest.mark.parametrize(
    ("cpus", "pages"),
    [(1, 8192), (2, 16384), (3, 16384), (4, 24576), (7, 24576), (8, 32768), (16, 40960)],
)
def test_lazy_limit(cpus, pages):
    assert lazy_max_pages(cpus) == pages


@pytest.mark.parametrize(
    ("nr_cpus", "pages"), [(1, 1024), (2, 1024), (4, 512), (8, 256), (16, 128), (32, 64), (64, 64)]
)
def test_vmap_blocks(nr_cpus, pages):
    assert vmap_block_pages(nr_cpus) == pages


@pytest.mark.parametrize(
    ("release", "generation"),
    [
        ("5.10.0-32-686-pae", "5.10"),
        ("4.19.0-27-armmp", "4.19"),
        ("2.6.32-5-686", "3.0"),
        ("2.6.39", "3.0"),
        ("3.0.31-g1d2e3f4", "3.0"),
        ("3.3.0", "3.8"),
        ("3.4.103+", "3.8"),
        ("3.10.107", "3.10"),
        ("3.14.44-desktop", "3.10"),
        ("3.15", "3.15"),
        ("3.16.0-4-armmp", "3.16"),
        ("3.18.20", "3.16"),
        ("3.19.0", "4.1"),
        ("4.3.6", "4.1"),
        ("4.4.0-210-generic", "4.4"),
        ("4.11.12", "4.11"),
        ("4.12.14", "4.12"),
        ("4.13.0-25-generic", "4.12"),
        ("4.13.0-26-generic", "4.14.9"),  # with page-table isolation
        ("4.14.8", "4.12"),
        ("4.14.11-300.fc27.i686", "4.14.9"),
        ("4.14.94", "4.14"),
        ("4.14", "4.14"),
        ("4.15.0-rc8", "4.15.0"),
        ("4.15.0-3-686-pae", "4.16"),
        ("4.15.0-213-lowlatency", "4.19"),
        ("4.15.18", "4.16"),
        ("4.18.0", "4.16"),
        ("5.13.0-rc7-next-20210628+", "5.15"),
        ("5.2.21", "5.3"),
        ("5.4.0-150-generic", "5.4"),
        ("5.5.19", "5.7"),
        ("5.8.0", "5.10"),
        ("5.11.22", "5.11"),
        ("5.15.0-imx", "5.15"),
        ("5.16.0", "5.17"),
        ("5.18.1", "6.1"),
        ("6.1.0-50-686", "6.1"),
        ("6.5.0-0.deb12.4-686-pae", "6.5"),
        ("6.10.14", "6.10"),
        ("6.11.0-rc1-P3", "6.12"),
        ("6.12.107+deb13-armmp", "6.12"),
        ("7.2.13+deb14-armmp-lpae", "7.2"),
        ("9.1", "7.2"),
        ("", "6.1"),
        ("vendor-kernel", "6.1"),
    ],
)
def test_generation_for(release, generation):
    assert generation_for(release) == generation


def test_kernels_older_than_the_model():
    assert is_older("2.6.36.4")
    assert not is_older("2.6.37")
    assert not is_older("vendor-kernel")


@pytest.mark.parametrize(
    ("release", "newer"),
    [
        ("7.2.13+deb14-armmp-lpae", False),
        ("7.2", False),
        ("7.2.0-next-20261120", True),
        ("7.3.0-rc1", True),
        ("9.9", True),
        ("5.15.3", False),
        ("", False),
        ("vendor-kernel", False),
    ],
)
def test_kernels_newer_than_the_model(release, newer):
    assert is_newer(release) is newer


def test_observed_generations():
    assert was_observed("6.1.176")
    assert not was_observed("5.15.3")
    assert GENERATIONS["5.10"].lazy_list == "newest-first"
    assert [generation_for(name) for name in GENERATIONS] == list(GENERATIONS)
    assert [GENERATIONS[name].search for name in ("5.15", "5.17", "6.1")] == [
        "padded",
        "exact",
        "adjusted",
    ]
    assert GENERATIONS["6.1"].lazy_list == "ascending"
    assert GENERATIONS["6.12"].lazy_list == "descending"
