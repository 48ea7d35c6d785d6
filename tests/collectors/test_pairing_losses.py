"""Calls that were open while events were lost: the next return may be of another call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors import open_capture

if TYPE_CHECKING:
    from pathlib import Path

PROBES = """\
p:kprobes/kmap_high kmap_high page=%ax:x32
r256:kprobes/kmap_high_ret kmap_high vaddr=$retval:x32
p:kprobes/local __kmap_local_page_prot page=%ax:x32
r256:kprobes/local_ret __kmap_local_page_prot vaddr=$retval:x32
"""
KMAP, KMAP_RETURN = "kmap_high: (kmap_high+0x0/0x1d0)", "kmap_high_ret: (a+0x3/0x9 <- kmap_high)"
LOCAL = "local: (__kmap_local_page_prot+0x0/0x1d0)"
LOCAL_RETURN = "local_ret: (a+0x3/0x9 <- __kmap_local_page_prot)"
LOST = "CPU:{} [LOST 5 EVENTS]"

Row = tuple[int | None, int | None, int | None]


def rows(folder: Path, *lines: str) -> list[Row]:
    """Page, address, end in us of each call of a trace; a line is a marker, or CPU and event."""
    text, us = "# tracer: nop\n#\n", 0
    for line in lines:
        if line.startswith("CPU:"):
            text += f"{line}\n"
            continue
        us += 1
        cpu, event = line.split(" ", 1)
        text += f"  perl-77    [00{cpu}] d..1.  1.{us:06}: {event}\n"
    (folder / "trace").write_text(text)
    (folder / "kprobe_events").write_text(PROBES)
    events = open_capture(folder).events.collect()
    ends = [None if ts is None else ts // 1000 - 1_000_000 for ts in events["end_ts"].to_list()]
    return list(zip(events["page"].to_list(), events["vaddr"].to_list(), ends, strict=True))


def test_a_return_behind_a_loss_tells_no_address(tmp_path: Path) -> None:
    first, second = f"0 {KMAP} page=0xc0", f"0 {KMAP} page=0xc1"
    one, other = f"0 {KMAP_RETURN} vaddr=0xff9c5000", f"0 {KMAP_RETURN} vaddr=0xff9c6000"
    whole = [(0xC0, 0xFF9C5000, 2), (0xC1, 0xFF9C6000, 4)]
    assert rows(tmp_path, first, one, second, other) == whole
    assert rows(tmp_path, first, one, LOST.format(0), second, other) == whole
    over = [(0xC0, None, 2), (0xC1, 0xFF9C6000, 4)]  # by then the call is over, that is all
    assert rows(tmp_path, first, LOST.format(0), one, second, other) == over
    # the task may have been on the other CPU meanwhile
    assert rows(tmp_path, first, LOST.format(1), one, second, other) == over


def test_a_loss_lasts_until_its_cpu_has_an_event_again(tmp_path: Path) -> None:
    lines = [f"0 {KMAP} page=0xc0", f"1 {KMAP} page=0xc1", f"0 {KMAP_RETURN} vaddr=0xff9c5000"]
    assert rows(tmp_path, LOST.format(1), *lines)[0] == (0xC0, None, None)
    assert rows(tmp_path, *lines)[0] == (0xC0, None, None)  # both are perl's, one behind the other
    lines[1] = f"1 {LOCAL} page=0xc1"
    assert rows(tmp_path, *lines)[0] == (0xC0, 0xFF9C5000, 3)
    assert rows(tmp_path, LOST.format(1), *lines)[0] == (0xC0, None, 3)


def test_a_local_mapping_made_meanwhile_has_no_place(tmp_path: Path) -> None:
    lines = (f"0 {LOCAL} page=0xc0", f"0 {LOCAL_RETURN} vaddr=0xfffb0000")
    assert rows(tmp_path, *lines) == [(0xC0, 0xFFFB0000, 2)]
    assert rows(tmp_path, lines[0], LOST.format(0), lines[1]) == [(0xC0, None, None)]
