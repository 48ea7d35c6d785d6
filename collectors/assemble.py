"""Raw events to the event table: pair entries with returns, name the columns, derive frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from collectors import pages, probes
from collectors.events import OP_CODE, OPS, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from collectors.raw import RawEvents

_VALUE_COLUMNS = ("page", "pfn", "vaddr", "pages", "size", "align", "start", "end", "caller")
_FIRST_ERROR = 0xFFFF_F001
"""ERR_PTR(-MAX_ERRNO): addresses from here on are error codes (include/linux/err.h)."""
_DIRECT_TASKS = 1 << 22
"""Linux never gives a pid above PID_MAX_LIMIT (include/linux/threads.h)."""


class Symboliser(Protocol):
    """What turns return addresses into call sites (:class:`collectors.symbols.Symbols`)."""

    def lookup_many(self, addresses: NDArray[np.uint64]) -> list[str]:
        """Symbol with offset of each address, "" where there is none."""
        ...


def assemble(
    raw: RawEvents,
    *,
    symbols: Symboliser | None = None,
    page_map: pages.PageMap | None = None,
) -> pl.DataFrame:
    """Build the event table of a capture.

    Parameters
    ----------
    raw
        Raw events in trace order.
    symbols
        Names the call sites of which the trace has only the address.
    page_map
        How struct page addresses and frame numbers go together, where the machine's facts say
        it; else the trace's own (page, pfn) pairs do.

    Returns
    -------
    polars.DataFrame
        Columns of :data:`collectors.events.SCHEMA`, sorted by `seq`.
    """
    from collectors.pairing import pair

    r = raw.rows
    keep = np.flatnonzero(r["kind"] < probes.KIND_LOST)
    keep = keep[_makes_rows(r["kind"][keep])]
    r = r[keep]
    kind = np.ascontiguousarray(r["kind"])
    functions = len(probes.FUNCTIONS)
    counts = np.bincount(kind, minlength=2 * functions + 1)
    has_return = counts[1 : 2 * functions : 2] > 0
    row_of, return_of, parent_of, inner_of, _ = pair(
        kind,
        dense_tasks(r["pid"], r["cpu"]),
        np.ascontiguousarray(r["ctx"]),
        functions,
        has_return,
        probes.FUNCTION_OF["__kmap_local_page_prot"],
        probes.FUNCTION_OF["__kmap_local_pfn_prot"],
    )
    table = _Table(r, keep, np.flatnonzero(row_of >= 0), return_of, inner_of)
    frame = table.frame(raw.comms, raw.sites, parent_of, row_of)
    frame = _name_sites(frame, symbols)
    return pages.fill_frames(frame, page_map).select(list(SCHEMA)).cast(pl.Schema(SCHEMA))


def dense_tasks(pid: NDArray[np.int32], cpu: NDArray[np.uint16]) -> NDArray[np.int32]:
    """Number the tasks from 0, each CPU's idle task (pid 0) apart.

    Parameters
    ----------
    pid, cpu
        One value per event.

    Returns
    -------
    ndarray of int32
        Task number per event, small enough to index an array with.
    """
    if not pid.size:
        return np.zeros(0, np.int32)
    key = np.where(pid == 0, -1 - cpu.astype(np.int64), pid.astype(np.int64))
    low, high = int(key.min()), int(key.max())
    if high - low < 2 * _DIRECT_TASKS:
        return (key - low).astype(np.int32)
    return np.unique(key, return_inverse=True)[1].astype(np.int32)


def _makes_rows(kind: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Tell which raw events belong to operations of the table."""
    of_function = np.array([f.op is not None for f in probes.FUNCTIONS])
    wanted = np.zeros(probes.KIND_SWITCH + 1, bool)
    wanted[: 2 * len(of_function)] = np.repeat(of_function, 2)
    wanted[probes.KIND_SWITCH] = True
    return wanted[kind]


class _Table:
    """The rows under construction: columns as arrays with validity masks."""

    def __init__(
        self,
        raw: NDArray[np.void],
        position: NDArray[np.int64],
        entry: NDArray[np.int64],
        return_of: NDArray[np.int64],
        inner_of: NDArray[np.int64],
    ) -> None:
        self.raw = raw
        self.position = position
        self.entry = entry  # raw index of each row's first event
        self.kind = raw["kind"][entry]
        self.is_orphan = (self.kind < probes.KIND_SWITCH) & (self.kind & 1 == 1)
        self.result = np.where(self.is_orphan, entry, return_of[entry])
        self.inner = inner_of[entry]
        n = entry.size
        self.values = {name: np.zeros(n, np.uint64) for name in _VALUE_COLUMNS}
        self.valid = {name: np.zeros(n, bool) for name in _VALUE_COLUMNS}
        self.op = np.zeros(n, np.uint8)
        for code, function in enumerate(probes.FUNCTIONS):
            self._fill_function(code, function)
        switch = self.kind == probes.KIND_SWITCH
        self.op[switch] = OP_CODE["switch"]
        self._fill_inner()
        self._fill_callers()

    def _fill_function(self, code: int, function: probes.Function) -> None:
        if function.op is None:
            return
        rows = np.flatnonzero(self.kind >> 1 == code)
        if not rows.size:
            return
        self.op[rows] = OP_CODE[function.op]
        entered = rows[~self.is_orphan[rows]]
        for slot, name in enumerate(function.entry):
            self._set(_column(function.op, name), entered, self.entry[entered], slot)
        returned = rows[self.result[rows] >= 0]
        if function.op == "area_alloc":
            self._fill_area(returned)
            return
        for slot, name in enumerate(function.result):
            self._set(_column(function.op, name), returned, self.result[returned], slot)

    def _set(
        self, column: str | None, rows: NDArray[np.int64], events: NDArray[np.int64], slot: int
    ) -> None:
        """Copy value `slot` of `events` to `column` of `rows`, where the trace had it."""
        if column is None:
            return
        has = self.raw["present"][events] >> slot & 1 == 1
        self.values[column][rows[has]] = self.raw["values"][events[has], slot]
        self.valid[column][rows[has]] = True

    def _fill_area(self, rows: NDArray[np.int64]) -> None:
        """Result of alloc_vmap_area: the vmap_area's start, or 0 for an error pointer.

        A failed call's va_start is stale or 0 (the fetch faults): it is not believed.
        """
        events = self.result[rows]
        present = self.raw["present"][events]
        values = self.raw["values"][events]
        failed = (present & 1 == 1) & (values[:, 0] >= _FIRST_ERROR)
        known = failed | (present & 2 == 2)
        self.values["vaddr"][rows] = np.where(failed, np.uint64(0), values[:, 1])
        self.valid["vaddr"][rows] = known

    def _fill_inner(self) -> None:
        """Take frame (and result, if the outer return is lost) from a folded pfn call."""
        rows = np.flatnonzero(self.inner >= 0)
        self._set("pfn", rows, self.inner[rows], 0)

    def _fill_callers(self) -> None:
        # The function tracer gives the caller at entry, return probes at return.
        for events in (self.entry, self.result):
            rows = np.flatnonzero(events >= 0)
            caller = self.raw["caller"][events[rows]]
            known = rows[caller != 0]
            self.values["caller"][known] = caller[caller != 0]
            self.valid["caller"][known] = True

    def frame(
        self,
        comms: Sequence[str],
        sites: Sequence[str],
        parent_of: NDArray[np.int64],
        row_of: NDArray[np.int64],
    ) -> pl.DataFrame:
        """Turn the arrays into a frame with the schema's columns (types not yet cast)."""
        raw, entry, result = self.raw, self.entry, self.result
        has_end = result >= 0
        end = np.where(has_end, result, 0)
        parent = np.where(self.is_orphan, -1, parent_of[entry])
        # A folded pfn call has no row: what happens inside it belongs to the page call.
        folded = (parent >= 0) & (row_of[parent] < 0)
        parent = np.where(folded, parent_of[parent], parent)
        switch = self.kind == probes.KIND_SWITCH
        values = raw["values"][entry]
        site_code = np.where(has_end, raw["site"][end], 0)
        site_code = np.where(site_code == 0, raw["site"][entry], site_code)
        columns: dict[str, pl.Series | NDArray[np.generic]] = {
            "seq": self.position[entry].astype(np.uint64),
            "ts": raw["ts"][entry],
            "cpu": raw["cpu"][entry],
            "pid": raw["pid"][entry],
            "comm": _decode(comms, raw["comm"][entry]),
            "ctx": raw["ctx"][entry],
            "op": pl.Series(OPS, dtype=pl.Enum(OPS)).gather(self.op),
            "site": _decode(sites, site_code),
            "entry_traced": ~self.is_orphan,
            "end_ts": _masked(raw["ts"][end], has_end),
            "end_seq": _masked(self.position[end].astype(np.uint64), has_end),
            "end_cpu": _masked(raw["cpu"][end], has_end),
            "parent": _masked(self.position[np.maximum(parent, 0)].astype(np.uint64), parent >= 0),
            "next_pid": _masked(values[:, 2].astype(np.int64).astype(np.int32), switch),
            "blocked": _masked(values[:, 1] != 0, switch),
        }
        for name in _VALUE_COLUMNS:
            columns[name] = _masked(self.values[name], self.valid[name])
        return pl.DataFrame(columns)


def _column(op: str, name: str) -> str | None:
    """Column of the event table for a value of a raw event."""
    if op == "area_free":
        return {"va_start": "vaddr", "va_end": "end"}.get(name)
    if name in {"count", "purged"}:
        return "pages"
    return name if name in _VALUE_COLUMNS else None


def _masked(values: NDArray[np.generic], valid: NDArray[np.bool_]) -> pl.Series:
    """Series of `values`, null where not `valid`."""
    frame = pl.DataFrame({"v": values, "ok": valid})
    return frame.select(pl.when("ok").then("v")).to_series()


def _decode(names: Sequence[str], codes: NDArray[np.uint32]) -> pl.Series:
    """Categorical series of names by index; index 0 ("unknown") is null."""
    table = pl.Series([None, *names[1:]], dtype=pl.String).cast(pl.Categorical())
    return table.gather(codes)


def _name_sites(frame: pl.DataFrame, symbols: Symboliser | None) -> pl.DataFrame:
    """Fill `site` from `caller` where the trace had only the address."""
    unnamed = frame.filter(pl.col("site").is_null() & pl.col("caller").is_not_null())
    if symbols is None or not unnamed.height:
        return frame
    callers = unnamed.get_column("caller").unique()
    names = symbols.lookup_many(callers.to_numpy())
    table = pl.DataFrame(
        {"caller": callers, "named": [name or None for name in names]},
        schema_overrides={"named": pl.String},
    ).with_columns(pl.col("named").cast(pl.Categorical()))
    return (
        frame.join(table, on="caller", how="left", maintain_order="left")
        .with_columns(pl.coalesce("site", "named").alias("site"))
        .drop("named")
    )
