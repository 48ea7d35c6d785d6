"""What a trace's own header says of the machine: architecture, RAM, CPUs, release."""

from pathlib import Path

import pytest

from collectors import open_capture
from collectors.facts.arches import of_machine
from collectors.tracecmd_dat.container import machine_of, open_container, release_of
from tests.writers import perfdata, tracedat
from tests.writers.perfdata import CPU, FILE, PIPE, TID, TIME, AttrSpec, SampleSpec
from tests.writers.tracedat import BufferSpec

FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES = FIXTURES / "cases"
UNAME = 5
"""Option id (trace-cmd-private.h: TRACECMD_OPTION_UNAME)."""


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("armv7l", "arm"),
        ("armv8l", "arm"),
        ("i686", "i386"),
        ("x86_64", "x86_64"),
        ("aarch64", "arm64"),
        ("mips", "mips32"),
        ("mips64", "mips64"),
        ("ppc", "powerpc32"),
        ("ppc64le", "powerpc64"),
        ("sparc64", "sparc64"),
        ("riscv64", "riscv64"),
        ("armv7l (hard float)", None),
        ("pdp11", None),
        ("", None),
    ],
)
def test_names_of_machines(name, arch):
    assert of_machine(name) == arch


def facts_of(path: Path):
    capture = open_capture(str(path))
    return {name: capture.facts.get(name) for name in ("arch", "mem_total", "cpus", "release")}


def test_a_perf_data_of_another_architecture():
    found = facts_of(CASES / "arch-perf-data" / "tiny.perf.data")
    assert found == {
        "arch": "arm", "mem_total": 2067704 << 10, "cpus": 2, "release": "3.4.0",
    }  # fmt: skip


@pytest.mark.parametrize("form", [FILE, PIPE])
@pytest.mark.parametrize("order", ["little", "big"])
def test_perf_data_of_both_forms(tmp_path, form, order):
    samples = [SampleSpec(1000 + n, 0, 7) for n in range(3)]
    spec = perfdata.FileSpec(
        [AttrSpec(ids=(1,), sample_type=TID | TIME | CPU)],
        samples,
        order=order,
        form=form,
        arch="armv7l",
        mem_total=1 << 20,
        release="6.12.1-armmp-lpae",
        tracing=False,
    )
    path = tmp_path / "perf.data"
    path.write_bytes(perfdata.write(spec))
    assert facts_of(path) == {
        "arch": "arm", "mem_total": 1 << 30, "cpus": 2, "release": "6.12.1-armmp-lpae",
    }  # fmt: skip
    assert open_capture(str(path)).facts.get("pae") is True


@pytest.mark.parametrize("version", [6, 7])
def test_uname_of_a_trace_dat(version):
    file = open_container(
        memoryview(
            tracedat.write(
                tracedat.FileSpec(
                    [BufferSpec({0: []})],
                    [],
                    version=version,
                    options=[(UNAME, b"Linux board 4.14.62-v7 armv7l")],
                )
            )
        ),
        name="t",
    )
    assert (release_of(file.uname), machine_of(file.uname)) == ("4.14.62-v7", "armv7l")
    assert (release_of("armv7l"), machine_of("armv7l")) == ("", "")


def test_a_real_trace_dat_alone(tmp_path):
    path = tmp_path / "trace.dat"
    path.write_bytes((FIXTURES / "arm-61-1g-minix" / "trace.dat").read_bytes())
    assert facts_of(path)["arch"] == "arm"


def test_header_of_perf_script(tmp_path):
    path = tmp_path / "perf.txt"
    path.write_text(
        "# ========\n# os release : 4.9.0\n# arch : mips\n# nrcpus online : 4\n"
        "# total memory : 514360 kB\n# ========\n#\n"
        "bash   100 [000]     1.000001: probe:kmap_high: (c126f820) page=0xf6001000\n"
    )
    assert facts_of(path) == {
        "arch": "mips32", "mem_total": 514360 << 10, "cpus": 4, "release": "4.9.0",
    }  # fmt: skip


def test_files_and_header_that_differ(tmp_path):
    (tmp_path / "config").write_text("CONFIG_X86_32=y\nCONFIG_HIGHMEM=y\n")
    (tmp_path / "perf.data").write_bytes((CASES / "arch-perf-data" / "tiny.perf.data").read_bytes())
    capture = open_capture(str(tmp_path))
    assert capture.facts.get("arch") == "i386"
    assert any(line.startswith("arch: config") for line in capture.facts.contradictions)
