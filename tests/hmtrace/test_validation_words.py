"""What `validate` says beside its figures agrees with them."""

from __future__ import annotations

from pathlib import Path

from collectors import open_capture
from hmtrace.report.validation import Checked, validation_table
from replay.machine.from_facts import machine_from
from replay.validate.run import validate
from tests.hmtrace.test_golden import rendered

# Recorded while probes were set one by one: the first two calls have a return alone. Both gave the
# slot of one page, which is unmapped by its name in between.
LINES = """\
# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
              rm-227     [001] .....   126.412619: kmap_high_ret: (dir_get_page+0x70/0x78 <- kmap_high) vaddr=0xff09e000
              rm-227     [001] d....   126.412855: kunmap_high: (kunmap_high+0x0/0xc4) page=0xf482a56c
              rm-227     [001] .....   126.413293: kmap_high_ret: (dir_get_page+0x70/0x78 <- kmap_high) vaddr=0xff09e000
              rm-227     [001] d....   126.413360: kunmap_high: (kunmap_high+0x0/0xc4) page=0xf482a56c
"""  # noqa: E501
CASES = Path(__file__).parents[2] / "fixtures" / "cases"
CONFIG = "CONFIG_X86_32=y\nCONFIG_HIGHMEM64G=y\nCONFIG_X86_PAE=y\nCONFIG_SMP=y\n"


def test_calls_without_an_entry_are_no_divergence_and_are_said(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text(LINES)
    (tmp_path / "config").write_text(CONFIG)
    capture = open_capture(tmp_path)
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    found = validate(capture.events, machine, values=values)
    assert (found.kmap.total, found.inferred.nameless) == (2, 2)
    assert found.first_divergence is None
    text = rendered(validation_table([Checked("a", found.as_json())]), 80)
    assert " kmap: 2 calls have a return and no entry in this trace" in text


def test_flushes_of_what_was_stale_before_are_explained() -> None:
    capture = open_capture(CASES / "kmap-was-there-flush")
    values = capture.facts.snapshot()
    machine, _ = machine_from(values)
    found = validate(capture.events, machine, values=values)
    passes = found.pool_flushes
    assert (passes.tlb_observed, passes.tlb_predicted) == (2, 1)
    text = rendered(validation_table([Checked("a", found.as_json())]), 80)
    assert " flushes: 1 TLB flush of the kernel more than the model makes" in text
