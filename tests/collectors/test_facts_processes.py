"""Address space of processes."""

from __future__ import annotations

from collectors.facts import read_facts
from collectors.snapshot import Process

STATUS = b"""Name:\tinit
Umask:\t0022
State:\tS (sleeping)
Tgid:\t1
Pid:\t1
PPid:\t0
VmPeak:\t    2084 kB
VmSize:\t    2084 kB
Name:\tkthreadd
Pid:\t2
PPid:\t0
Name:\tperl -w
Pid:\t233
VmPeak:\t   41984 kB
VmSize:\t   40000 kB
"""


def test_the_largest_first_and_no_kernel_threads() -> None:
    facts = read_facts({"status.txt": STATUS})
    assert facts["processes"].value == (
        Process("perl -w", 233, 41984 << 10),
        Process("init", 1, 2084 << 10),
    )


def test_the_end_goes_before_and_only_the_largest_are_kept() -> None:
    many = b"".join(b"Name:\tp%d\nPid:\t%d\nVmPeak:\t%d kB\n" % (n, n, n) for n in range(1, 100))
    facts = read_facts({"status.txt": STATUS, "status.end": many})
    found = facts["processes"].value
    assert [process.pid for process in found] == list(range(99, 83, -1))


def test_a_file_without_any_is_named() -> None:
    facts = read_facts({"status.txt": b"Name:\tx\nVmPeak:\tlots kB\n"})
    assert "processes" not in facts
    assert any("status.txt" in note and "VmPeak" in note for note in facts.notes)
