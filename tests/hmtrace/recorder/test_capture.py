"""What the recorder brought home from a booted kernel, and what hmtrace makes of it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from typer.testing import CliRunner

from collectors import open_capture
from hmtrace.cli import app

ARCHIVE = Path(__file__).parents[3] / "fixtures" / "arm-61-recorder.tar.gz"
KERNEL = {
    "kmap_high": 17,
    "kmap_high_ret": 17,
    "kunmap_high": 17,
    "alloc_vmap_area": 5,
    "alloc_vmap_area_ret": 5,
}
"""Hits of probes while it recorded, as the kernel counted them. Stacks of tasks are freed late, two
of them behind the last event."""


def hits(text: bytes) -> dict[str, int]:
    rows = (line.split() for line in text.decode().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 3}


def member(name: str) -> bytes:
    with tarfile.open(ARCHIVE) as packed:
        found = packed.extractfile(f"hmrecord/{name}")
        assert found is not None
        return found.read()


def test_as_many_events_as_the_kernel_counted() -> None:
    before, after = hits(member("kprobe_profile.start")), hits(member("kprobe_profile"))
    assert {name: after[name] - before[name] for name in KERNEL} == KERNEL
    rows = open_capture(ARCHIVE).events.collect()["op"].cast(str).value_counts()
    found = dict(rows.iter_rows())
    assert found == {
        "kmap": 17,
        "kunmap": 17,
        "kmap_local": 1513,
        "kunmap_local": 1455,  # those of lowmem are filtered
        "vmalloc": 5,
        "vfree": 1,
        "area_alloc": 5,
        "area_free": 1,
        "switch": 128,
    }


def test_its_own_files_tell_the_machine() -> None:
    capture = open_capture(ARCHIVE)
    told = capture.facts.snapshot()
    assert capture.lost.intervals == ()
    assert capture.notes == ()
    assert (told.arch, told.split, told.cpus, told.clock) == ("arm", "3g", 2, "local")
    assert len(told.areas) == len(member("vmallocinfo.start").splitlines())
    assert told.processes
    assert told.vmstat_start
    assert told.vmstat_end
    assert told.zones_end
    assert told.recording is not None
    assert told.recording.agreed
    assert told.recording.missing == ("kmap_high_get",)  # not built on this kernel
    assert told.recording.refused == ()


def test_every_address_is_foretold() -> None:
    done = CliRunner().invoke(app, ["validate", "--format", "json", str(ARCHIVE)])
    (found,) = json.loads(done.stdout)["captures"]
    assert found["kmap"]["total"] == 17
    assert found["kmap"]["exact"] + found["inferred"]["initial_state"] == 17
    assert (found["kmap_local"]["exact"], found["kmap_local"]["total"]) == (1513, 1513)
    arena = found["arena"]
    assert (arena["certain_right"], arena["certain"], arena["ambiguous"]) == (4, 4, 1)
    assert found["first_divergence"] is None


def test_info_names_what_it_lacks() -> None:
    done = CliRunner().invoke(app, ["info", "--format", "json", str(ARCHIVE)])
    (pool,) = json.loads(done.stdout)["lacks"]
    assert pool["what"].startswith("the pool's counters at the start")
    assert "CONFIG_KALLSYMS_ALL" in pool["remedy"]
