"""`hmtrace sites`, on real captures and beside a vmlinux."""

from __future__ import annotations

import csv
import io
import json
import lzma
import math
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

import collectors
from collectors import open_capture
from collectors.dwarf.debug import DebugFile, Frame
from collectors.dwarf.sizes import KernelSizes
from collectors.symbols.places import SourcePlace
from collectors.symbols.table import Symbols
from hmtrace.cli import app, prepared
from hmtrace.cli.sites import SiteOrder
from hmtrace.report.callsites import ORDERS, api_and_user, module_of
from hmtrace.report.vmlinux import size_checks, size_warning, sizes_document
from replay.machine.layout import layout_of
from replay.machine.model import Machine
from replay.outcome import Site
from replay.whatif.callers import SiteUse

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[2] / "fixtures"
MINIX = FIXTURES / "i386-minix-pae-smp2"
ELF = Path(__file__).parents[1] / "collectors" / "elf"


def run(*words: str | Path, code: int = 0, width: int = 80) -> str:
    result = CliRunner().invoke(
        app, ["sites", *map(str, words)], env={"COLUMNS": str(width)}, catch_exceptions=True
    )
    assert result.exit_code == code, result.output
    return result.stdout


def document(*words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--format", "json"))
    return found


@pytest.fixture(scope="module")
def minix() -> dict[str, Any]:
    return document(MINIX)


def holds(op: str, end: str) -> dict[str, list[int]]:
    """Times from mappings to unmaps by the same task, counted here anew; of addresses for local."""
    table = open_capture(MINIX).events.sort("seq").collect()
    by = "page" if op == "kmap" else "vaddr"
    there: dict[tuple[int, int], list[tuple[str, int]]] = {}
    found: dict[str, list[int]] = {}
    rows = table.filter(pl.col("op").cast(pl.String).is_in([op, end]))
    for row in rows.sort(pl.coalesce("end_seq", "seq")).iter_rows(named=True):
        key = row["pid"], row[by]
        if row["op"] == op:
            there.setdefault(key, []).append((row["site"], row["end_ts"]))
        elif there.get(key):
            site, since = there[key].pop()
            found.setdefault(site, []).append(row["ts"] - since)
    return found


def test_calls_are_those_of_the_event_table(minix: dict[str, Any]) -> None:
    table = open_capture(MINIX).events.collect()
    wanted = ["kmap", "kmap_local", "vmap", "vm_map_ram", "vmalloc"]
    calls = table.filter(pl.col("op").cast(pl.String).is_in(wanted))
    counts = calls.group_by(pl.col("site").cast(pl.String), pl.col("op").cast(pl.String)).len()
    counted = {(site, op): n for site, op, n in counts.iter_rows() if site is not None}
    told = {(s["site"], s["op"]): s["count"] for s in minix["sites"]}
    assert {key: told.get(key) for key in counted} == counted


def test_times_held_are_those_of_the_trace(minix: dict[str, Any]) -> None:
    """The median within a bin of 2.2 %, the longest exactly."""
    (site,) = [s for s in minix["sites"] if s["op"] == "kmap"]
    times = sorted(holds("kmap", "kunmap")[site["site"]])
    assert len(times) == site["count"] == 7905
    assert site["held_ns"]["max"] == times[-1]
    for name, share in (("median", 0.5), ("p99", 0.99)):
        exact = times[math.ceil(share * len(times)) - 1]
        assert site["held_ns"][name] == pytest.approx(exact, rel=0.023)


def test_what_a_conversion_of_the_only_kmap_changes(minix: dict[str, Any]) -> None:
    """As `replay --convert` says, and the pool is not used any more."""
    (site,) = [s for s in minix["sites"] if s["op"] == "kmap"]
    asked = ["replay", str(MINIX), "--convert", "kmap=kmap_local", "--format", "json"]
    replayed = json.loads(CliRunner().invoke(app, asked).stdout)
    (there,) = replayed["conversion"]["sites"]
    assert site["conversion"]["verdict"] == there["verdict"]
    assert site["conversion"]["max_depth"] == there["max_depth"]
    for mine, other in (
        ("other_task", "other_task"), ("out_of_order", "out_of_order"), ("slept", "asleep"),
        ("over_switch", "over_switch"), ("held_at_end", "held_at_end"),
    ):  # fmt: skip
        assert site[mine] == there[other]
    changes = site["conversion"]["changes"]
    assert changes["pool_flushes"] == {
        "before": replayed["baseline"]["pool"]["flushes"], "after": 0,
    }  # fmt: skip
    assert changes["ipis"]["after"] == replayed["tlb"]["ipis"]
    assert changes["single_flushes"]["after"] == replayed["tlb"]["single"]
    assert minix["converted"] == changes
    ranged = replayed["baseline"]["tlb"]["range"], replayed["tlb"]["range"]
    assert tuple(changes["ranged_flushes"].values()) == ranged


def test_a_flush_at_every_kmap_goes_with_it() -> None:
    """MIPS flushes at each of the 2526 kmap(), and its pool was not flushed once."""
    asked = ["sites", str(FIXTURES / "mips32-61-minix")]
    changes = json.loads(CliRunner().invoke(app, [*asked, "--format", "json"]).stdout)["converted"]
    assert changes["pool_flushes"] == {"before": 0, "after": 0}
    assert changes["ranged_flushes"] == {"before": 2529, "after": 2529 - 2526}
    text = " ".join(CliRunner().invoke(app, asked).stdout.split())
    assert "alone: pool flushes 0 → 0 · ranged flushes 2529 → 3 · IPIs 0 → 0" in text


def test_costs_add_up_to_those_of_the_report(minix: dict[str, Any]) -> None:
    """But for passes of kmap_flush_unused() and flushes that no site asked for."""
    report = json.loads(CliRunner().invoke(app, ["report", str(MINIX), "--format", "json"]).stdout)
    causes = report["cost"]["by_cause"]
    nobodys = ("pool flush (kmap_flush_unused)", "other range flush", "flush_tlb_all")
    mine = sum(cause["ns"] for name, cause in causes.items() if name not in nobodys)
    assert sum(s["cost_ns"] for s in minix["sites"]) == pytest.approx(mine, rel=1e-6)
    assert sum(m["cost_ns"] for m in minix["modules"]) == pytest.approx(mine, rel=1e-6)
    assert sum(m["share"] for m in minix["modules"]) == pytest.approx(1)


def test_depth_is_the_deepest_of_the_report(minix: dict[str, Any]) -> None:
    assert max(s["depth"] or 0 for s in minix["sites"]) == 2


def test_slots_that_are_never_given_back() -> None:
    """hog takes all slots and gives them back; its waiters stay on: who unmaps is known."""
    found = document(FIXTURES / "i386-hog-a-waiters-pae-smp2")
    sites = {s["site"]: s for s in found["sites"] if s["op"] == "kmap"}
    assert sum(s["count"] for s in sites.values()) == 520
    assert all(s["conversion"]["verdict"] in ("wrong", "open", "costs") for s in sites.values())
    beyond = [s for s in sites.values() if s["conversion"]["max_depth"] > found["limit"]]
    assert [s["conversion"]["safe"] for s in beyond] == [False] * len(beyond)
    assert beyond


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    page = run(MINIX, width=width)
    assert max(map(len, page.splitlines())) <= width
    assert ("p99" in page) == (width == 120)
    assert "dir_get_page" in page
    assert "As kmap_local_page()" in page


TOLD: dict[tuple[str, str], Any] = {}
"""What a capture told, by what asked it."""


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture is asked once, whatever order its sites are then shown in."""

    def first(name: str, ask: Callable[..., Any], capture: str, *others: Any) -> Any:
        if (name, capture) not in TOLD:
            TOLD[name, capture] = ask(capture, *others)
        return TOLD[name, capture]

    for place, name in ((collectors, "site_finder"), (prepared, "asked")):
        monkeypatch.setattr(place, name, partial(first, name, getattr(place, name)))


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("calls", lambda s: s["count"]),
        ("cost", lambda s: s["cost_ns"]),
        ("held", lambda s: (s["held_ns"] or {"median": -1})["median"]),
        ("p99", lambda s: (s["held_ns"] or {"p99": -1})["p99"]),
        ("longest", lambda s: s["held_ns"]["max"] if s["held_ns"] else -1),
        ("tasks", lambda s: s["tasks"]),
        *((name, lambda s, k=key: -1 if s[k] is None else s[k]) for name, key in (
            ("depth", "depth"), ("switch", "over_switch"), ("order", "out_of_order"),
            ("other-task", "other_task"), ("at-end", "held_at_end"), ("bytes", "bytes"),
        )),
    ],
)  # fmt: skip
def test_orders(order: str, key: Any) -> None:
    values = [key(site) for site in document(MINIX, "--sort", order)["sites"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 29


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(("order", "key"), [("site", "site"), ("api", "api"), ("module", "module")])
def test_orders_by_name(order: str, key: str) -> None:
    values = [site[key] or "kernel" for site in document(MINIX, "--sort", order)["sites"]]
    assert values == sorted(values)


def test_every_order_has_a_title() -> None:
    assert {order.value for order in SiteOrder} == set(ORDERS)


def test_local_mappings_out_of_order(tmp_path: Path) -> None:
    """The scenario's own: each of them upsets some of the 233 unmaps that its truth counts."""
    made = ["synth", "local-order", "-o", str(tmp_path / "made")]
    assert CliRunner().invoke(app, made).exit_code == 0
    (site,) = document(tmp_path / "made")["sites"]
    truth = json.loads((tmp_path / "made" / "truth.json").read_text())["local"]
    assert 0 < site["out_of_order"] <= truth["out_of_order"] == 233
    assert (site["count"], site["other_task"]) == (truth["maps"], 0)
    assert " order " in run(tmp_path / "made")


def test_calls_in_interrupts(board: Path, minix: dict[str, Any]) -> None:
    assert {site["in_interrupt"] for site in minix["sites"]} == {0.0}
    trace = (board / "trace").read_text()
    (board / "trace").write_text(trace.replace("[000] d..1.", "[000] d.h1."))
    assert [site["in_interrupt"] for site in document(board)["sites"]] == [1.0, 1.0]
    assert " irq " in run(board)


# Forms -----------------------------------------------------------------------------------------


def test_csv_has_what_the_document_has(minix: dict[str, Any]) -> None:
    rows = [*csv.DictReader(io.StringIO(run(MINIX, "--format", "csv")))]
    assert [(row["site"], int(row["count"])) for row in rows] == [
        (site["site"], site["count"]) for site in minix["sites"]
    ]
    (kmap,) = [row for row in rows if row["op"] == "kmap"]
    assert (kmap["module"], kmap["verdict"], kmap["depth"]) == ("minix", "costs", "")
    assert int(kmap["held_max_ns"]) == 16368000


def test_totals_by_module_are_whole(minix: dict[str, Any]) -> None:
    for module in minix["modules"]:
        assert module["calls"] == module["kmap"] + module["local"] + module["arena"]
    assert sum(m["calls"] for m in minix["modules"]) == sum(s["count"] for s in minix["sites"])
    (kernel,) = [m for m in minix["modules"] if m["module"] == "kernel"]
    assert kernel["longest_ns"] == max(
        s["held_ns"]["max"] for s in minix["sites"] if s["held_ns"] and not s["module"]
    )


def test_what_is_not_shown_is_not_overlooked() -> None:
    """i386-510rt: a kmap() site out of order is beyond the first two."""
    capture = FIXTURES / "i386-510rt-minix-pae-smp2"
    sites = document(capture)["sites"]
    at = next(n for n, site in enumerate(sites) if site["out_of_order"])
    page = run(capture, "-n", str(at))
    assert f"{sites[at]['out_of_order']} out of order" in page
    assert "not shown" not in run(capture, "-n", str(len(sites)))


# Several captures -------------------------------------------------------------------------------

HOG = FIXTURES / "i386-hog-d-local-pae-smp2"


def test_several_captures_are_joined_by_symbol(minix: dict[str, Any]) -> None:
    both = document(MINIX, HOG)
    other = document(HOG)
    for site in both["sites"]:
        assert site["count"] == sum(site["counts"])
        assert [len(there) > 0 for there in site["sites"]] == [n > 0 for n in site["counts"]]
    for number, alone in enumerate((minix, other)):
        assert sum(s["counts"][number] for s in both["sites"]) == sum(
            s["count"] for s in alone["sites"]
        )
        assert both["captures"][number]["source"] == alone["source"]
    (fault,) = [s for s in both["sites"] if s["symbol"] == "handle_mm_fault"]
    assert fault["counts"] == [
        sum(s["count"] for s in alone["sites"] if s["symbol"] == "handle_mm_fault")
        for alone in (minix, other)
    ]
    assert sum(m["calls"] for m in both["modules"]) == sum(s["count"] for s in both["sites"])


def test_the_page_and_the_csv_of_several() -> None:
    page = run(MINIX, HOG, "-n", "4")
    assert max(map(len, page.splitlines())) <= 80
    assert "joined by symbol" in page
    assert "  A  " in page
    rows = [*csv.DictReader(io.StringIO(run(MINIX, HOG, "--format", "csv")))]
    counts = [int(rows[0][f"count {path}"]) for path in (MINIX, HOG)]
    assert int(rows[0]["count"]) == sum(counts)


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("order", "key"),
    [("calls", "count"), ("longest", "longest_ns"), ("depth", "depth"), ("at-end", "held_at_end")],
)
def test_orders_of_several(order: str, key: str) -> None:
    found = document(MINIX, HOG, "--sort", order)["sites"]
    values = [-1 if site[key] is None else site[key] for site in found]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1


def test_one_that_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    words = ["sites", str(MINIX), str(tmp_path / "none"), "--format", "json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 3
    assert "none: cannot be read" in result.stderr
    assert len(json.loads(result.stdout)["captures"]) == 1


def test_so_many_sites_are_shown() -> None:
    page = run(MINIX, "-n", "3")
    assert "3 of " in page
    assert len(page.split("Call sites")[1].split("As kmap_local_page")[0].splitlines()) <= 8


def test_events_of_the_arena_alone_have_no_sites() -> None:
    page = " ".join(run(FIXTURES / "i386-twin-vmap-vmalloc128").split())
    assert "(alloc_vmap_area) tell does not say who asked" in page


# The source ------------------------------------------------------------------------------------


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A trace of two calls in read_dir() and unmap_range(), with kallsyms and vmlinux."""
    (tmp_path / "vmlinux").write_bytes(lzma.decompress((ELF / "vmlinux-dwarf5.xz").read_bytes()))
    file = DebugFile(tmp_path / "vmlinux")
    own = Symbols.from_elf(file.file)
    code, text = file.file.section(".text").tobytes(), 0xC1000000
    sites = {}
    for caller, called in (("read_dir", "kmap_high"), ("unmap_range", "local_prot")):
        start = at = (own.address_of(caller) or 0) - text
        while True:
            at = code.index(b"\xe8", at) + 5
            if text + at + struct.unpack_from("<i", code, at - 4)[0] == own.address_of(called):
                break
        sites[caller] = f"{caller}+{at - start:#x}/0x90"
    folder = tmp_path / "board"
    folder.mkdir()
    lines = [f"{int(a):08x} T {own.name(n)}\n" for n, a in enumerate(own.addresses)]
    (folder / "kallsyms").write_text("".join(lines))
    head = "perl-77      [000] d..1.    12.34500{}: "
    events = (
        "kmap_high: (kmap_high+0x0/0x1d0) page=0xf66e3a40",
        f"kmap_high_ret: ({sites['read_dir']} <- kmap_high) vaddr=0xff801000",
        "kmap_local_page: (__kmap_local_page_prot+0x0/0x40) page=0xf66e3a68",
        f"kmap_local_page_ret: ({sites['unmap_range']} <- __kmap_local_page_prot) vaddr=0xfffbb000",
        "kunmap_local: (kunmap_local_indexed+0x0/0x40) vaddr=0xfffbb000",
        "kunmap_high: (kunmap_high+0x0/0x90) page=0xf66e3a40",
    )
    trace = "".join(head.format(n) + event + "\n" for n, event in enumerate(events))
    (folder / "trace").write_text("# tracer: nop\n#\n" + trace)
    return folder


def test_the_lines_and_inlines_of_call_sites(board: Path) -> None:
    found = document(board, "--vmlinux", board.parent / "vmlinux")
    sites = {s["symbol"]: s for s in found["sites"]}
    read, unmap = sites["read_dir"], sites["unmap_range"]
    assert (read["api"], read["function"], read["file"], read["line"]) == (
        "kmap", "read_dir", "user.c", 20,
    )  # fmt: skip
    assert (unmap["api"], unmap["function"], unmap["line"]) == ("kmap_atomic", "zap_pte", 4)
    assert [frame["function"] for frame in unmap["inlines"]] == [
        "kmap_atomic_prot", "kmap_atomic", "zap_pte", "zap_pmd", "unmap_range",
    ]  # fmt: skip
    page = run(board, "--vmlinux", board.parent / "vmlinux")
    assert "zap_pte user.c:4, inlined into zap_pmd ← unmap_range" in page


def test_an_address_in_a_module_that_was_loaded_meanwhile(board: Path) -> None:
    trace = (board / "trace").read_text()
    site = trace.split("kmap_high_ret: (")[1].split(" ")[0]
    (board / "trace").write_text(trace.replace(site, "0xf7929c10"))
    (board / "modules.end").write_text("minix 32768 1 - Live 0xf7926000\n")
    found = document(board)
    (kmap,) = [s for s in found["sites"] if s["op"] == "kmap"]
    assert (kmap["module"], kmap["symbol"], kmap["address"]) == ("minix", None, 0xF7929C10)
    assert "0xf7929c10 [minix]" in run(board)
    assert "minix" in [module["module"] for module in found["modules"]]


def test_a_symbol_of_the_capture_s_end(board: Path) -> None:
    """Of a module that was loaded after kallsyms was read: named as if it had been there."""
    trace = (board / "trace").read_text()
    site = trace.split("kmap_high_ret: (")[1].split(" ")[0]
    (board / "trace").write_text(trace.replace(site, "0xf7929c10"))
    (board / "kallsyms.end").write_text("f7929b00 t dir_get_page\t[minix]\n")
    found = document(board)
    (kmap,) = [s for s in found["sites"] if s["op"] == "kmap"]
    assert (kmap["site"], kmap["symbol"], kmap["module"]) == (
        "0xf7929c10", "dir_get_page", "minix",
    )  # fmt: skip
    assert "dir_get_page+0x110 [minix]" in run(board)
    both = document(board, MINIX)
    joined = {s["symbol"]: s["counts"] for s in both["sites"] if s["op"] == "kmap"}
    assert joined["dir_get_page"] == [1, 7905]


def test_a_vmlinux_of_another_kernel(board: Path) -> None:
    (board / "kallsyms").write_text("c1000000 T _text\nc1000010 T kmap\nc1000100 T kunmap\n")
    run(board, "--vmlinux", board.parent / "vmlinux", code=1)
    result = CliRunner().invoke(app, ["sites", str(board), "--vmlinux", str(board / "none")])
    assert result.exit_code != 0


# Sizes -----------------------------------------------------------------------------------------


def test_a_vmlinux_whose_sizes_are_others_is_doubted(board: Path) -> None:
    """It has no pkmap_count, and the capture's machine a pool of 512 slots."""
    asked = ["sites", str(board), "--vmlinux", str(board.parent / "vmlinux"), "--format", "json"]
    result = CliRunner().invoke(app, asked)
    assert json.loads(result.stdout)["vmlinux"]["agrees"] is False
    assert "warning: the vmlinux has 0 slots of the pool" in result.stderr
    assert document(board)["vmlinux"] is None


def test_sizes_beside_the_capture_s() -> None:
    """6.1.0-50-686-pae: 512 slots, struct page of 40 bytes, 16 local slots of 32 CPUs."""
    layout = layout_of(Machine(arch="i386", pae=True, nr_cpus=32, page_struct=40))
    told = size_checks(KernelSizes(512, 40, 16, 512), layout, 40)
    assert [(c.capture, c.agrees) for c in told] == [
        (512, True),
        (40, True),
        (16, True),
        (512, True),
    ]
    assert size_warning(told) == ""
    assert sizes_document(told) is not None
    other = size_checks(KernelSizes(1024, 32, None, None), layout, 40)
    warning = size_warning(other)
    assert (
        "has 1024 slots of the pool (capture: 512), 32 bytes of struct page (capture: 40)"
        in warning
    )
    assert sizes_document(size_checks(KernelSizes(), layout, 40)) is None


FRAMES = (
    Frame("kmap_atomic_prot", "include/linux/highmem-internal.h", 105),
    Frame("kmap_atomic", "include/linux/highmem-internal.h", 110),
    Frame("handle_pte_fault", "mm/memory.c", 5007),
    Frame("handle_mm_fault", "mm/memory.c", 5293),
)


def use(op: str) -> SiteUse:
    return SiteUse(Site("handle_mm_fault+0x2e9", op, 1, 1, 1.0), None, None, None)


def test_wrappers_are_looked_through() -> None:
    assert api_and_user(use("kmap_local"), FRAMES) == ("kmap_atomic", FRAMES[2])
    assert api_and_user(use("kmap_local"), FRAMES[2:]) == ("kmap_local", FRAMES[2])
    assert api_and_user(use("kmap_local"), ()) == ("kmap_local", None)
    alone = (Frame("__vmalloc_node", "mm/vmalloc.c", 3308), Frame("vmalloc", "mm/vmalloc.c", 3341))
    assert api_and_user(use("vmalloc"), alone) == ("__vmalloc_node", alone[1])


def test_addresses_without_a_symbol_say_what_to_record() -> None:
    text = " ".join(run(FIXTURES / "i386-hog-e-vmapfail-pae-smp1").split())
    assert "0xf78e1581 (1359 calls): no symbol; /proc/kallsyms as it is at the end" in text
    assert "vmalloc+0x5f (1 call), vzalloc+0x5f (1 call): maps for others" in text


def test_modules_of_sites() -> None:
    assert module_of(SourcePlace("dir_get_page", "minix", None, FRAMES)) == "minix"
    assert module_of(SourcePlace("handle_mm_fault", "", 0xC1000000, FRAMES)) == "mm"
    assert module_of(SourcePlace("handle_mm_fault", "", 0xC1000000, ())) == "kernel"
    assert module_of(SourcePlace("", "", 0xF7800000, ())) == "(no symbol)"
    of_fs = (Frame("ext4_map", "fs/ext4/inode.c", 1), Frame("f", "fs/read_write.c", 2))
    assert module_of(SourcePlace("f", "", 1, of_fs)) == "fs/ext4"
    assert module_of(SourcePlace("f", "", 1, of_fs[1:])) == "fs"


def test_hostile_names_do_not_reach_a_terminal(board: Path) -> None:
    trace = (board / "trace").read_text()
    (board / "trace").write_text(trace.replace("read_dir+", "re\x1b[31mad_dir+"))
    page = run(board)
    assert "\x1b" not in page
